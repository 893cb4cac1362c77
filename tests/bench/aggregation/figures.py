"""The figures, each of runs that were interleaved: what slows the machine down slows all of them down."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import median

from schemas.strategies import FedAdam, FedAvg, FedMedian, FedTrimmedAvg, MultiKrum, Strategy
from tests.bench.aggregation.ground import Ground, Measured
from tests.bench.aggregation.updates import Size

STRATEGIES: tuple[Strategy, ...] = (
    FedAvg(),
    FedAdam(),
    FedMedian(),
    FedTrimmedAvg(beta=0.2),
    MultiKrum(f=2, k=4),
)

Runs = Mapping[str, Sequence[Measured]]


def of_strategies(ground: Ground, size: Size, times: int) -> Iterator[str]:
    """Memory, speed, and speed as a part of what reading alone reaches, with one worker."""
    runs: dict[str, Callable[[], Measured]] = {"read": partial(ground.read, size)}
    for strategy in STRATEGIES:
        runs[strategy.name] = partial(ground.aggregate, size, strategy)
    found = _interleaved(times, runs)
    yield line(f"read_mb_s {size} workers=1", _speeds(found["read"]))
    for strategy in STRATEGIES:
        name, measured = f"strategy={strategy.name} {size}", found[strategy.name]
        yield line(f"aggregator_peak_rss_mb {name}", [each.peak_mb for each in measured])
        yield line(f"aggregate_mb_s {name} workers=1", _speeds(measured)) + _steps(measured)
        yield line(f"fraction_of_read_limit {name}", _ratios(measured, found["read"]), ".2f")


def of_two_workers(ground: Ground, size: Size, times: int) -> Iterator[str]:
    """Two against one that does so many commands at a time, and the same for readers that do nothing else."""
    for parallel in (1, 2):
        runs = {
            f"{what}-{workers}": partial(run, workers=workers, threads=parallel)
            for what, run in (
                ("read", partial(ground.read, size)),
                ("aggregate", partial(ground.aggregate, size, FedAvg())),
            )
            for workers in (1, 2)
        }
        found = _interleaved(times, runs)
        for what, name in (("aggregate", "scaling_2_workers"), ("read", "reader_scaling_2_workers")):
            one, two = found[f"{what}-1"], found[f"{what}-2"]
            speeds = f" mb_s={median(_speeds(one)):.0f}..{median(_speeds(two)):.0f}"
            yield line(f"{name} parallel={parallel} {size}", _ratios(two, one), ".2f") + speeds


def of_inspection(ground: Ground, size: Size, times: int) -> Iterator[str]:
    """Beside sha256 over memory, in the same process, one thread each."""
    found = _interleaved(
        times, {"inspect": partial(ground.inspect, size), "sha256": partial(ground.hash, size)}
    )
    yield line(f"inspect_mb_s {size}", _speeds(found["inspect"]))
    yield line(f"sha256_mb_s {size}", _speeds(found["sha256"]))
    yield line(f"inspect_fraction_of_sha256 {size}", _ratios(found["inspect"], found["sha256"]), ".2f")


def of_files(ground: Ground, size: Size, times: int) -> Iterator[str]:
    """From files to a file, one process with a thread for each of two cores."""
    combine = partial(ground.aggregate, size, FedAvg(), threads=2)
    found = _interleaved(times, {"read": partial(ground.read, size, threads=2), "combine": combine})
    yield line(f"file_read_gb_s {size}", [each / 1_000 for each in _speeds(found["read"])], ".2f")
    speeds = [each / 1_000 for each in _speeds(found["combine"])]
    yield line(f"combine_gb_s {size}", speeds, ".2f") + _steps(found["combine"])


def line(name: str, values: Sequence[float], form: str = ".0f") -> str:
    spread = f"median={median(values):{form}} min={min(values):{form}} max={max(values):{form}}"
    return f"{name} times={len(values)} {spread}"


def _interleaved(times: int, runs: Mapping[str, Callable[[], Measured]]) -> Runs:
    found: dict[str, list[Measured]] = {name: [] for name in runs}
    for _ in range(times):
        for name, run in runs.items():
            found[name].append(run())
    return found


def _speeds(measured: Sequence[Measured]) -> list[float]:
    return [each.mb_s for each in measured]


def _ratios(measured: Sequence[Measured], limits: Sequence[Measured]) -> list[float]:
    return [each.mb_s / limit.mb_s for each, limit in zip(measured, limits, strict=True)]


def _steps(measured: Sequence[Measured]) -> str:
    """Where the time of a round goes."""
    told = (f" {step}_s={median([each.steps[step] for each in measured]):.2f}" for step in measured[0].steps)
    return "".join(told) + f" cpu_s={median([each.cpu_s for each in measured]):.2f}"
