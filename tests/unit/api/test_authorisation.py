"""Every object, every relation to it, every action."""

from itertools import product
from uuid import UUID

import pytest

from schemas.ids import UserId
from services.api.authorisation import RIGHTS, Action, Caller, Kind, Relation, Thing, permits, require
from services.api.errors import Forbidden, NotFound

ME, OTHER = UserId(UUID(int=1)), UserId(UUID(int=2))
R, P, C, D, T, U = (
    Action.READ,
    Action.READ_PRIVATE,
    Action.CHANGE,
    Action.DELETE,
    Action.REPORT,
    Action.USE,
)

# What each relation may do; the table the code has is written the other way round.
MAY: dict[tuple[Kind, Relation], set[Action]] = {
    (Kind.USER, Relation.STRANGER): {R},
    (Kind.USER, Relation.PARTICIPANT): {R},
    (Kind.USER, Relation.OWNER): {R, P, D},
    (Kind.USER, Relation.ADMIN): {R, P, D},
    (Kind.CLIENT, Relation.STRANGER): {R},
    (Kind.CLIENT, Relation.PARTICIPANT): {R},
    (Kind.CLIENT, Relation.OWNER): {R, C, D},
    (Kind.CLIENT, Relation.ADMIN): {R, C, D},
    (Kind.MODEL, Relation.STRANGER): set(),
    (Kind.MODEL, Relation.PARTICIPANT): {R, T},
    (Kind.MODEL, Relation.OWNER): {R, T, U, D},
    (Kind.MODEL, Relation.ADMIN): {R},
    (Kind.TRAINING, Relation.STRANGER): set(),
    (Kind.TRAINING, Relation.PARTICIPANT): {R},
    (Kind.TRAINING, Relation.OWNER): {R, C, D},
    (Kind.TRAINING, Relation.ADMIN): {R},
}


@pytest.mark.parametrize(("kind", "relation", "action"), list(product(Kind, Relation, Action)))
def test_a_relation_permits_what_the_table_says_and_nothing_else(
    kind: Kind, relation: Relation, action: Action
) -> None:
    caller, thing = _standing(kind, relation)
    permitted = action in MAY[kind, relation]
    assert permits(caller, action, thing) is permitted
    if not permitted:
        expected = Forbidden if R in MAY[kind, relation] else NotFound
        with pytest.raises(expected):
            require(caller, action, thing)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_of_object_says_who_may_read_it(kind: Kind) -> None:
    assert (kind, Action.READ) in RIGHTS


def _standing(kind: Kind, relation: Relation) -> tuple[Caller, Thing]:
    owner = ME if relation is Relation.OWNER else OTHER
    thing = Thing(kind, UUID(int=3), owner, participates=relation is Relation.PARTICIPANT)
    return Caller(ME, "me", admin=relation is Relation.ADMIN), thing
