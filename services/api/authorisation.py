"""Who may do what with which object: one table, one function."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from uuid import UUID

from schemas.ids import UserId
from services.api.errors import Forbidden, NotFound


class Kind(StrEnum):
    USER = "user"
    CLIENT = "client"
    MODEL = "model"
    TRAINING = "training"


class Action(StrEnum):
    READ = "read"
    READ_PRIVATE = "read what is private of"
    REPORT = "report metrics of"
    USE = "train"
    CHANGE = "change"
    DELETE = "delete"


class Relation(StrEnum):
    STRANGER = "stranger"  # any user
    PARTICIPANT = "participant"  # takes part in the training, or in the one of the model
    OWNER = "owner"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    id: UserId
    username: str
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Thing:
    """An object as the one who asks stands to it."""

    kind: Kind
    id: UUID
    owner_id: UserId
    participates: bool = False


_EVERYBODY = frozenset(Relation)
_INVOLVED = frozenset({Relation.PARTICIPANT, Relation.OWNER, Relation.ADMIN})
_RESPONSIBLE = frozenset({Relation.OWNER, Relation.ADMIN})
_OWNER = frozenset({Relation.OWNER})

RIGHTS: Mapping[tuple[Kind, Action], frozenset[Relation]] = MappingProxyType(
    {
        (Kind.USER, Action.READ): _EVERYBODY,
        (Kind.USER, Action.READ_PRIVATE): _RESPONSIBLE,
        (Kind.USER, Action.DELETE): _RESPONSIBLE,
        (Kind.CLIENT, Action.READ): _EVERYBODY,
        (Kind.CLIENT, Action.CHANGE): _RESPONSIBLE,
        (Kind.CLIENT, Action.DELETE): _RESPONSIBLE,
        (Kind.MODEL, Action.READ): _INVOLVED,
        (Kind.MODEL, Action.REPORT): _INVOLVED - {Relation.ADMIN},
        (Kind.MODEL, Action.USE): _OWNER,
        (Kind.MODEL, Action.DELETE): _OWNER,
        (Kind.TRAINING, Action.READ): _INVOLVED,
        (Kind.TRAINING, Action.CHANGE): _OWNER,
        (Kind.TRAINING, Action.DELETE): _OWNER,
    }
)


def permits(caller: Caller, action: Action, thing: Thing) -> bool:
    """What the table does not name is permitted to nobody."""
    return not RIGHTS.get((thing.kind, action), frozenset()).isdisjoint(_relations(caller, thing))


def require(caller: Caller, action: Action, thing: Thing) -> None:
    """Refuse; to who may not even read it, the object does not exist."""
    if permits(caller, action, thing):
        return
    if not permits(caller, Action.READ, thing):
        raise NotFound(thing.kind, thing.id)
    raise Forbidden(f"you may not {action} this {thing.kind}")


def _relations(caller: Caller, thing: Thing) -> frozenset[Relation]:
    claims = {
        Relation.STRANGER: True,
        Relation.PARTICIPANT: thing.participates,
        Relation.OWNER: caller.id == thing.owner_id,
        Relation.ADMIN: caller.admin,
    }
    return frozenset(relation for relation, holds in claims.items() if holds)
