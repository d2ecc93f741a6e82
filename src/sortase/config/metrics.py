"""The metrics of a classifier, a row each: all that configuration, gate, report and model card have to know of one.

The values themselves are computed in ``model/metrics``, under the same names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Metric:
    """``words`` name it in a text, ``short`` in a figure; ``meaning`` explains it in the report.

    ``low`` and ``high`` are its least and greatest value. ``interval``: resamples give one. ``hub`` is its type, its
    name and its arguments in a model card on the Hugging Face hub; None: it does not stand there.
    """

    words: str
    meaning: str
    short: str
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    interval: bool = True
    curve: bool = True
    hub: tuple[str, str, Mapping[str, Any]] | None = field(default=None, hash=False)


METRICS: dict[str, Metric] = {
    "macro_f1": Metric(
        "macro F1",
        "F1 of each class (high only if both precision and recall are), averaged over classes",
        "macro F1",
        hub=("f1", "Macro F1", {"average": "macro"}),
    ),
    "weighted_f1": Metric("weighted F1", "the same, but common classes count more", "weighted F1"),
    "accuracy": Metric("accuracy", "share of predictions that are right", "accuracy", hub=("accuracy", "Accuracy", {})),
    "balanced_accuracy": Metric(
        "balanced accuracy",
        "share found of each class, averaged: rare classes count like common ones",
        "balanced accuracy",
        hub=("balanced_accuracy", "Balanced accuracy", {}),
    ),
    "mcc": Metric(
        "Matthews correlation (MCC)",
        "agreement beyond chance: 1 perfect, 0 none",
        "MCC",
        low=-1.0,
        hub=("matthews_correlation", "Matthews correlation", {}),
    ),
    "auroc": Metric(
        "AUROC",
        "how well probabilities rank a class above the others, averaged: 1 perfect, 0.5 chance",
        "AUROC",
        interval=False,
        hub=("roc_auc", "Macro AUROC", {"average": "macro"}),
    ),
    "auprc": Metric(
        "average precision",
        "precision over all thresholds, averaged over classes: 1 perfect",
        "average precision",
        interval=False,
    ),
    "ece": Metric(
        "calibration error (ECE)",
        "mean distance between confidence and accuracy: 0 is best",
        "ECE",
        higher_is_better=False,
        interval=False,
        curve=False,
    ),
    "loss": Metric(
        "cross-entropy",
        "what training minimises: 0 is best",
        "loss",
        higher_is_better=False,
        high=math.inf,
        interval=False,
        curve=False,
    ),
}
NAMES = tuple(METRICS)
