"""What a client's order carries when it is published, and not a moment before."""

from datetime import datetime, timedelta

import pytest
from pydantic import SecretStr

from infra.objects.settings import ObjectStoreSettings
from infra.objects.tickets import TicketOffice
from schemas import keys
from schemas.commands import Access, CancelTask, ClientCommand, EvaluateModel, TrainingEnded, TrainRound
from schemas.envelope import decode
from schemas.message import Message
from schemas.strategies import SCAFFOLD, FedDC
from schemas.words import Slot
from services.scheduler.access import signed
from services.scheduler.posting import postings
from services.scheduler.saga import Step
from tests import builders as b
from tests.builders import ANA, BEN, NOON, TRAINING

OFFICE = TicketOffice(
    ObjectStoreSettings(url="http://store:9000", access_key="warren", secret_key=SecretStr("s" * 20))
)


def bodies(step: Step, kind: type[Message]) -> list[bytes]:
    """Of the step's orders of that kind."""
    found = [
        post.body for post in postings(TRAINING, step, NOON).posts.values() if post.exchange == "clients"
    ]
    return [body for body in found if isinstance(decode(body, ClientCommand).data, kind)]


def a_train_round() -> bytes:
    return bodies(b.steps(None, b.start(ANA))[0], TrainRound)[0]


def an_evaluation() -> bytes:
    training = b.a_training(ANA, evaluate_every=1)
    return bodies(b.steps(training, *b.a_round(ANA))[-1], EvaluateModel)[0]


def granted(body: bytes, now: datetime = NOON) -> Access:
    access = decode(signed(body, OFFICE, now), ClientCommand).data.access
    assert isinstance(access, Access)
    return access


def test_a_task_to_train_comes_with_the_model_to_fetch_and_the_place_to_leave_the_update() -> None:
    command = decode(a_train_round(), ClientCommand).data
    access = granted(a_train_round())
    assert access.download_url.startswith(f"http://store:9000/warren/{command.model.key}?")
    key = keys.update(TRAINING, 0, command.task_id)
    assert (access.upload_url or "").startswith(f"http://store:9000/warren/{key}?")
    assert access.upload_headers == {"content-length": str(command.model.size)}


def test_a_task_to_evaluate_comes_without_a_place_to_write_to() -> None:
    access = granted(an_evaluation())
    assert (access.upload_url, access.upload_headers) == (None, {})


@pytest.mark.parametrize("body", [a_train_round(), an_evaluation()])
def test_nothing_else_of_the_order_changes(body: bytes) -> None:
    before, after = decode(body, ClientCommand), decode(signed(body, OFFICE, NOON), ClientCommand)
    assert before.data.access is None
    plain = after.data.model_copy(update={"access": None})
    assert after.model_copy(update={"data": plain}) == before


def test_an_order_that_needs_no_url_is_sent_as_it_is() -> None:
    training = b.a_training(ANA)
    told = bodies(b.steps(training, b.abort())[0], TrainingEnded)
    dropped = bodies(b.steps(training, b.round_timed_out())[0], CancelTask)
    for body in (*told, *dropped):
        assert signed(body, OFFICE, NOON) == body
    assert told
    assert dropped


@pytest.mark.parametrize(
    ("now", "life"),
    [
        (NOON, timedelta(hours=1, seconds=60)),
        (NOON + timedelta(seconds=59), timedelta(hours=1, seconds=1)),
        (NOON + timedelta(days=2), timedelta(hours=1)),
        (NOON - timedelta(days=30), timedelta(days=7)),
    ],
)
def test_it_lives_an_hour_longer_than_the_round_and_seven_days_at_most(
    now: datetime, life: timedelta
) -> None:
    assert granted(a_train_round(), now).expires_at == now + life


def test_each_time_it_is_signed_anew() -> None:
    first, later = granted(a_train_round()), granted(a_train_round(), NOON + timedelta(seconds=1))
    assert first.download_url != later.download_url
    assert first == granted(a_train_round())


def test_an_update_that_is_asked_to_hold_more_or_less_may_have_any_size() -> None:
    for plan in (b.a_plan(partial=True), b.a_plan(strategy=SCAFFOLD())):
        body = bodies(b.steps(None, b.start(ANA, plan=plan))[0], TrainRound)[0]
        assert granted(body).upload_headers == {}


def test_the_state_that_clients_need_comes_with_a_place_to_fetch_it_from() -> None:
    training = b.a_training(ANA, rounds=2, strategy=SCAFFOLD())
    assert granted(a_train_round()).state_url is None
    body = bodies(b.steps(training, *b.a_round(ANA, slots=(Slot.CONTROL,)))[-1], TrainRound)[0]
    state = b.a_state(Slot.CONTROL)[0]
    assert (granted(body).state_url or "").startswith(f"http://store:9000/warren/{state.key}?")
    assert granted(body).state_url != granted(body).download_url


def test_who_goes_on_with_anothers_update_may_fetch_that_and_leave_its_own() -> None:
    training = b.a_training(ANA, BEN, rounds=2, strategy=FedDC(period=2))
    last = b.steps(training, *b.taken_in(ANA, BEN))[-1]
    access = granted(bodies(last, TrainRound)[0])
    theirs = keys.update(TRAINING, 0, b.a_task(BEN))
    assert access.download_url.startswith(f"http://store:9000/warren/{theirs}?")
    own = keys.update(TRAINING, 1, b.a_task(ANA, round=1))
    assert (access.upload_url or "").startswith(f"http://store:9000/warren/{own}?")
