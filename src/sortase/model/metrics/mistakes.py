"""The most confident mistakes, kept while predictions stream by."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..scores import Scores


class Mistakes:
    """The ``most`` wrong predictions with the highest probability; the earlier one among equals."""

    def __init__(self, classes: list[str], most: int = 20):
        self.classes = classes
        self.most = most
        self._found: list[dict[str, Any]] = []

    def update(self, scores: Scores, probabilities: np.ndarray, predictions: np.ndarray) -> None:
        wrong = np.flatnonzero(predictions != scores.labels)
        confidence = probabilities[wrong, predictions[wrong]]
        chosen = wrong[np.argsort(-confidence, kind="stable")[: self.most]]
        self._keep([self._describe(scores, probabilities[i], int(predictions[i]), i) for i in chosen])

    def merge(self, other: Mistakes) -> None:
        self._keep(other._found)

    def _keep(self, more: list[dict[str, Any]]) -> None:
        self._found += more
        self._found.sort(key=lambda item: (-item["probability"], item["row"], item["position"]))
        del self._found[self.most :]

    def _describe(self, scores: Scores, probabilities: np.ndarray, predicted: int, i: int) -> dict[str, Any]:
        label, token = int(scores.labels[i]), int(scores.tokens[i])
        return {
            "row": int(scores.rows[i]),
            "position": int(scores.positions[i]),
            "token": token if token >= 0 else None,
            "true": self.classes[label],
            "predicted": self.classes[predicted],
            "probability": float(probabilities[predicted]),
            "probability_of_true": float(probabilities[label]),
        }

    def list(self) -> list[dict[str, Any]]:
        return self._found
