"""A picture of how the training went."""

from collections.abc import Sequence
from pathlib import Path

from agents.operator.demo.example import Score
from agents.operator.progress import Round


def draw(rounds: Sequence[Round], baseline: Score, folder: Path) -> Path:
    """Accuracy and loss per round on held-out images, beside the model that was trained in one place."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and nothing but the demo needs it

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 -- as said above

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    evaluated = [done for done in rounds if done.metrics]
    numbers = [done.number + 1 for done in evaluated]
    for axis, (metric, level) in zip(axes, _levels(baseline), strict=True):
        axis.plot(
            numbers, [done.metrics[metric] for done in evaluated], marker="o", label="four sites, federated"
        )
        axis.axhline(level, color="grey", linestyle="--", label="all images in one place")
        axis.set(xlabel="round", ylabel=metric, title=f"{metric} on held-out images", xticks=numbers)
        axis.legend()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "accuracy.png"
    figure.savefig(file, dpi=120)
    plt.close(figure)
    return file


def _levels(baseline: Score) -> tuple[tuple[str, float], ...]:
    return ("accuracy", baseline.accuracy), ("loss", baseline.loss)
