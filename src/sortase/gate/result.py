"""What a comparison found: figures of both models, and paired differences with the intervals of the same resamples."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..model.metrics import confusion
from ..model.metrics.bootstrap import LEVEL, Replicates
from ..model.metrics.metrics import Metrics

LEAST_RESAMPLES = 20  # of those in which a class occurs
NORMAL = 1.959964  # standard deviations that hold 95 % of a normal distribution


@dataclass(frozen=True)
class ModelScores:
    """A model on the evaluation set: ``figures`` as evaluation.json has them, ``rows_per_second`` of one worker."""

    name: str
    figures: dict[str, Any]
    replicates: Replicates
    rows_per_second: float

    @classmethod
    def of(cls, name: str, metrics: Metrics, rows_per_second: float) -> ModelScores:
        return cls(name, metrics.result(), metrics.replicates, rows_per_second)

    def value(self, metric: str) -> float | None:
        """None where the metric is undefined on this set."""
        found = self.figures["metrics"][metric]
        return float(found) if found is not None and math.isfinite(found) else None

    def of_class(self, number: int, figure: str) -> float | None:
        """Recall or F1 of a class, None where no unit of it was evaluated."""
        found = self.figures["per_class"][number]
        return float(found[figure]) if found["support"] else None

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


def wilson(share: float, units: int) -> list[float]:
    """95 % interval of a share of independent units (Wilson 1927); it has a width even where all or none are right."""
    squared = NORMAL**2 / units
    half = NORMAL * math.sqrt(share * (1 - share) / units + squared / units / 4)
    return [(share + squared / 2 - half) / (1 + squared), (share + squared / 2 + half) / (1 + squared)]


@dataclass(frozen=True)
class OneClass:
    """Recall and F1 of a class, None where no unit of it was evaluated. ``units`` are what its recall rests on: rows,
    tokens, or token ids if those were split.

    ``interval`` is that of the challenger's recall, ``difference_interval`` that of its difference to the champion's.
    """

    name: str
    units: int
    recall: float | None
    f1: float | None
    interval: list[float] | None
    champion_recall: float | None = None
    champion_f1: float | None = None
    difference_interval: list[float] | None = None

    @property
    def difference(self) -> float | None:
        return None if self.recall is None or self.champion_recall is None else self.recall - self.champion_recall

    @property
    def worse(self) -> bool:
        """Beyond what resampling the evaluation set explains."""
        return self.difference_interval is not None and self.difference_interval[1] < 0


@dataclass(frozen=True)
class BaselineScores:
    """The best simple classifier. ``ours`` is the challenger's macro F1 on the rows that this one was measured on."""

    name: str
    macro_f1: float | None
    ours: float | None
    interval: list[float] | None
    source: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """``seen``: by model how many evaluated rows (or tokens) it was trained on, which were left out then.

    ``groups``: how many groups of rows were resampled for the intervals, None where that were rows or tokens.
    """

    challenger: ModelScores
    champion: ModelScores | None
    rival: BaselineScores | None
    classes: list[OneClass]
    rows: int
    unit: str
    content: str
    seen: dict[str, int]
    seconds: float
    groups: int | None = None
    remarks: list[str] = field(default_factory=list)

    @property
    def members(self) -> int:
        """Evaluated rows, or ids of tokens where tokens were held out."""
        return self.rows if self.unit == "row" else sum(each.units for each in self.classes)

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


def classes_of(names: list[str], challenger: ModelScores, champion: ModelScores | None) -> list[OneClass]:
    ours = challenger.recalls()
    changes = None if champion is None else ours - champion.recalls()
    units = _units(challenger)
    return [
        OneClass(
            name=name,
            units=units[i],
            recall=challenger.of_class(i, "recall"),
            f1=challenger.of_class(i, "f1"),
            interval=defined_interval(ours[:, i]),
            champion_recall=None if champion is None else champion.of_class(i, "recall"),
            champion_f1=None if champion is None else champion.of_class(i, "f1"),
            difference_interval=None if changes is None else defined_interval(changes[:, i]),
        )
        for i, name in enumerate(names)
    ]


def _units(measured: ModelScores) -> list[int]:
    by_token = measured.figures["per_token_type"]
    if by_token is not None:
        return [sum(row) for row in by_token["confusion_matrix"]]
    return [each["support"] for each in measured.figures["per_class"]]
