"""What is shown of a training: lines for logs, a picture for terminals."""

import pytest
from rich.console import Console

from agents.operator.progress import Progress
from agents.operator.watching import line, lines, picture
from schemas import events as e
from schemas.envelope import encode
from schemas.events import Event
from schemas.ids import ClientId
from tests.builders import ANA, BEN, TRAINING, a_model, a_task, failed, refused
from tests.unit.operator.happenings import (
    a_close,
    a_completion,
    a_round,
    a_start,
    an_aggregation,
    an_evaluation,
    an_upload,
    enclosed,
    seen,
)

NAMES = {ANA: "ana", BEN: "ben"}
BEFORE = (a_start(ANA, BEN), a_round(ANA, BEN))


def removed() -> e.ParticipantRemoved:
    return e.ParticipantRemoved(training_id=TRAINING, client_id=BEN, reason="not with our data")


def chained(*clients: ClientId) -> e.RoundChained:
    accepted = tuple(a_task(client) for client in clients)
    return e.RoundChained(training_id=TRAINING, round=0, attempt=1, accepted=accepted)


def abandoned() -> e.RoundAbandoned:
    return e.RoundAbandoned(training_id=TRAINING, round=0, attempt=1, reason="too few", missing=(BEN,))


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (an_upload(ANA, 0.5), "round 1/2: upload 1/2 from ana"),
        (an_aggregation(), f"round 1/2: model {a_model(1).sha256[:12]}"),
        (chained(ANA, BEN), "round 1/2: 2 updates are passed on"),
        (an_evaluation(loss=0.25, accuracy=0.5), "round 1/2: accuracy 0.5000 loss 0.2500"),
        (failed(BEN), "round 1/2: ben failed: exit code 1"),
        (removed(), "round 1/2: ben left: not with our data"),
        (abandoned(), "round 1/2: time is over, missing: ben"),
        (a_completion(), f"training completed: model {a_model(2).sha256}"),
        (e.TrainingFailed(training_id=TRAINING, reason="nobody"), "training failed: nobody"),
        (a_close(ANA), None),
        (refused(BEN), None),
    ],
)
def test_what_matters_gets_a_line(event: Event, told: str | None) -> None:
    assert line(seen(*BEFORE, event), event, NAMES) == told


def test_the_rounds_start_is_told_with_its_attempt() -> None:
    again = a_round(ANA, BEN, attempt=2)
    assert line(seen(*BEFORE, again), again, NAMES) == "round 1/2: 2 asked to train, attempt 2"


def test_the_picture_says_whom_a_round_is_waiting_for() -> None:
    shown = drawn(seen(*BEFORE, an_upload(ANA, 0.5)))
    assert "0/2" in shown
    assert "1/2  waiting for ben" in shown


def test_the_picture_keeps_the_rounds_that_are_done() -> None:
    shown = drawn(seen(*BEFORE, an_aggregation(), an_evaluation(accuracy=0.75)))
    assert a_model(1).sha256[:12] in shown
    assert "0.7500" in shown


def test_a_script_gets_each_event_as_it_was_published(capfd: pytest.CaptureFixture[str]) -> None:
    upload = an_upload(ANA, 0.5).model_copy(update={"metrics": {"loss": 0.5, "a long name" * 30: 1.0}})
    published = enclosed(upload, 3)
    with lines() as show:
        show(seen(*BEFORE, upload), published)
    assert capfd.readouterr().out.encode() == encode(published) + b"\n"


def drawn(progress: Progress) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(picture(progress, NAMES))
    return captured.get()
