"""A model that has learnt nothing, as it calls nearly everything by one class or guesses: found out, named, and what
usually helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import storage
from ..config.model import ModelSpec
from ..config.train import TrainSpec
from ..model.load import has_weights

ONE_CLASS = 0.95  # share of the predictions that go to it
FOUND = 0.05  # share of all other classes that is still called rightly
FEW_OTHERS, FEW_UNITS = 5, 20
FEW_STEPS = 300
PRETRAINED_RATE, NEW_RATE = (1e-5, 5e-4), 2e-4  # learning rates that are usual; a new model wants the larger


@dataclass(frozen=True)
class Training:
    """What made the model: its settings, and the steps that were taken (None: not known)."""

    settings: TrainSpec
    model: ModelSpec
    steps: int | None

    @property
    def is_new(self) -> bool:
        """Whether it began with random weights."""
        named = self.model.checkpoint
        return named is None or (storage.is_located(named) and not has_weights(named))


def learnt_nothing(
    found: Mapping[str, Any], classes: list[str], unit: str, training: Training | None
) -> dict[str, Any] | None:
    """Whether the figures of an evaluation show a model that has learnt nothing; None where it has, or where too few
    units tell. ``kind`` is ``collapsed`` or ``chance``.

    Collapsed: one class gets 95 % of the predictions, and at most 5 % of all units of other classes are called rightly.
    Chance: the interval of Matthews' correlation holds 0.
    """
    matrix = np.array(found["confusion_matrix"])
    known = _collapsed(matrix, classes, unit) or _by_chance(matrix, found, unit)
    if known is None:
        return None
    times_its_share = float(matrix.sum(axis=1).max() / matrix.sum() * len(classes))
    helps = _remedies(training, times_its_share) if training else []
    words = f"{known['words']} What usually helps: {'; '.join(helps)}." if helps else known["words"]
    return {**known, "helps": helps, "words": words}


def _collapsed(matrix: np.ndarray, classes: list[str], unit: str) -> dict[str, Any] | None:
    total, predicted = int(matrix.sum()), matrix.sum(axis=0)
    top = int(predicted.argmax())
    others = total - int(matrix[top].sum())
    if not others or (others < FEW_OTHERS and others < total / 5):
        return None
    right = int(matrix.trace() - matrix[top, top])
    if predicted[top] < ONE_CLASS * total or right > FOUND * others:
        return None
    share, true = float(predicted[top] / total), float(matrix[top].sum() / total)
    words = (
        f"The model has collapsed: it calls {share:.0%} of the {total:,} {unit}s {classes[top]!r}, which {true:.0%} "
        f"are, and finds {right:,} of the {others:,} others."
    )
    return {"kind": "collapsed", "class": classes[top], "predicted_share": share, "true_share": true, "words": words}


def _by_chance(matrix: np.ndarray, found: Mapping[str, Any], unit: str) -> dict[str, Any] | None:
    interval = (found.get("intervals") or {}).get("mcc")
    total = int(matrix.sum())
    if interval is None or interval[0] > 0 or total < FEW_UNITS or (matrix.sum(axis=1) > 0).sum() < 2:
        return None
    words = (
        f"The model cannot be told apart from chance: its predictions for the {total:,} {unit}s agree with the labels "
        f"by a Matthews correlation of {found['metrics']['mcc']:.3f} (0 is chance, 95 % interval {interval[0]:+.3f} to "
        f"{interval[1]:+.3f})."
    )
    return {"kind": "chance", "words": words}


def _remedies(training: Training, times_its_share: float) -> list[str]:
    """By the settings that the training had, the likeliest first."""
    settings, arguments = training.settings, training.settings.arguments
    rate, epochs = float(arguments["learning_rate"]), arguments["num_train_epochs"]
    helps = []
    if training.is_new:
        helps.append("a pretrained checkpoint, as this model began with random weights")
    if training.steps is not None and training.steps < FEW_STEPS:
        batch = " and a smaller global batch" if training.steps < FEW_STEPS / 10 else ""
        helps.append(f"more steps than {training.steps}, by more epochs (num_train_epochs is {epochs:g}){batch}")
    if training.is_new and rate < NEW_RATE:
        helps.append(f"a higher learning_rate, such as 1e-3 ({rate:g} suits pretrained weights)")
    elif rate < PRETRAINED_RATE[0]:
        helps.append(f"a higher learning_rate than {rate:g}, such as 5e-5")
    elif rate > PRETRAINED_RATE[1] and not training.is_new:
        helps.append(f"a lower learning_rate than {rate:g}, such as 5e-5")
    if training.model.freeze_layers:
        helps.append(f"fewer frozen layers (freeze_layers is {training.model.freeze_layers})")
    if settings.class_weights == "none" and times_its_share > 1.5:
        helps.append("class_weights: balanced, as the classes are of unequal size")
    return helps or ["another learning_rate", "a look at the learning curves and at the labels"]
