"""Bootstrap intervals from streamed predictions.

Resampling n clusters with replacement is, for many clusters, the same as giving each an independent Poisson(1) weight
(Hanley and MacGibbon 2006). A cluster's weights follow from its number alone, so nothing is kept per cluster, and two
models that are scored on the same clusters meet the same resamples: their difference has a paired interval.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...stopping import check
from ..scores import packed
from .confusion import overall

LEVEL = 0.95
CELLS = 25_000_000
PART = 1024  # clusters whose weights are in memory at a time
_POISSON = np.cumsum([math.exp(-1) / math.factorial(k) for k in range(12)])


def affordable(replicates: int, classes: int) -> int:
    """Fewer replicates for hundreds of classes, so that their confusion matrices stay within 200 MB."""
    return min(replicates, max(20, CELLS // classes**2))


def poisson_weights(clusters: np.ndarray, replicates: int, seed: int) -> np.ndarray:
    """Weights ``[clusters, replicates]``, float32, of these cluster numbers (int64)."""
    with np.errstate(over="ignore"):
        x = clusters.astype(np.uint64)[:, None] * np.uint64(0x9E3779B97F4A7C15)
        x = x + np.arange(replicates, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    uniform = (x >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return np.searchsorted(_POISSON, uniform, side="right").astype(np.float32)


@dataclass(frozen=True)
class Groups:
    """Of which group each row is, such as the donor of a cell: ``rows`` (ascending) are row numbers of a dataset, and
    ``numbers`` those of their groups, both int64."""

    rows: np.ndarray
    numbers: np.ndarray

    @classmethod
    def by_row(cls, rows: np.ndarray, numbers: np.ndarray) -> Groups:
        order = np.argsort(rows, kind="stable")
        return cls(rows[order].astype(np.int64), numbers[order].astype(np.int64))

    @property
    def count(self) -> int:
        return len(np.unique(self.numbers))

    def of(self, rows: np.ndarray) -> np.ndarray:
        """Group numbers of these rows, which are all known."""
        return self.numbers[np.searchsorted(self.rows, rows)]


def interval(values: np.ndarray) -> list[float]:
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return [float(low), float(high)]


class Replicates:
    """Confusion matrices of all resamples, ``[replicates, classes, classes]``."""

    def __init__(self, classes: int, replicates: int, seed: int):
        self.seed = seed
        self.matrices = np.zeros((affordable(replicates, classes), classes, classes))

    def update(
        self, clusters: np.ndarray, labels: np.ndarray, predictions: np.ndarray, counts: np.ndarray | None = None
    ) -> None:
        """Count units (or ``counts`` alike ones each) of ``clusters``."""
        from scipy.sparse import csr_matrix

        replicates, classes, _ = self.matrices.shape
        numbers, inverse = np.unique(clusters, return_inverse=True)
        cells = labels * classes + predictions
        values = np.ones(len(cells)) if counts is None else counts.astype(np.float64)
        seen, column = np.unique(cells, return_inverse=True)
        table = csr_matrix((values, (inverse, column)), (len(numbers), len(seen)))
        sums = np.zeros((len(seen), replicates))
        for start in range(0, len(numbers), PART):
            check()
            weights = poisson_weights(numbers[start : start + PART], replicates, self.seed)
            sums += table[start : start + PART].T @ weights
        self.matrices.reshape(replicates, classes**2)[:, seen] += sums.T

    def merge(self, other: Replicates) -> None:
        """Add resamples of other units that were drawn with the same seed."""
        self.matrices += other.matrices

    def __getstate__(self) -> tuple[int, tuple[int, ...], np.ndarray, np.ndarray]:
        """Only the cells that occur: with hundreds of classes nearly all are empty."""
        shape = self.matrices.shape
        flat = self.matrices.reshape(shape[0], shape[1] * shape[2])
        cells = np.flatnonzero(flat.any(axis=0))
        return self.seed, shape, cells, packed(flat[:, cells])

    def __setstate__(self, state: tuple[int, tuple[int, int, int], np.ndarray, np.ndarray]) -> None:
        self.seed, shape, cells, values = state
        self.matrices = np.zeros(shape)
        self.matrices.reshape(shape[0], shape[1] * shape[2])[:, cells] = values

    def intervals(self) -> dict[str, list[float]]:
        if not len(self.matrices):
            return {}
        return {name: interval(values) for name, values in overall(self.matrices[self._drawn()]).items()}

    def _drawn(self) -> slice | np.ndarray:
        """The resamples that hold anything: where clusters are few, some hold none of them, and no figure."""
        some = np.flatnonzero(self.matrices.any(axis=(1, 2)))
        return some if 0 < len(some) < len(self.matrices) else slice(None)

    def difference(self, other: Replicates, metric: str) -> list[float]:
        """Interval of this model's metric minus the other's, resample by resample."""
        drawn = self._drawn()
        return interval(overall(self.matrices[drawn])[metric] - overall(other.matrices[drawn])[metric])
