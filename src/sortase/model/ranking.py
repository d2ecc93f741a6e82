"""AUROC and average precision, one class against the rest, from histograms of streamed scores."""

from __future__ import annotations

import numpy as np

from .scores import log_probabilities

BINS = 8192
RANGE = 20.0


class RankingHistogram:
    """Counts of positives and negatives in ``BINS`` bins of each class's log-odds between -20 and 20.

    Scores in one bin count as ties, so the error is at most half the share of pairs that fall into the same bin:
    below 1e-3 for all but models whose scores coincide anyway. Memory: 2 x classes x bins integers.
    """

    def __init__(self, classes: int):
        self.counts = np.zeros((classes, 2, BINS), dtype=np.int64)

    def update(self, logits: np.ndarray, labels: np.ndarray) -> None:
        """``logits [n, classes]``, ``labels [n]`` all valid."""
        for index, odds in enumerate(log_odds(log_probabilities(logits)).T):
            bins = np.clip((odds + RANGE) * (BINS / (2 * RANGE)), 0, BINS - 1).astype(np.int64)
            flat = np.bincount((labels == index) * BINS + bins, minlength=2 * BINS)
            self.counts[index] += flat.reshape(2, BINS)

    def auroc(self) -> list[float | None]:
        return [_auroc(*counts) for counts in self.counts]

    def auprc(self) -> list[float | None]:
        return [_average_precision(*counts) for counts in self.counts]


def log_odds(logs: np.ndarray) -> np.ndarray:
    """log(p / (1 - p)) from log p, within the histogram's range."""
    return logs - np.log(np.maximum(-np.expm1(logs), np.exp(-2 * RANGE)))


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
    precision = np.divide(hits, taken, out=np.zeros(len(hits)), where=taken > 0)
    return float((precision * positives[::-1]).sum() / total)


def mean_defined(values: list[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
