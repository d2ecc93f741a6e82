"""All metrics of a classifier from streamed predictions; memory does not grow with the number of units."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ...errors import InputError
from ..scores import Scores, log_probabilities
from . import confusion
from .bootstrap import LEVEL, Groups, Replicates
from .calibration import Calibration
from .mistakes import Mistakes
from .ranking import Ranking, mean_defined
from .votes import TokenVotes

Cluster = Literal["row", "token"]


class Metrics:
    """Feed it with ``update``, ask for ``result``. Units without a label count for nothing.

    ``cluster`` is what is resampled for the intervals: units in one row (or, where tokens were held out, occurrences
    of one token) rise and fall together, and treating them as independent would make the intervals far too narrow.
    Where rows were held out by ``groups``, these are resampled. ``bootstrap`` is the number of resamples, 0 for none.
    """

    def __init__(
        self,
        classes: list[str],
        *,
        bootstrap: int = 1000,
        seed: int = 0,
        cluster: Cluster = "row",
        groups: Groups | None = None,
    ):
        n = len(classes)
        self.classes = classes
        self.resampled = "group" if cluster == "row" and groups is not None else cluster
        self.groups = groups
        self.matrix = np.zeros((n, n), dtype=np.int64)
        self.replicates = Replicates(n, bootstrap, seed)
        self.votes = TokenVotes(n) if cluster == "token" else None
        self.units = 0
        self._loss = 0.0
        self._ranking = Ranking(n)
        self._calibration = Calibration()
        self._mistakes = Mistakes(classes)

    def update(self, scores: Scores) -> None:
        scores = scores.labelled()
        if not len(scores):
            return
        logs = log_probabilities(scores.logits)
        probabilities = np.exp(logs)
        predictions = scores.logits.argmax(axis=1)
        everyone = np.arange(len(scores))
        self.units += len(scores)
        self._loss -= float(logs[everyone, scores.labels].sum())
        self._ranking.update(scores.logits, scores.labels)
        self._calibration.update(probabilities[everyone, predictions], predictions == scores.labels)
        self._mistakes.update(scores, probabilities, predictions)
        confusion.add(self.matrix, scores.labels, predictions)
        if self.votes is not None:
            self.votes.update(scores.tokens, scores.labels, predictions, probabilities)
        elif len(self.replicates.matrices):
            self.replicates.update(self._clusters(scores.rows), scores.labels, predictions)

    def _clusters(self, rows: np.ndarray) -> np.ndarray:
        if self.resampled != "group":
            return rows
        if self.groups is None:
            raise TypeError("metrics that came from another process take no scores, they are merged")
        return self.groups.of(rows)

    def __getstate__(self) -> dict[str, Any]:
        """Without the groups of all rows: who merges these metrics knows them."""
        return {**self.__dict__, "groups": None}

    def merge(self, other: Metrics) -> None:
        """Add the units that ``other`` saw; afterwards this is as if it had seen them all.

        Rows may be divided anyhow: counts are the same, sums to rounding, and areas within what ``Ranking`` promises.
        """
        self._check_like(other)
        self.matrix += other.matrix
        self.units += other.units
        self._loss += other._loss
        self.replicates.merge(other.replicates)
        self._ranking.merge(other._ranking)
        self._calibration.merge(other._calibration)
        self._mistakes.merge(other._mistakes)
        if self.votes is not None and other.votes is not None:
            self.votes.merge(other.votes)

    def _check_like(self, other: Metrics) -> None:
        mine, theirs = (
            {
                "classes": m.classes,
                "cluster": m.resampled,
                "bootstrap": len(m.replicates.matrices),
                "seed": m.replicates.seed,
            }
            for m in (self, other)
        )
        for name, value in mine.items():
            if theirs[name] != value:
                raise InputError(f"metrics with {name} {value} and {theirs[name]} do not add up")

    def finish(self) -> None:
        """Occurrences of a token come spread over the data; they are resampled together, once all are known."""
        if self.votes is not None and len(self.replicates.matrices):
            self.replicates.matrices[:] = 0
            self.votes.resample(self.replicates)

    def result(self) -> dict[str, Any]:
        """The parts of evaluation.json that follow from predictions; what is undefined is None."""
        self.finish()
        auroc, auprc = self._ranking.areas()
        metrics: dict[str, float | None] = {"loss": self._loss / self.units if self.units else None}
        metrics |= confusion.figures(self.matrix)
        metrics |= {"auroc": mean_defined(auroc), "auprc": mean_defined(auprc), "ece": self._calibration.ece()}
        return {
            "units": self.units,
            "metrics": metrics,
            "intervals": self.replicates.intervals(),
            "bootstrap": {"replicates": len(self.replicates.matrices), "unit": self.resampled, "level": LEVEL},
            "per_class": self._per_class(auroc, auprc),
            "confusion_matrix": self.matrix.tolist(),
            "reliability": self._calibration.diagram(),
            "mistakes": self._mistakes.list(),
            "per_token_type": self.votes.result(self.replicates) if self.votes is not None else None,
        }

    def _per_class(self, auroc: list[float | None], auprc: list[float | None]) -> list[dict[str, Any]]:
        parts = confusion.per_class(self.matrix)
        return [
            {
                "class": name,
                "precision": float(parts["precision"][i]),
                "recall": float(parts["recall"][i]),
                "f1": float(parts["f1"][i]),
                "support": int(parts["support"][i]),
                "auroc": auroc[i],
                "auprc": auprc[i],
            }
            for i, name in enumerate(self.classes)
        ]
