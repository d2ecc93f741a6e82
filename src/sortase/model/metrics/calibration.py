"""How far confidence is from being right."""

from __future__ import annotations

from typing import Any

import numpy as np

BINS = 15


class Calibration:
    """Sums over ``BINS`` equal bins of the predicted class's probability (Guo et al. 2017)."""

    def __init__(self) -> None:
        self.count = np.zeros(BINS)
        self.confidence = np.zeros(BINS)
        self.hits = np.zeros(BINS)

    def update(self, confidence: np.ndarray, correct: np.ndarray) -> None:
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        self.count += np.bincount(bins, minlength=BINS)
        self.confidence += np.bincount(bins, weights=confidence, minlength=BINS)
        self.hits += np.bincount(bins, weights=correct, minlength=BINS)

    def merge(self, other: Calibration) -> None:
        self.count += other.count
        self.confidence += other.confidence
        self.hits += other.hits

    def ece(self) -> float | None:
        """Expected calibration error: mean distance of accuracy and confidence, weighted by the bins' counts."""
        total = self.count.sum()
        return float(np.abs(self.hits - self.confidence).sum() / total) if total else None

    def diagram(self) -> dict[str, list[Any]]:
        filled = self.count > 0
        safe = np.where(filled, self.count, 1)

        def shown(values: np.ndarray) -> list[float | None]:
            return [float(v) if f else None for v, f in zip(values / safe, filled, strict=True)]

        return {
            "edges": np.linspace(0, 1, BINS + 1).tolist(),
            "count": self.count.astype(int).tolist(),
            "confidence": shown(self.confidence),
            "accuracy": shown(self.hits),
        }
