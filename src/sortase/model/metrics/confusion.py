"""Metrics that follow from a confusion matrix; rows are true classes, columns predicted ones."""

from __future__ import annotations

import numpy as np


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """``top / bottom``, 0 where ``bottom`` is 0."""
    return np.divide(top, bottom, out=np.zeros(np.broadcast(top, bottom).shape), where=bottom > 0)


def per_class(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall, F1 and support, each ``[..., classes]``, of matrices ``[..., classes, classes]``."""
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    support, predicted = matrix.sum(-1), matrix.sum(-2)
    return {
        "precision": _ratio(hits, predicted),
        "recall": _ratio(hits, support),
        "f1": _ratio(2 * hits, support + predicted),
        "support": support,
        "predicted": predicted,
    }


def overall(matrix: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracy, balanced accuracy, macro and weighted F1, and MCC of each matrix ``[..., classes, classes]``.

    As in scikit-learn, macro F1 is over the classes that occur among labels or predictions, balanced accuracy over
    those that occur among labels, and MCC (Gorodkin 2004) is 0 when all labels or all predictions are one class.
    """
    parts = per_class(matrix)
    total = matrix.sum((-2, -1)).astype(np.float64)
    hits = np.diagonal(matrix, axis1=-2, axis2=-1).sum(-1)
    labelled = parts["support"] > 0
    occurring = labelled | (parts["predicted"] > 0)
    return {
        "accuracy": _ratio(hits, total),
        "balanced_accuracy": _ratio((parts["recall"] * labelled).sum(-1), labelled.sum(-1)),
        "macro_f1": _ratio((parts["f1"] * occurring).sum(-1), occurring.sum(-1)),
        "weighted_f1": _ratio((parts["f1"] * parts["support"]).sum(-1), total),
        "mcc": _mcc(parts["support"].astype(np.float64), parts["predicted"].astype(np.float64), hits, total),
    }


def figures(matrix: np.ndarray) -> dict[str, float | None]:
    """``overall`` of one matrix as plain numbers, None when it is empty."""
    return {name: float(value) if matrix.any() else None for name, value in overall(matrix).items()}


def _mcc(support: np.ndarray, predicted: np.ndarray, hits: np.ndarray, total: np.ndarray) -> np.ndarray:
    covariance = hits * total - (support * predicted).sum(-1)
    spread = (total**2 - (support**2).sum(-1)) * (total**2 - (predicted**2).sum(-1))
    return _ratio(covariance, np.sqrt(np.maximum(spread, 0)))


def add(matrix: np.ndarray, labels: np.ndarray, predictions: np.ndarray, weights: np.ndarray | None = None) -> None:
    """Count labelled predictions into ``matrix``, in place."""
    classes = len(matrix)
    flat = np.bincount(labels * classes + predictions, weights=weights, minlength=classes * classes)
    matrix += flat.reshape(classes, classes).astype(matrix.dtype)
