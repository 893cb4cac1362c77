"""Worker processes of one measurement, each with as many commands in hand as a real one has."""

import itertools
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Lock, Thread

from services.aggregator.settings import Settings
from tests.bench.aggregation.orders import ANSWER, Answered, Asked, Begin, Do, Ended, Hash, Place, Read

PARALLEL: int = Settings.model_fields["parallel"].default

Order = Do | Read | Hash | Begin


class Process:
    """Safe to use from several threads.  The first order waits until it has started."""

    def __init__(self, place: Place, threads: int) -> None:
        argv = (
            sys.executable,
            "-m",
            "tests.bench.aggregation.process",
            place.model_dump_json(),
            str(threads),
        )
        self._child = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._child.stdin
        assert self._child.stdout
        self._to, self._from, self._lock = self._child.stdin, self._child.stdout, Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Answered]] = {}
        self._ended: Future[Ended] = Future()
        self._listener = Thread(target=self._listen, daemon=True)
        self._listener.start()

    def do(self, order: Order) -> Answered:
        number = next(self._numbers)
        answer = self._waiting[number] = Future()
        line = Asked(number=number, order=order).model_dump_json() + "\n"
        with self._lock:
            self._to.write(line)
        return answer.result()

    def end(self) -> Ended:
        """All it has in hand is done first."""
        self._to.close()
        return self._ended.result()

    def kill(self) -> None:
        with self._child:  # closes the pipes and waits
            self._child.kill()
            self._listener.join()

    def _listen(self) -> None:
        for line in self._from:
            match ANSWER.validate_json(line):
                case Answered() as answer:
                    self._waiting.pop(answer.number).set_result(answer)
                case Ended() as ended:
                    self._ended.set_result(ended)
        early = RuntimeError("a worker process ended too early; see its complaint above")
        for unanswered in self._waiting.values():
            unanswered.set_exception(early)
        if not self._ended.done():
            self._ended.set_exception(early)


class Team:
    """Gives each order to whichever process has a thread free, as a queue does."""

    def __init__(self, processes: Sequence[Process], threads: int) -> None:
        self.processes = tuple(processes)
        self._free: SimpleQueue[Process] = SimpleQueue()
        for process in self.processes * threads:
            self._free.put(process)
        self._pool = ThreadPoolExecutor(len(self.processes) * threads)

    def do(self, order: Order) -> Answered:
        process = self._free.get()
        try:
            return process.do(order)
        finally:
            self._free.put(process)

    def begin(self) -> None:
        """All have started, and their processor time counts from here on."""
        for process in self.processes:
            process.do(Begin())

    def do_all(self, orders: Iterable[Order]) -> list[Answered]:
        return list(self._pool.map(self.do, orders))


@contextmanager
def team(place: Place, workers: int = 1, threads: int = PARALLEL) -> Iterator[Team]:
    """Fresh processes that have started."""
    processes = [Process(place, threads) for _ in range(workers)]
    try:
        found = Team(processes, threads)
        found.begin()
        yield found
    finally:
        for process in processes:
            process.kill()
