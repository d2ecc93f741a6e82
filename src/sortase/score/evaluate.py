"""Metrics of a trained model on rows it has not seen, beside what a simple classifier reaches on the same rows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from .. import storage
from ..data.checks import check_labels, check_tokens, overlong
from ..data.sequences import Sequences
from ..errors import InputError
from ..model import baseline
from ..model.inputs import check_token_types
from ..model.load import Trained
from ..model.metrics import confusion
from ..model.metrics.metrics import Metrics
from ..runs import layout
from ..stopping import or_leave
from ..types import Log
from .collapse import learnt_nothing
from .measure import EvaluateJob, new_metrics, score, score_in_parts
from .parts import RemoteScorer


def evaluate(job: EvaluateJob, folder: str, log: Log, remote: RemoteScorer | None = None) -> dict[str, Any]:
    """Score the test side; writes predictions.parquet, predictions.pkl and, last, evaluation.json below ``folder``.

    With ``remote`` other processes compute the scores: its dataset is the one whose rows ``job.test`` shows. The
    model's weights and ``job.precision`` are not used here then.
    """
    trained = job.trained
    check_scorable(job.test, trained)
    if note := check_token_types(job.test, trained.model):
        log(f"evaluate: {note}")
    if cut := overlong(job.test, trained.max_length):
        log(f"evaluate: {cut} of {len(job.test)} sequences are cut to {trained.max_length} tokens")
    started = time.monotonic()
    metrics = score(job, folder) if remote is None else score_in_parts(job, folder, remote)
    seconds = time.monotonic() - started
    found = metrics.result()
    evaluation: dict[str, Any] = {
        "task": trained.task.kind,
        "classes": trained.classes,
        "rows": len(job.test),
        "unit": trained.task.unit,
        **found,
        "baseline": compare(job, job.train, metrics, log) if job.settings.baseline and job.train is not None else None,
        "learnt_nothing": learnt_nothing(found, trained.classes, trained.task.unit, job.training),
        "speed": {"rows_per_second": round(len(job.test) / max(seconds, 1e-9), 2), "seconds": round(seconds, 3)},
    }
    storage.write_json(storage.join(folder, layout.EVALUATION), evaluation)
    return evaluation


def check_scorable(test: Sequences, trained: Trained) -> None:
    """InputError where nothing is labelled, or ids are none of the model's."""
    if not any((test.labels_of(i) >= 0).any() for i in range(len(test))):
        raise InputError(
            f"the {len(test)} rows to evaluate hold no labelled {trained.task.unit}; "
            "a random split needs split.test_size above 0"
        )
    check_tokens(test, trained.model.config.vocab_size)
    check_labels(test, len(trained.class_map))


def compare(job: EvaluateJob, train: Sequences, model: Metrics, log: Log) -> dict[str, Any]:
    """Baselines on the same units, and in one sentence whether the transformer beats them."""
    log("evaluate: fitting the baselines")
    classes, limit = len(job.trained.class_map), job.trained.max_length
    simple = _measured(job, baseline.majority(train, classes, job.seed), limit)
    features, learn = baseline.learner(job.trained.task, job.split_unit)
    started = time.monotonic()
    learnt = or_leave(lambda: learn(train, classes, job.seed))
    rival = _measured(job, learnt.predictor, limit)
    seconds = time.monotonic() - started
    name = f"logistic regression on {features}"
    if learnt.rows < len(train):
        name += f" (learnt from {learnt.rows:,} of {len(train):,} rows)"
    contest = (simple, "the majority class") if _macro_f1(simple) > _macro_f1(rival) else (rival, name)
    return {
        "majority": _parts(simple),
        "logistic_regression": {
            **_parts(rival),
            "features": features,
            "seconds": round(seconds, 3),
            "train_units": learnt.units,
            "train_rows": learnt.rows,
        },
        **verdict(model, *contest),
    }


def _macro_f1(metrics: Metrics) -> float:
    return float(confusion.overall(metrics.matrix)["macro_f1"])


def _measured(job: EvaluateJob, predictor: baseline.Predictor, limit: int) -> Metrics:
    metrics = new_metrics(job)
    for scores in predictor(job.test):
        metrics.update(scores.at(np.flatnonzero(scores.positions < limit)))
    return metrics


def _parts(metrics: Metrics) -> dict[str, Any]:
    result = metrics.result()
    return {"metrics": result["metrics"], "intervals": result["intervals"], "per_token_type": result["per_token_type"]}


def verdict(model: Metrics, rival: Metrics, name: str) -> dict[str, Any]:
    """Macro F1 of both and the paired interval of their difference."""
    ours, theirs = _macro_f1(model), _macro_f1(rival)
    figures = f"macro F1 {ours:.3f} against {theirs:.3f}"
    if not len(model.replicates.matrices):
        words = "beats" if ours > theirs else "does not beat"
        return {"verdict": f"The transformer {words} {name}: {figures}.", "difference": None}
    low, high = model.replicates.difference(rival.replicates, "macro_f1")
    words = "beats" if low > 0 else "does not beat" if high < 0 else "cannot be told apart from"
    interval = f"difference {ours - theirs:+.3f}, 95 % interval {low:+.3f} to {high:+.3f}"
    return {"verdict": f"The transformer {words} {name}: {figures} ({interval}).", "difference": [low, high]}


def closing_lines(evaluation: dict[str, Any]) -> list[str]:
    """How good the model is, beside the best baseline where there is one; and a line if it has learnt nothing."""
    compared, nothing = evaluation.get("baseline"), evaluation.get("learnt_nothing")
    if compared:
        first = str(compared["verdict"])
    else:
        metrics, units = evaluation["metrics"], f"{evaluation['units']:,} {evaluation['unit']}s"
        first = f"Macro F1 {metrics['macro_f1']:.3f}, accuracy {metrics['accuracy']:.3f} on {units}; no baseline."
    return [first, str(nothing["words"])] if nothing else [first]


def flat(evaluation: dict[str, Any]) -> dict[str, Any]:
    """``eval_loss``, ``eval_accuracy``, ``eval_macro_f1``, …: what ``GenericClassifier.evaluate`` returns."""
    return {f"eval_{name}": value for name, value in evaluation["metrics"].items()} | {
        "eval_samples": evaluation["rows"],
        "eval_units": evaluation["units"],
        "eval_runtime": evaluation["speed"]["seconds"],
        "eval_samples_per_second": evaluation["speed"]["rows_per_second"],
    }
