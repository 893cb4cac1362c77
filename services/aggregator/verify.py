"""Recomputes every version of a training's model: python -m services.aggregator.verify

Reads the training's events from standard input, a line each as they were published, and from the bucket what
they refer to; writes a line of JSON per version.  Nothing is written into the bucket.
"""

import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.objects.errors import ObjectStoreUnavailable
from infra.objects.files import FileObjects
from infra.objects.minio_objects import MinioObjects
from infra.objects.overlay import OverlayObjects
from infra.objects.settings import ObjectStoreSettings
from infra.objects.store import ObjectStore
from infra.plugins import Rules, load_rules
from infra.process import settings_from_environment
from schemas import events as e
from schemas.envelope import Malformed, decode
from schemas.events import Event
from schemas.message import Round, Sha256
from schemas.reduction import ReducePlan
from schemas.refusal import Refusal
from schemas.weights import ModelRef, StateRef
from services.aggregator.known import StaleObject
from services.aggregator.offline.history import Version, inspection, reduce_plan, versions
from services.aggregator.offline.whole_round import Combined, combine, key_of
from services.aggregator.work import Worker

_WRONG = (Refusal, StaleObject)


class Settings(BaseSettings):
    """Those of a worker's settings that this needs: `WARREN_AGGREGATOR_S3_URL`, …"""

    model_config = SettingsConfigDict(frozen=True, env_prefix="WARREN_AGGREGATOR_", extra="ignore")

    s3_url: str
    s3_access_key: str
    s3_secret_key: SecretStr
    s3_bucket: str = "warren"
    strategies: str = ""


class Verdict(BaseModel):
    """`round` is the one that made the version; none made the first."""

    model_config = ConfigDict(frozen=True)

    version: int
    round: Round | None
    sha256: Sha256
    faults: tuple[str, ...]


def main() -> None:
    """Exit 1 if a version has a fault, 2 if that cannot be found out."""
    settings = settings_from_environment(Settings)
    try:
        events = [decode(line, Event).data for line in sys.stdin.buffer.read().splitlines()]
        rules = load_rules(settings.strategies)
        is_faulty = _tell(verdicts(events, _bucket(settings), rules))
    except (Malformed, Refusal, ObjectStoreUnavailable) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    sys.exit(1 if is_faulty else 0)


def verdicts(events: Iterable[Event], bucket: ObjectStore, rules: Rules) -> Iterator[Verdict]:
    """One per version, the first one included."""
    known = tuple(events)
    for event in known:
        if isinstance(event, e.TrainingStarted):
            faults = tuple(_stored(bucket, event.model))
            yield Verdict(version=event.model.version, round=None, sha256=event.model.sha256, faults=faults)
    for version in versions(known):
        made = version.made
        faults = tuple(_faults(version, bucket, rules))
        yield Verdict(version=made.model.version, round=made.round, sha256=made.model.sha256, faults=faults)


def _faults(version: Version, bucket: ObjectStore, rules: Rules) -> Iterator[str]:
    parts: tuple[ModelRef | StateRef, ...] = (version.made.model, *version.made.state)
    for part in parts:
        yield from _stored(bucket, part)
    with TemporaryDirectory(prefix="warren-verify-") as folder:
        objects = OverlayObjects(FileObjects(Path(folder)), bucket)
        worker = Worker(objects, rules)
        try:
            yield from _inputs(version, worker)
            plan = reduce_plan(version)
            yield from _same_plan(plan, bucket)
            yield from _differences(version, combine(worker, objects, plan))
        except _WRONG as error:
            yield str(error)


def _stored(bucket: ObjectStore, part: ModelRef | StateRef) -> Iterator[str]:
    """What is wrong with a file in the bucket."""
    digest = hashlib.sha256()
    try:
        with bucket.read(part.key) as chunks:
            for chunk in chunks:
                digest.update(chunk)
    except Refusal as refusal:
        yield str(refusal)
        return
    if digest.hexdigest() != part.sha256:
        yield f"{part.key} in the store has the sha256 {digest.hexdigest()}, not {part.sha256}"


def _inputs(version: Version, worker: Worker) -> Iterator[str]:
    """Updates that would not be accepted today as they were."""
    for accepted in version.accepted:
        command = inspection(version, accepted)
        found = worker.inspect_update(command)
        if found.type == "UpdateRejected":
            yield f"{command.key} of client {command.client_id}: {found.reason}"
        elif found != accepted.report:
            yield f"{command.key} of client {command.client_id} is not what was accepted"


def _same_plan(plan: ReducePlan, bucket: ObjectStore) -> Iterator[str]:
    key, body = key_of(plan), plan.model_dump_json().encode()
    with bucket.read(key) as chunks:
        if b"".join(chunks) != body:
            yield f"{key} is not the plan that follows from the events"


def _differences(version: Version, found: Combined) -> Iterator[str]:
    made = version.made
    if version.chosen is not None and version.chosen != found.clients:
        yield f"the strategy chooses {_named(found.clients)}, and had chosen {_named(version.chosen)}"
    if found.model.sha256 != made.model.sha256:
        yield f"the model comes out with the sha256 {found.model.sha256}, not {made.model.sha256}"
    then = {part.slot: part.sha256 for part in made.state}
    now = {part.slot: part.sha256 for part in found.state}
    for slot in sorted(then.keys() | now.keys()):
        if then.get(slot) != now.get(slot):
            yield f"the state {slot} comes out with the sha256 {now.get(slot)}, not {then.get(slot)}"


def _named(clients: Iterable[object]) -> str:
    return ", ".join(map(str, clients))


def _tell(found: Iterable[Verdict]) -> bool:
    is_faulty = False
    for verdict in found:
        sys.stdout.write(verdict.model_dump_json() + "\n")
        sys.stdout.flush()
        is_faulty = is_faulty or bool(verdict.faults)
    return is_faulty


def _bucket(settings: Settings) -> MinioObjects:
    return MinioObjects(
        ObjectStoreSettings(
            url=settings.s3_url,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key,
            bucket=settings.s3_bucket,
        )
    )


if __name__ == "__main__":
    main()
