"""Daisy chains: clients go on with one another's updates, and every so many rounds all are averaged."""

from typing import Any
from uuid import UUID

import pytest

from schemas import commands as c
from schemas import events as e
from schemas import keys
from schemas.ids import ClientId, TaskId
from schemas.strategies import FedDC
from services.scheduler.chaining import continued
from services.scheduler.decide import Input
from services.scheduler.orders import Send
from services.scheduler.saga import Step
from services.scheduler.state import Link, Training
from tests.builders import (
    ANA,
    BEN,
    CLEO,
    DAN,
    NOON,
    TRAINING,
    a_model,
    a_plan,
    a_task,
    a_training,
    accepted,
    add,
    aggregation,
    digest_of,
    events_of,
    failed,
    lost,
    measured,
    play,
    published,
    refused,
    remove,
    round_timed_out,
    steps,
    taken_in,
    types,
    uploaded,
)

ALL = (ANA, BEN, CLEO)


def a_chain(*clients: ClientId, **plan: Any) -> Training:
    return a_training(*clients, **{"rounds": 4, "strategy": FedDC(period=2), **plan})


def links(count: int) -> tuple[Link, ...]:
    clients = (ClientId(UUID(int=number)) for number in range(1, count + 1))
    return tuple(Link(client, a_task(client), 0, digest_of(client)) for client in clients)


def begun(*taken: Step) -> list[e.RoundStarted]:
    return [event for event in events_of(*taken) if isinstance(event, e.RoundStarted)]


def orders_to_train(*taken: Step) -> dict[ClientId, c.TrainRound]:
    found = (order.command for each in taken for order in each.orders if isinstance(order, Send))
    return {command.client_id: command for command in found if isinstance(command, c.TrainRound)}


def owners(tasks: tuple[TaskId, ...]) -> list[ClientId]:
    owner = {a_task(client): client for client in (*ALL, DAN)}
    return [owner[task] for task in tasks]


def test_a_round_between_aggregations_ends_without_a_model_and_without_an_evaluation() -> None:
    taken = steps(a_chain(*ALL, evaluate_every=1), *taken_in(*ALL, metrics={"loss": 0.5}))
    chained, started = events_of(taken[-1])[-2:]
    assert chained == e.RoundChained(
        training_id=TRAINING,
        round=0,
        attempt=1,
        accepted=tuple(map(a_task, ALL)),
        metrics={"loss": 0.5},
    )
    assert isinstance(started, e.RoundStarted)
    assert (started.round, started.clients) == (1, ALL)
    assert taken[-1].training is not None
    assert (taken[-1].training.model, taken[-1].training.epoch) == (a_model(), 0)


def test_a_whole_training_makes_a_version_every_period() -> None:
    two_rounds = (taken_in(*ALL), taken_in(*ALL, round=1), aggregation(round=1, epoch=1, version=1))
    two_more = (
        taken_in(*ALL, round=2),
        taken_in(*ALL, round=3),
        aggregation(round=3, epoch=2, version=2),
    )
    taken = steps(a_chain(*ALL), *(each for part in (*two_rounds, *two_more) for each in part))
    ends = [x for x in types(events_of(*taken)) if x in {"RoundChained", "RoundAggregated"}]
    assert ends == ["RoundChained", "RoundAggregated"] * 2
    assert [bool(each.continues) for each in begun(*taken)] == [True, False, True]
    assert events_of(taken[-1])[-1] == e.TrainingCompleted(training_id=TRAINING, model=a_model(2))


def test_each_client_goes_on_with_the_file_of_the_update_that_the_event_names() -> None:
    taken = steps(a_chain(*ALL), *taken_in(*ALL))
    (started,) = begun(*taken)
    assert sorted(owners(started.continues)) == [*ALL]
    for client, task, owner in zip(ALL, started.continues, owners(started.continues), strict=True):
        model = orders_to_train(*taken)[client].model
        key, sha256 = keys.update(TRAINING, 0, task), digest_of("update", owner)
        assert model == a_model().model_copy(update={"key": key, "sha256": sha256})


def test_a_task_that_is_issued_again_goes_on_with_the_same_update() -> None:
    taken = steps(a_chain(*ALL), *taken_in(*ALL), failed(BEN, round=1))
    first, again = orders_to_train(*taken[:-1])[BEN], orders_to_train(taken[-1])[BEN]
    assert again.task_id != first.task_id
    assert again.model == first.model


def test_updates_of_a_chain_are_inspected_and_averaged_as_those_of_the_current_version() -> None:
    taken = steps(a_chain(*ALL), *taken_in(*ALL), *taken_in(*ALL, round=1))
    sent = [order.command for each in taken for order in each.orders if isinstance(order, Send)]
    assert {command.model for command in sent if isinstance(command, c.InspectUpdate)} == {a_model()}


def test_who_failed_or_left_does_not_go_on_but_its_update_may() -> None:
    taken = steps(a_chain(*ALL, DAN), *taken_in(ANA, BEN, CLEO), refused(CLEO), round_timed_out())
    (started,) = begun(*taken)
    assert started.clients == (ANA, BEN)
    assert set(owners(started.continues)) < {ANA, BEN, CLEO}
    lots = {continued(a_plan(seed=seed), links(3), (ANA, BEN), 1, 1) for seed in range(20)}
    assert {client for lot in lots for client in owners(lot)} == {ANA, BEN, CLEO}


