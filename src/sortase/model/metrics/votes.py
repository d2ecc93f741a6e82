"""Predictions gathered for each token id: a gene seen in many cells is one gene."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..scores import packed
from . import confusion
from .bootstrap import Replicates


class TokenVotes:
    """For each token id: its label, how often each class was predicted, and the sum of the probabilities.

    Memory is bounded by the vocabulary: 2 x tokens x classes numbers.
    """

    def __init__(self, classes: int):
        self.labels = np.empty(0, dtype=np.int64)
        self.predicted = np.empty((0, classes))
        self.probabilities = np.empty((0, classes))

    def _grow(self, size: int) -> None:
        more = size - len(self.labels)
        if more > 0:
            self.labels = np.concatenate([self.labels, np.full(more, -1)])
            self.predicted = np.pad(self.predicted, ((0, more), (0, 0)))
            self.probabilities = np.pad(self.probabilities, ((0, more), (0, 0)))

    def update(
        self, tokens: np.ndarray, labels: np.ndarray, predictions: np.ndarray, probabilities: np.ndarray
    ) -> None:
        self._grow(int(tokens.max()) + 1)
        self.labels[tokens] = labels
        np.add.at(self.predicted, (tokens, predictions), 1)
        np.add.at(self.probabilities, tokens, probabilities)

    def merge(self, other: TokenVotes) -> None:
        size = len(other.labels)
        self._grow(size)
        seen = other.labels >= 0
        self.labels[:size][seen] = other.labels[seen]
        self.predicted[:size] += other.predicted
        self.probabilities[:size] += other.probabilities

    def __getstate__(self) -> tuple[np.ndarray, ...]:
        """Only the tokens that were seen: most of a vocabulary has no label."""
        seen = np.flatnonzero(self.labels >= 0)
        return seen, self.labels[seen], packed(self.predicted[seen]), self.probabilities[seen]

    def __setstate__(self, state: tuple[np.ndarray, ...]) -> None:
        seen, labels, predicted, probabilities = state
        TokenVotes.__init__(self, predicted.shape[1])
        self._grow(int(seen.max(initial=-1)) + 1)
        self.labels[seen], self.predicted[seen], self.probabilities[seen] = labels, predicted, probabilities

    def resample(self, replicates: Replicates) -> None:
        """Add all occurrences to the resamples, token by token."""
        tokens, classes = np.nonzero(self.predicted)
        replicates.update(tokens, self.labels[tokens], classes, self.predicted[tokens, classes])

    def result(self, occurrences: Replicates) -> dict[str, Any]:
        """Metrics with one vote a token: the class with the highest mean probability over its occurrences."""
        seen = np.flatnonzero(self.labels >= 0)
        classes = self.predicted.shape[1]
        matrix = np.zeros((classes, classes), dtype=np.int64)
        votes = Replicates(classes, len(occurrences.matrices), occurrences.seed)
        if len(seen):
            winners = self.probabilities[seen].argmax(axis=1)
            confusion.add(matrix, self.labels[seen], winners)
            if len(votes.matrices):
                votes.update(seen, self.labels[seen], winners)
        return {
            "tokens": len(seen),
            "metrics": confusion.figures(matrix),
            "intervals": votes.intervals(),
            "confusion_matrix": matrix.tolist(),
        }
