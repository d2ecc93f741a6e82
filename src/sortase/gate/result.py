"""What a comparison found: figures of both models, and paired differences with the intervals of the same resamples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..model import confusion
from ..model.bootstrap import LEVEL, Replicates
from ..model.metrics import Metrics

LEAST_RESAMPLES = 20  # of those in which a class occurs


@dataclass(frozen=True)
class Measured:
    """A model on the evaluation set: ``figures`` as evaluation.json has them, ``rows_per_second`` of one worker."""

    name: str
    figures: dict[str, Any]
    replicates: Replicates
    rows_per_second: float

    @classmethod
    def of(cls, name: str, metrics: Metrics, rows_per_second: float) -> Measured:
        return cls(name, metrics.result(), metrics.replicates, rows_per_second)

    def value(self, metric: str) -> float | None:
        """None where the metric is undefined on this set."""
        found = self.figures["metrics"][metric]
        return float(found) if found is not None and math.isfinite(found) else None

    def recall(self, number: int) -> float:
        return float(self.figures["per_class"][number]["recall"])

    def recalls(self) -> np.ndarray:
        """Recall of each class in each resample, ``[replicates, classes]``; NaN where the class does not occur."""
        parts = confusion.per_class(self.replicates.matrices)
        return np.where(parts["support"] > 0, parts["recall"], np.nan)


def defined_interval(values: np.ndarray) -> list[float] | None:
    """95 % interval over the resamples in which the value is defined; None for too few of them."""
    values = values[~np.isnan(values)]
    if len(values) < LEAST_RESAMPLES:
        return None
    low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return [float(low), float(high)]


@dataclass(frozen=True)
class OneClass:
    """Recall and F1 of a class. ``units`` are what its recall rests on: rows, tokens, or token ids if those were split.

    ``interval`` is that of the challenger's recall, ``difference_interval`` that of its difference to the champion's.
    """

    name: str
    units: int
    recall: float
    f1: float
    interval: list[float] | None
    champion_recall: float | None = None
    champion_f1: float | None = None
    difference_interval: list[float] | None = None

    @property
    def difference(self) -> float | None:
        return None if self.champion_recall is None else self.recall - self.champion_recall

    @property
    def worse(self) -> bool:
        """Beyond what resampling the evaluation set explains."""
        return self.difference_interval is not None and self.difference_interval[1] < 0


@dataclass(frozen=True)
class Rival:
    """The best simple classifier. ``ours`` is the challenger's macro F1 on the rows that this one was measured on."""

    name: str
    macro_f1: float | None
    ours: float | None
    interval: list[float] | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """``seen``: by model how many evaluated rows (or tokens) it was trained on, which were left out then."""

    challenger: Measured
    champion: Measured | None
    rival: Rival | None
    classes: list[OneClass]
    rows: int
    unit: str
    content: str
    seen: dict[str, int]
    seconds: float
    remarks: list[str] = field(default_factory=list)

    def difference(self, metric: str) -> tuple[float | None, list[float] | None]:
        """Challenger minus champion with the paired interval, where the metric has one; None where it is undefined."""
        if self.champion is None:
            return None, None
        ours, theirs = self.challenger.value(metric), self.champion.value(metric)
        if ours is None or theirs is None:
            return None, None
        mine, others = self.challenger.replicates, self.champion.replicates
        known = len(mine.matrices) > 0 and metric in self.challenger.figures["intervals"]
        return ours - theirs, mine.difference(others, metric) if known else None


def classes_of(names: list[str], challenger: Measured, champion: Measured | None) -> list[OneClass]:
    ours = challenger.recalls()
    changes = None if champion is None else ours - champion.recalls()
    units = _units(challenger)
    return [
        OneClass(
            name=name,
            units=units[i],
            recall=challenger.recall(i),
            f1=float(challenger.figures["per_class"][i]["f1"]),
            interval=defined_interval(ours[:, i]),
            champion_recall=None if champion is None else champion.recall(i),
            champion_f1=None if champion is None else float(champion.figures["per_class"][i]["f1"]),
            difference_interval=None if changes is None else defined_interval(changes[:, i]),
        )
        for i, name in enumerate(names)
    ]


def _units(measured: Measured) -> list[int]:
    by_token = measured.figures["per_token_type"]
    if by_token is not None:
        return [sum(row) for row in by_token["confusion_matrix"]]
    return [each["support"] for each in measured.figures["per_class"]]