def test_all_who_were_drawn_at_the_beginning_of_a_chain_go_on() -> None:
    training = a_chain(*ALL, DAN, fraction=0.5)
    assert training.round is not None
    first = training.round.clients
    (second,) = begun(*steps(training, *taken_in(*first)))
    assert len(first) == 2
    assert second.clients == first


def test_who_joins_in_a_chain_takes_part_after_its_end() -> None:
    messages: tuple[Input, ...] = (
        *(add(DAN), *taken_in(*ALL), *taken_in(*ALL, round=1)),
        *aggregation(round=1, epoch=1, version=1),
    )
    assert [each.clients for each in begun(*steps(a_chain(*ALL), *messages))] == [ALL, (*ALL, DAN)]


def test_another_attempt_of_a_round_in_a_chain_draws_again_of_the_same_updates() -> None:
    training = a_chain(*ALL, min_clients=2, round_attempts=9, rounds=2)
    attempts = (round_timed_out(round=1, attempt=attempt) for attempt in range(1, 9))
    started = begun(*steps(training, *taken_in(*ALL), *attempts))
    assert [each.attempt for each in started] == [*range(1, 10)]
    assert {tuple(sorted(owners(each.continues))) for each in started} == {ALL}
    assert len({each.continues for each in started}) == 2, "three clients have two circles"


def test_after_another_attempt_the_files_are_those_of_the_round_that_was_chained() -> None:
    training = a_chain(*ALL, min_clients=2)
    taken = steps(training, *taken_in(*ALL), *taken_in(ANA, round=1), round_timed_out(round=1))
    (*_, started), sent = begun(*taken), orders_to_train(taken[-1])
    assert (started.round, started.attempt) == (1, 2)
    found = [sent[client].model.key for client in started.clients]
    assert found == [keys.update(TRAINING, 0, task) for task in started.continues]


def test_below_quorum_a_round_of_a_chain_is_tried_again() -> None:
    training = a_chain(*ALL, min_clients=2)
    taken = steps(training, *taken_in(ANA), round_timed_out())
    assert types(events_of(taken[-1])) == ["IntakeClosed", "RoundAbandoned", "RoundStarted"]
    assert begun(taken[-1])[0].continues == ()


def test_when_too_few_are_left_of_a_chain_the_training_fails() -> None:
    training = play(a_chain(*ALL, DAN, min_clients=2), *taken_in(ANA, BEN), round_timed_out())[-1]
    (taken,) = steps(training, remove(BEN, ANA))
    ended = events_of(taken)[-1]
    assert isinstance(ended, e.TrainingFailed)
    assert ended.reason == "round 1 needs 2 participants and 0 are left"


def test_a_chained_round_takes_no_late_reports() -> None:
    training = play(a_chain(*ALL), *taken_in(*ALL))[-1]
    late = (lost(ANA), published(), accepted(ANA), uploaded(ANA), measured(ANA), round_timed_out())
    assert events_of(*steps(training, *late)) == ()


@pytest.mark.parametrize("count", [2, 3, 10])
def test_everybody_takes_the_update_of_another(count: int) -> None:
    chain = links(count)
    clients = tuple(link.client_id for link in chain)
    for seed in range(30):
        found = continued(a_plan(seed=seed), chain, clients, 1, 1)
        assert sorted(found) == sorted(link.task_id for link in chain)
        assert all(task != link.task_id for task, link in zip(found, chain, strict=True))


def test_who_is_alone_goes_on_with_its_own_update() -> None:
    (link,) = links(1)
    assert continued(a_plan(), (link,), (link.client_id,), 1, 1) == (link.task_id,)


def test_the_lot_follows_from_seed_round_and_attempt_and_from_nothing_else() -> None:
    chain = links(6)
    clients = tuple(link.client_id for link in chain)

    def lot(seed: int = 0, number: int = 1, attempt: int = 1, turn: int = 1) -> tuple[TaskId, ...]:
        return continued(a_plan(seed=seed), chain[::turn], clients, number, attempt)

    assert lot() == lot(turn=-1)
    assert len({lot(), lot(seed=1), lot(number=2), lot(attempt=2)}) == 4


def test_everybody_may_take_anybodys() -> None:
    chain = links(4)
    clients = tuple(link.client_id for link in chain)
    found = {
        (client, task)
        for seed in range(100)
        for client, task in zip(clients, continued(a_plan(seed=seed), chain, clients, 1, 1), strict=True)
    }
    assert len(found) == 4 * 3


@pytest.mark.parametrize("period", [1, 2, 3])
def test_versions_are_counted_by_the_rounds_that_aggregate(period: int) -> None:
    strategy = FedDC(period=period)
    for number in range(12):
        before = sum(map(strategy.aggregates, range(number)))
        assert strategy.versions_before(number) == before


def test_a_training_with_one_round_a_period_never_chains() -> None:
    taken = steps(a_chain(ANA, rounds=1, strategy=FedDC(period=1)), *taken_in(ANA), now=NOON)
    assert "RoundClosed" in types(events_of(*taken))
