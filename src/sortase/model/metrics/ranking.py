"""AUROC and average precision, one class against the rest, from streamed scores.

Exact for the first ``EXACT // classes`` units. From then on neighbouring scores are merged into groups that count as
ties, as a t-digest merges values (Dunning and Ertl 2019), but finest at the top, where average precision is decided:
the group below the m highest scores of n holds at most about ``max(1, min(n / GROUPS, m / FINE))`` of them. Groups
follow the scores, wherever these lie and in whatever order they come; both metrics stay within 1e-3 of the exact
ones, and memory stays at some thousand groups a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..scores import packed

EXACT = 4_000_000
GROUPS = 4096
FINE = 512


class Ranking:
    """Scores seen so far: for each class the distinct values with how many negatives and positives have them."""

    def __init__(self, classes: int):
        self._groups = [(np.empty(0, np.float32), np.empty((2, 0), np.int64))] * classes
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []
        self._room = max(1024, EXACT // max(1, classes))
        self._count = 0

    def update(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """``logits [n, classes]``, ``labels [n]`` all valid."""
        for start in range(0, len(labels), self._room):
            part = slice(start, start + self._room)
            self._keep(log_odds(logits[part]).astype(np.float32), labels[part])

    def merge(self, other: Ranking) -> None:
        """Add the scores that another one saw; exact up to the same number of units together."""
        if any(len(values) for values, _ in other._groups):
            pairs = zip(self._groups, other._groups, strict=True)
            self._groups = [_coarser(*_joined(mine, *theirs)) for mine, theirs in pairs]
        for odds, labels in other._waiting:
            self._keep(odds, labels)

    def _keep(self, odds: np.ndarray, labels: np.ndarray) -> None:
        if self._count + len(labels) > self._room:
            self._coarsen()
        self._waiting.append((odds, labels))
        self._count += len(labels)

    def __getstate__(self) -> dict[str, Any]:
        """What waits in one piece, with labels as small as they are."""
        waiting = self._waiting
        if waiting:
            waiting = [(np.concatenate([odds for odds, _ in waiting]), packed(np.concatenate([b for _, b in waiting])))]
        return self.__dict__ | {"_waiting": waiting}

    def areas(self) -> tuple[list[float | None], list[float | None]]:
        """AUROC and average precision of each class, None where it has no positive or no negative."""
        both = [(_auroc(*counts), _average_precision(*counts)) for _, counts in self._all()]
        return [area for area, _ in both], [precision for _, precision in both]

    def _all(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Class by class, so that only one of them is spread out in memory."""
        if not self._waiting:
            yield from self._groups
            return
        odds = np.concatenate([odds for odds, _ in self._waiting])
        labels = np.concatenate([labels for _, labels in self._waiting])
        for i, known in enumerate(self._groups):
            yield _joined(known, odds[:, i], np.stack([labels != i, labels == i]).astype(np.int64))

    def _coarsen(self) -> None:
        self._groups = [_coarser(values, counts) for values, counts in self._all()]
        self._waiting, self._count = [], 0


def log_odds(logits: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) of each class, float64; exact also where p rounds to 0 or 1."""
    values = logits.astype(np.float64)
    everyone, winners = np.arange(len(values)), values.argmax(axis=1)
    top = values[everyone, winners]
    values -= top[:, None]
    without = values.copy()
    without[everyone, winners] = -np.inf
    second = without.max(axis=1)
    rest = second + np.log(np.exp(without - second[:, None]).sum(axis=1))
    values -= np.logaddexp(0, rest)[:, None]
    values[everyone, winners] = 0
    values -= np.log1p(-np.exp(values), out=np.zeros_like(values), where=values < 0)
    values[everyone, winners] = -rest
    return values


def _joined(
    known: tuple[np.ndarray, np.ndarray], more_values: np.ndarray, more_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values, ascending, and their counts ``[2, values]`` of negatives and positives."""
    values = np.concatenate([known[0], more_values])
    counts = np.concatenate([known[1], more_counts], axis=1)
    order = np.argsort(values, kind="stable")
    values, counts = values[order], counts[:, order]
    starts = np.flatnonzero(np.diff(values, prepend=np.float32(np.nan)) != 0)
    return values[starts], np.add.reduceat(counts, starts, axis=1)


def _coarser(values: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge neighbours; a group keeps its lowest value."""
    mass = counts.sum(axis=0)
    total = mass.sum()
    above = total - np.cumsum(mass)
    even = FINE * max(1.0, total / GROUPS)
    scale = np.where(above < FINE, above, FINE + FINE * np.log(np.clip(above, FINE, even) / FINE))
    scale += np.maximum(0, above - even) * (FINE / even)
    starts = np.flatnonzero(np.diff(np.floor(scale), prepend=np.nan) != 0)
    return values[starts], np.add.reduceat(counts, starts, axis=1)


def _auroc(negatives: np.ndarray, positives: np.ndarray) -> float | None:
    """The chance that a positive scores above a negative, ties half; undefined when one of them is missing."""
    pairs = int(negatives.sum()) * int(positives.sum())
    if not pairs:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)


def _average_precision(negatives: np.ndarray, positives: np.ndarray) -> float | None:
    """Sum over thresholds of the gain in recall times the precision there."""
    total = positives.sum()
    if not total or not negatives.sum():
        return None
    hits = np.cumsum(positives[::-1])
    taken = hits + np.cumsum(negatives[::-1])
    return float((hits / taken * positives[::-1]).sum() / total)


def mean_defined(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
