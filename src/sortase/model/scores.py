"""What flows from a model's forward passes to metrics and files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Predictions for some units, in order of rows and of positions in them.

    A unit is a row (sequence) or a token (token). ``rows`` int64 ``[n]``: dataset row. ``positions`` int32 ``[n]``:
    place of the token, 0 for sequences. ``tokens`` int64 ``[n]``: token id, -1 for sequences. ``logits`` float32
    ``[n, classes]``. ``labels`` int64 ``[n]``, -100 where there is none.
    """

    rows: np.ndarray
    positions: np.ndarray
    tokens: np.ndarray
    logits: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def labelled(self) -> Scores:
        """Only the units that have a label."""
        return self.at(np.flatnonzero(self.labels >= 0))

    def at(self, index: np.ndarray) -> Scores:
        return Scores(
            self.rows[index], self.positions[index], self.tokens[index], self.logits[index], self.labels[index]
        )


def empty(classes: int) -> Scores:
    """Scores of no unit at all, for files that need their columns even so."""
    none = np.empty(0, dtype=np.int64)
    return Scores(none, none.astype(np.int32), none, np.empty((0, classes), dtype=np.float32), none)


def packed(counts: np.ndarray) -> np.ndarray:
    """Counts as the smallest integers that hold them, for the way from one process to another."""
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))))


def log_probabilities(logits: np.ndarray) -> np.ndarray:
    """Log-softmax over the last axis, float64."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
