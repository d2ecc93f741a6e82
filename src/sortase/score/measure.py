"""The predictions of the test side, as files and as metrics: by this process, or in parts by others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from .. import storage
from ..config.evaluate import EvaluateSpec
from ..data.sequences import Sequences
from ..model.inference import stream
from ..model.load import Trained
from ..model.metrics.bootstrap import Groups
from ..model.metrics.metrics import Cluster, Metrics
from ..model.scores import Scores
from ..runs import layout
from .collapse import Training
from .parts import Part, RemoteScorer, Scorer, divide, gather, part_folder
from .predictions import PickledPredictions, PredictionTable, parquet_writer


@dataclass(frozen=True, kw_only=True)
class EvaluateJob:
    """What to score. ``train`` is what the baselines learn from; without it there are none.

    ``split_unit`` says what was held out, rows or tokens; that is also what the intervals resample, unless there are
    ``groups`` of rows. ``training`` tells what made the model, for advice where it learnt nothing.
    """

    trained: Trained
    test: Sequences
    train: Sequences | None
    split_unit: Cluster
    settings: EvaluateSpec
    precision: str
    seed: int
    groups: Groups | None = None
    training: Training | None = None


def metrics_of(job: EvaluateJob) -> Callable[[], Metrics]:
    """What makes the metrics of a part, or of the whole."""
    return partial(
        Metrics,
        job.trained.classes,
        bootstrap=job.settings.bootstrap,
        seed=job.seed,
        cluster=job.split_unit,
        groups=job.groups,
    )


def new_metrics(job: EvaluateJob) -> Metrics:
    return metrics_of(job)()


def _table(job: EvaluateJob) -> PredictionTable:
    return PredictionTable(job.trained.classes, tokens=job.trained.task.unit == "token", labels=True)


def score(job: EvaluateJob, folder: str) -> Metrics:
    """Metrics of the test side, and its predictions as files."""
    metrics, pickled = new_metrics(job), PickledPredictions(job.trained.classes)
    found = stream(job.trained, job.test, batch_size=job.settings.batch_size, precision=job.precision, what="evaluate")
    _measure(found, job.test, _table(job), metrics, pickled, storage.join(folder, layout.PREDICTIONS))
    pickled.write(storage.join(folder, layout.PICKLED_PREDICTIONS))
    return metrics


def _measure(
    found: Iterable[Scores],
    sequences: Sequences,
    table: PredictionTable,
    metrics: Metrics,
    pickled: PickledPredictions,
    url: str,
) -> None:
    """Stream the predictions of labelled units into the metrics and to where they are kept."""
    with parquet_writer(url) as append:
        for each in found:
            scores = each.labelled()
            metrics.update(scores)
            append(table.of(scores, sequences))
            pickled.update(scores)


@dataclass(frozen=True, kw_only=True)
class _Measurer(Scorer):
    metrics: Callable[[], Metrics]

    def __call__(self, part: Part) -> Metrics:
        sequences, found = self.stream(part)
        metrics = self.metrics()
        pickled = PickledPredictions(metrics.classes)
        _measure(found, sequences, self.table, metrics, pickled, part.table(self.folder))
        pickled.write(part.pickle(self.folder))
        return metrics


def score_in_parts(job: EvaluateJob, folder: str, remote: RemoteScorer) -> Metrics:
    """What ``score`` does, by other processes."""
    metrics, pickled = new_metrics(job), PickledPredictions(job.trained.classes)
    url = storage.join(folder, layout.PREDICTIONS)
    with part_folder(url) as parts:
        measurer = _Measurer.of(
            remote, job.trained, job.test, job.settings.batch_size, _table(job), parts, metrics=metrics_of(job)
        )

        def take(part: Part, found: Metrics) -> None:
            metrics.merge(found)
            pickled.extend(part.pickle(parts))

        divided = divide(job.trained, job.test, job.settings.batch_size)
        gather(remote.map, measurer, divided, url, "evaluate", take)
    pickled.write(storage.join(folder, layout.PICKLED_PREDICTIONS))
    return metrics
