from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.client import training
from agents.client.training import Action, Result, Situation, Step, Task
from schemas.reports import ClientRejected, MetricsReported, ModelUploaded, TaskFailed
from schemas.words import Extra, UpdateKind
from tests.unit.client.builders import DEADLINE, NOON, a_ref, a_state, a_ticket, to_evaluate, to_train

RESULT = Result(num_examples=10, metrics={"loss": 0.5})
SHA = "a" * 64


def a_situation(*, ticket: bool = True, files: bool = True, late: bool = False) -> Situation:
    return Situation(has_ticket=ticket, has_files=files, now=DEADLINE if late else NOON)


def trained() -> Task:
    return training.finished(training.downloaded(training.received(to_train())), RESULT, SHA)


def test_a_task_is_downloaded_run_uploaded_and_reported_in_that_order() -> None:
    task, seen = training.received(to_train()), []
    moves = {
        Action.DOWNLOAD: training.downloaded,
        Action.RUN: lambda task: training.finished(task, RESULT, SHA),
        Action.UPLOAD: training.uploaded,
        Action.REPORT: training.reported,
    }
    while (action := training.next_action(task, a_situation())) != Action.NOTHING:
        seen.append(action)
        task = moves[action](task)
    assert seen == [Action.DOWNLOAD, Action.RUN, Action.UPLOAD, Action.REPORT]


def test_an_evaluation_has_nothing_to_upload() -> None:
    task = training.finished(training.downloaded(training.received(to_evaluate())), RESULT, None)
    assert training.next_action(task, a_situation(ticket=False)) == Action.REPORT
    assert isinstance(training.report_of(task), MetricsReported)


def test_the_journal_row_holds_no_capability() -> None:
    order = to_train(access=a_ticket("https://secret.example", state_url="https://secret.example/state"))
    assert "secret" not in training.received(order).model_dump_json()


def test_without_a_ticket_a_task_waits_unless_the_model_is_there_already() -> None:
    task = training.received(to_train())
    assert training.next_action(task, a_situation(ticket=False, files=False)) == Action.AWAIT_TICKET
    assert training.next_action(task, a_situation(ticket=False)) == Action.DOWNLOAD


def test_a_task_needs_the_model_and_the_state_of_its_order() -> None:
    assert training.received(to_train(state=a_state())).files == (a_ref(), a_state())
    assert training.received(to_train()).files == (a_ref(),)
    assert training.received(to_evaluate()).files == (a_ref(),)


def test_a_trained_task_never_runs_again() -> None:
    for ticket in (True, False):
        for files in (True, False):
            action = training.next_action(trained(), a_situation(ticket=ticket, files=files))
            assert action in (Action.UPLOAD, Action.AWAIT_TICKET)


def test_a_model_that_vanished_is_fetched_again() -> None:
    task = training.downloaded(training.received(to_train()))
    assert training.next_action(task, a_situation(files=False)) == Action.DOWNLOAD


@pytest.mark.parametrize("step", [Step.RECEIVED, Step.DOWNLOADED, Step.TRAINED])
def test_past_the_deadline_an_unfinished_task_is_given_up_with_a_reason(step: Step) -> None:
    task = Task(order=to_train(), step=step, result=RESULT, sha256=SHA)
    assert training.next_action(task, a_situation(late=True)) == Action.GIVE_UP
    said = training.report_of(training.gave_up(task))
    assert isinstance(said, TaskFailed)
    assert "deadline" in said.reason


def test_an_uploaded_task_is_reported_even_past_the_deadline() -> None:
    assert training.next_action(training.uploaded(trained()), a_situation(late=True)) == Action.REPORT


def test_what_was_reported_is_reported_again_under_the_same_id_when_it_is_ordered_again() -> None:
    task = training.reported(training.uploaded(trained()))
    again = training.ordered_again(task)
    assert training.next_action(again, a_situation(ticket=False)) == Action.REPORT
    assert training.report_id(again) == training.report_id(task)
    assert training.report_of(again) == training.report_of(task)


def test_a_cancelled_task_stays_cancelled_when_it_is_ordered_again() -> None:
    task = training.cancelled(training.received(to_train()))
    assert training.next_action(training.ordered_again(task), a_situation()) == Action.NOTHING


def test_user_code_that_asks_for_later_rests_longer_each_time() -> None:
    task, rests = training.downloaded(training.received(to_train())), []
    for _ in range(9):
        task = training.postponed(task, NOON)
        assert training.next_action(task, a_situation()) == Action.REST
        assert task.rests_until
        rests.append((task.rests_until - NOON).total_seconds())
    assert rests == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_rest_ends_at_the_deadline_at_the_latest() -> None:
    task = training.postponed(training.downloaded(training.received(to_train())), DEADLINE)
    assert training.wakes_at(task, Action.REST) == DEADLINE


def test_a_rest_of_the_past_does_not_wake_a_task_that_waits_for_a_ticket() -> None:
    task = training.postponed(trained(), NOON - timedelta(days=1))
    assert training.wakes_at(task, Action.AWAIT_TICKET) == DEADLINE


def test_a_refused_order_is_answered_with_client_rejected() -> None:
    task = training.received(to_train(), "no thanks")
    said = training.report_of(task)
    assert isinstance(said, ClientRejected)
    assert said.reason == "no thanks"
    assert training.next_action(task, a_situation(ticket=False)) == Action.REPORT


def test_an_upload_is_reported_with_its_digest_and_figures() -> None:
    said = training.report_of(training.uploaded(trained()))
    assert isinstance(said, ModelUploaded)
    assert (said.sha256, said.num_examples, said.metrics) == (SHA, 10, {"loss": 0.5})


@given(reason=st.text(min_size=1, max_size=10_000))
def test_any_reason_fits_into_the_report(reason: str) -> None:
    task = training.failed(training.received(to_train()), reason)
    assert isinstance(training.report_of(task), TaskFailed)


MOVES = st.sampled_from(["downloaded", "finished", "uploaded", "reported", "failed", "cancelled", "again"])


@given(st.lists(MOVES))
def test_every_row_survives_the_disk_unchanged(moves: list[str]) -> None:
    access = a_ticket(state_url="memory:/state")
    order = to_train(
        access=access, state=a_state(), extra=Extra.CONTROL, update=UpdateKind.DELTA, partial=True
    )
    task = training.received(order)
    for move in moves:
        match move:
            case "finished":
                task = training.finished(task, RESULT, SHA)
            case "failed":
                task = training.failed(task, "it broke")
            case "again":
                task = training.ordered_again(task)
            case _:
                task = getattr(training, move)(task)
    assert Task.model_validate_json(task.model_dump_json()) == task
