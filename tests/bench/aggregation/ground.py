"""What is measured on: a store with the updates of several sizes in it, and fresh worker processes."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.objects.files import FileObjects
from infra.objects.minio_objects import MinioObjects
from infra.objects.store import ObjectStore
from schemas.reports import ModelPublished
from schemas.strategies import Strategy
from tests.bench.aggregation.orders import Hash, Place
from tests.bench.aggregation.round import Clock, Round, Start
from tests.bench.aggregation.team import PARALLEL, Order, Team, team
from tests.bench.aggregation.updates import Size, Updates, put_all, take_in
from tests.bench.store import s3_server

WARM_UP = Size(clients=8, mb=1)  # so that no measured round is a process's first


@dataclass(frozen=True)
class Measured:
    """One round by fresh processes."""

    mb_s: float
    peak_mb: float  # of the largest process
    cpu_s: float  # of all of them
    steps: Mapping[str, float] = field(default_factory=dict)  # seconds


@dataclass(frozen=True)
class Ground:
    objects: ObjectStore
    place: Place
    updates: Mapping[Size, Updates]
    states: dict[tuple[Size, str], Start] = field(default_factory=dict)

    def aggregate(
        self, size: Size, strategy: Strategy, *, workers: int = 1, threads: int = PARALLEL
    ) -> Measured:
        """A round that goes on with the state of one before, if the strategy has any."""
        start = self._start_of(size, strategy)
        with team(self.place, workers, threads) as working:
            warm = self.updates[WARM_UP]
            Round(self.objects, working, warm).aggregate(strategy, Start(warm.model))
            os.sync()  # else the disk is busy with what was written before
            working.begin()
            round_ = Round(self.objects, working, self.updates[size])
            published = round_.aggregate(strategy, start)
            measured = _ended(working, size.total_mb, round_.clock)
        self._forget(published)
        return measured

    def read(self, size: Size, *, workers: int = 1, threads: int = PARALLEL) -> Measured:
        """Only what an aggregation has to read of the updates."""
        with team(self.place, workers, threads) as working:
            working.do_all(self.updates[WARM_UP].reads())
            working.begin()
            return _timed(working, size.total_mb, self.updates[size].reads())

    def inspect(self, size: Size) -> Measured:
        """One update after the other."""
        with team(self.place, threads=1) as working:
            working.do_all(self.updates[WARM_UP].inspections())
            working.begin()
            return _timed(working, size.total_mb, self.updates[size].inspections())

    def hash(self, size: Size) -> Measured:
        with team(self.place, threads=1) as working:
            return _timed(working, size.total_mb, [Hash(size=size.total_mb * 1_000_000)])

    def _start_of(self, size: Size, strategy: Strategy) -> Start:
        first = Start(self.updates[size].model)
        if not strategy.slots:
            return first
        if (size, strategy.name) not in self.states:
            with team(self.place) as working:
                published = Round(self.objects, working, self.updates[size]).aggregate(strategy, first)
            self.states[size, strategy.name] = Start(published.model, published.state)
        return self.states[size, strategy.name]

    def _forget(self, published: ModelPublished) -> None:
        """What the round has written: the same keys are written again and again, so only the space counts."""
        prefix = f"rounds/{published.training_id}/{published.round}/"
        for key in (*self.objects.keys(prefix), published.model.key, *(each.key for each in published.state)):
            self.objects.delete(key)


@contextmanager
def in_s3(root: Path, size: Size) -> Iterator[Ground]:
    with s3_server(root) as settings:
        place = Place(s3=settings, secret=settings.secret_key.get_secret_value())
        yield _ground(MinioObjects(settings), place, size)


@contextmanager
def in_files(root: Path, size: Size) -> Iterator[Ground]:
    yield _ground(FileObjects(root), Place(folder=str(root)), size)


def _ground(objects: ObjectStore, place: Place, size: Size) -> Ground:
    with team(place) as working:
        updates = {each: take_in(working, each, *put_all(objects, each)) for each in (WARM_UP, size)}
    os.sync()
    return Ground(objects, place, updates)


def _timed(working: Team, mb: float, orders: Iterable[Order]) -> Measured:
    clock = Clock()
    with clock.timing("all"):
        working.do_all(orders)
    return _ended(working, mb, clock)


def _ended(working: Team, mb: float, clock: Clock) -> Measured:
    ended = [process.end() for process in working.processes]
    return Measured(
        mb_s=mb / clock.total,
        peak_mb=max(each.peak_mb for each in ended),
        cpu_s=sum(each.cpu_s for each in ended),
        steps=clock.seconds,
    )
