"""Whether the demo shows what it is to show."""

from dataclasses import dataclass

from agents.operator.demo.course import SITES

LEAST_ACCURACY = 0.93
MOST_BEHIND = 0.04
OTHERS_LEAST = 0.9  # of strategies that go slower than the mean, and are not held against the baseline
KRUMS_LEAST = 0.7  # it keeps one site's update of four, and no site has enough of every digit
_MEANS = ("FedAvg", "FedProx")
_SAME = 1e-6


@dataclass(frozen=True, slots=True)
class Outcome:
    rounds: int
    told_accuracy: float  # the sites' mean, as the last evaluation ended
    accuracy: float  # of the downloaded model on all that was held out
    baseline: float
    announced_sha256: str
    sha256: str  # of the downloaded model
    strategy: str = "FedAvg"


def final_line(outcome: Outcome, seconds: float) -> str:
    return (
        f"demo: completed rounds={outcome.rounds} clients={len(SITES)} "
        f"accuracy={outcome.accuracy:.4f} baseline={outcome.baseline:.4f} "
        f"seconds={seconds:.1f} model={outcome.sha256}"
    )


def faults(outcome: Outcome) -> tuple[str, ...]:
    """A sentence for each thing that is not as it must be."""
    least = _least_accuracy(outcome.strategy)
    claims = {
        f"the final model has sha256 {outcome.sha256}, announced was {outcome.announced_sha256}": (
            outcome.sha256 == outcome.announced_sha256
        ),
        f"the sites measured accuracy {outcome.told_accuracy:.6f}, the whole is {outcome.accuracy:.6f}": (
            abs(outcome.told_accuracy - outcome.accuracy) < _SAME
        ),
        f"accuracy {outcome.accuracy:.4f} is below {least}; more rounds may help": (
            outcome.accuracy >= least
        ),
        f"accuracy {outcome.accuracy:.4f} is more than {MOST_BEHIND} behind the baseline "
        f"{outcome.baseline:.4f}": (
            outcome.strategy not in _MEANS or outcome.baseline - outcome.accuracy <= MOST_BEHIND
        ),
    }
    return tuple(sentence for sentence, holds in claims.items() if not holds)


def _least_accuracy(strategy: str) -> float:
    if strategy in _MEANS:
        return LEAST_ACCURACY
    return KRUMS_LEAST if strategy == "Krum" else OTHERS_LEAST
