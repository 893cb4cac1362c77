"""Deals the handwritten digits to sites: unequally for training, evenly for testing."""

from __future__ import annotations

import argparse
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DIGITS_CSV = "sklearn/datasets/data/digits.csv.gz"
HELDOUT_SHARE = 0.2
SMALLEST_SITE = 16
DRAWS = 300

Rows = NDArray[np.int64]


class Samples(NamedTuple):
    images: NDArray[np.uint8]  # (n, 8, 8), grey levels 0..16
    labels: NDArray[np.int64]  # (n,), 0..9


class Split(NamedTuple):
    """Row numbers into the whole data set; every row is in `heldout` or at exactly one site."""

    heldout: Rows
    train: dict[str, Rows]
    test: dict[str, Rows]  # the held-out rows, shared out evenly

    @property
    def pooled(self) -> Rows:
        return np.sort(np.concatenate(list(self.train.values())))


def load_digits() -> Samples:
    """The 1,797 images that ship inside scikit-learn, read without importing it (that takes a second)."""
    table = np.loadtxt(
        str(distribution("scikit-learn").locate_file(DIGITS_CSV)), delimiter=",", dtype=np.uint8
    )
    return Samples(images=table[:, :-1].reshape(-1, 8, 8), labels=table[:, -1].astype(np.int64))


def split(labels: NDArray[np.int64], sites: tuple[str, ...], *, seed: int, alpha: float) -> Split:
    """The same rows for the same arguments, whatever the machine."""
    rng = np.random.default_rng(seed)
    classes = [rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)]
    cuts = [round(HELDOUT_SHARE * len(rows)) for rows in classes]
    heldout = rng.permutation(np.concatenate([rows[:cut] for rows, cut in zip(classes, cuts, strict=True)]))
    rest = [rows[cut:] for rows, cut in zip(classes, cuts, strict=True)]
    return Split(
        heldout=np.sort(heldout),
        train=dict(zip(sites, _deal_unequally(rest, len(sites), alpha, rng), strict=True)),
        test={
            site: np.sort(rows) for site, rows in zip(sites, np.array_split(heldout, len(sites)), strict=True)
        },
    )


def write(folder: Path, samples: Samples, parts: Split) -> None:
    _write(folder / "pooled.npz", samples, parts.pooled)
    _write(folder / "heldout.npz", samples, parts.heldout)
    for site in parts.train:
        _write(folder / site / "train.npz", samples, parts.train[site])
        _write(folder / site / "test.npz", samples, parts.test[site])


def _deal_unequally(classes: list[Rows], sites: int, alpha: float, rng: np.random.Generator) -> list[Rows]:
    """Each class by its own draw from Dirichlet(alpha); drawn again until every site has a handful."""
    for _ in range(DRAWS):
        dealt = [_deal(rows, rng.dirichlet(np.full(sites, alpha))) for rows in classes]
        shares = [np.sort(np.concatenate(share)) for share in zip(*dealt, strict=True)]
        if min(map(len, shares)) >= SMALLEST_SITE:
            return shares
    raise ValueError(
        f"{DRAWS} draws with alpha={alpha} left some of {sites} sites with fewer than {SMALLEST_SITE} "
        "images: take fewer sites or a larger alpha"
    )


def _deal(rows: Rows, shares: NDArray[np.float64]) -> list[Rows]:
    ends = np.rint(np.cumsum(shares)[:-1] * len(rows)).astype(np.int64)
    return np.split(rows, ends)


def _write(path: Path, samples: Samples, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, images=samples.images[rows], labels=samples.labels[rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--sites", default="ana,ben,cleo,dan", help="names, separated by commas")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--alpha", type=float, default=0.5, help="small: sites differ much; large: hardly")
    options = parser.parse_args()
    samples = load_digits()
    parts = split(samples.labels, tuple(options.sites.split(",")), seed=options.seed, alpha=options.alpha)
    write(options.out, samples, parts)
    for site, rows in parts.train.items():
        per_class = np.bincount(samples.labels[rows], minlength=10)
        print(f"{site}: {len(rows)} to train on {per_class.tolist()}, {len(parts.test[site])} to test on")


if __name__ == "__main__":
    main()
