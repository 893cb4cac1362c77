"""The demo: a whole Warren, four sites, one model, and a look at what came out."""

import fcntl
import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from pydantic import JsonValue

from agents.operator import place
from agents.operator.console import out, say
from agents.operator.demo import course, report, sites, verdict
from agents.operator.demo.example import Score, Script
from agents.operator.demo.verdict import Outcome
from agents.operator.deployment import Deployment
from agents.operator.errors import CommandFailed
from agents.operator.fleet import Fleet
from agents.operator.progress import Progress
from agents.operator.rest import Api
from agents.operator.settings import clean_environment
from agents.operator.tables import rounds_table
from agents.operator.watching import screen, watch
from schemas.words import TrainingState

AGGREGATORS = 2
REPORT = Path("demo-report")
_PATIENCE_S = 120.0  # with an API whose servers are being started again


@dataclass(frozen=True)
class Asked:
    root: Path
    seed: int
    rounds: int
    strategy: Mapping[str, JsonValue]  # as the API is asked for it


def demo(asked: Asked) -> None:
    """Raises `CommandFailed` where the result is not what it must be.  Leaves no process behind."""
    began = time.monotonic()
    with _alone_in(asked.root):
        outcome = _run(asked, began)
    if faults := verdict.faults(outcome):
        raise CommandFailed("demo: " + "; ".join(faults))
    say(verdict.final_line(outcome, time.monotonic() - began))


def _run(asked: Asked, began: float) -> Outcome:
    data, initial = asked.root / "data", asked.root / "initial.safetensors"
    with ExitStack() as held:
        deal = Script("data.py", "--out", data, "--sites", ",".join(course.SITES), "--seed", asked.seed)
        dealing = held.enter_context(deal)
        making = held.enter_context(Script("initial.py", "--out", initial, "--seed", asked.seed))
        deployment, fleet = _services(asked, held)
        say(dealing.output().rstrip())
        making.output()
        pooled = held.enter_context(_baseline(asked, data))
        api = held.enter_context(place.api_of(deployment, _PATIENCE_S, fleet.mend))
        sites.enrol(api, asked.root)
        fleet.launch(sites.agents(asked.root, data, clean_environment()))
        say(f"all is up after {time.monotonic() - began:.1f} s; logs are in {deployment.stack.logs}")
        training = _begin(api, initial, asked)
        progress = _require_completed(watch(api, training, screen(course.NAMES), fleet.mend))
        outcome = _look(api, training, progress, pooled, data)
        return replace(outcome, strategy=str(asked.strategy["name"]))


def _services(asked: Asked, held: ExitStack) -> tuple[Deployment, Fleet]:
    say("starting RabbitMQ, PostgreSQL, an S3 server and Warren's services")
    deployment = Deployment.start(asked.root, detached=False)
    held.callback(deployment.stop)
    fleet = Fleet(deployment.root, deployment.mend_servers, say)
    fleet.launch(deployment.programs(AGGREGATORS))
    return deployment, fleet


def _baseline(asked: Asked, data: Path) -> Script:
    """At work beside the training, with what the sites leave of the machine."""
    epochs = asked.rounds * course.LOCAL_EPOCHS
    return Script("baseline.py", "--data", data, "--epochs", epochs, "--seed", asked.seed, polite=True)


def _begin(api: Api, initial: Path, asked: Asked) -> UUID:
    for training in api.trainings():  # left over from a demo that was killed
        if not training.is_over:
            api.abort(training.id, "its demo is gone")
    model = api.add_model("digits", "a small network for handwritten digits", initial)
    training_id = api.add_training(
        course.training(model, rounds=asked.rounds, seed=asked.seed, by=asked.strategy)
    )
    api.start(training_id)
    return training_id


def _require_completed(progress: Progress) -> Progress:
    if progress.state is not TrainingState.COMPLETED:
        raise CommandFailed(f"demo: the training {progress.state}: {progress.reason}")
    return progress


def _look(api: Api, training: UUID, progress: Progress, pooled: Script, data: Path) -> Outcome:
    """Table, picture, and the final model as somebody downloads it."""
    out.print(rounds_table(progress.rounds))
    file = data.parent / "final.safetensors"
    api.download(api.training(training).model, file)
    with Script("evaluate.py", "--model", file, "--data", data) as testing:
        baseline = pooled.score()
        say(f"baseline, all images in one place: accuracy {baseline.accuracy:.4f} loss {baseline.loss:.4f}")
        say(f"picture: {report.draw(progress.rounds, baseline, REPORT)}")
        score = testing.score()
    return _outcome(progress, score, baseline, hashlib.sha256(file.read_bytes()).hexdigest())


def _outcome(progress: Progress, score: Score, baseline: Score, sha256: str) -> Outcome:
    return Outcome(
        rounds=len(progress.rounds),
        told_accuracy=progress.rounds[-1].metrics.get("accuracy", 0.0),
        accuracy=score.accuracy,
        baseline=baseline.accuracy,
        announced_sha256=progress.sha256 or "",
        sha256=sha256,
    )


@contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    root.mkdir(parents=True, exist_ok=True)
    with (root / "demo.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailed(f"another demo is running in {root}") from None
        yield
