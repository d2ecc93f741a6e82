"""Cross-entropy normalised by what a whole global batch holds, however it is divided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ..data.sequences import IGNORED
from ..errors import ConfigError

if TYPE_CHECKING:
    import torch


def class_counts(labels: list[np.ndarray], classes: int) -> np.ndarray:
    """How often each class occurs among labels, int64 ``[classes]``; ``IGNORED`` counts for none."""
    counts = np.zeros(classes, dtype=np.int64)
    for values in labels:
        counts += np.bincount(values[values >= 0], minlength=classes)[:classes]
    return counts


def class_weights(setting: str | Mapping[str, float], counts: np.ndarray, class_map: dict[str, int]) -> np.ndarray:
    """Weight of each class in the loss, float32 ``[classes]``.

    ``none`` weighs all alike. ``balanced`` gives ``n / (classes * count)``, scikit-learn's rule; a class that the
    training side lacks has weight 1. A mapping gives them by name; names it leaves out have weight 1.
    """
    if setting == "none":
        return np.ones(len(class_map), dtype=np.float32)
    if setting == "balanced":
        present = counts > 0
        weights = np.ones(len(class_map), dtype=np.float32)
        weights[present] = counts.sum() / (present.sum() * counts[present])
        return weights
    if isinstance(setting, str):
        raise ConfigError(f"unknown class_weights {setting!r}; allowed: 'none', 'balanced' or a mapping")
    weights = np.ones(len(class_map), dtype=np.float32)
    for name, weight in setting.items():
        if name not in class_map:
            raise ConfigError(f"class_weights names an unknown class {name!r}; classes: {sorted(class_map)}")
        if not weight >= 0:
            raise ConfigError(f"class_weights gives {name!r} the weight {weight}; it must not be negative")
        weights[class_map[name]] = weight
    return weights


def weight_sum(labels: np.ndarray, weights: np.ndarray) -> float:
    """What the labelled units among ``labels`` weigh together: the denominator of their mean loss."""
    return float(weights[labels[labels >= 0]].sum(dtype=np.float64))


def summed_loss(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Weighted cross-entropy in fp32, summed over labelled units. ``logits [..., classes]``, ``labels [...]``."""
    from torch.nn import functional

    return functional.cross_entropy(
        logits.float().view(-1, logits.shape[-1]),
        labels.view(-1),
        weight=weights,
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )
