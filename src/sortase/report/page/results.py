"""What a report says about how well the model does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...config.metrics import METRICS
from ..figures import results as figures
from .parts import Files, Part, bounds, duration, figure, percent, several, table, text

BASELINES = {"logistic_regression": "logistic regression", "majority": "majority class"}
MOST_CONFUSIONS = 10


def results(evaluation: Mapping[str, Any]) -> list[Part]:
    unit, bootstrap = evaluation.get("unit", "row"), evaluation.get("bootstrap") or {}
    what = several(evaluation.get("units", 0), unit)
    if unit != "row":
        what += f" in {several(evaluation.get('rows', 0), 'row')}"
    caption = f"{what} of the test side."
    if bootstrap.get("replicates"):
        caption += f" Intervals come from {bootstrap['replicates']:,} resamples of {bootstrap.get('unit', unit)}s."
    nothing = evaluation.get("learnt_nothing")
    parts = [*([text(nothing["words"])] if nothing else []), measured(evaluation, caption)]
    speed = evaluation.get("speed") or {}
    if speed.get("rows_per_second"):
        parts.append(
            text(f"Predicting took {duration(speed.get('seconds'))}: {speed['rows_per_second']:,.0f} rows a second.")
        )
    return parts


def measured(found: Mapping[str, Any], caption: str = "") -> Part:
    """A table of metrics with their intervals and meanings."""
    values, intervals = found.get("metrics") or {}, found.get("intervals") or {}
    rows = [
        [metric.words, values[name], bounds(intervals.get(name)), metric.meaning]
        for name, metric in METRICS.items()
        if name in values
    ]
    return table(["metric", "value", "95 % interval", "meaning"], rows, caption)


def confusion(evaluation: Mapping[str, Any], files: Files) -> list[Part]:
    classes, matrix = evaluation["classes"], np.array(evaluation["confusion_matrix"])
    caption = "A row for each true class, a column for each predicted one; on the diagonal predictions are right."
    if len(classes) > figures.MOST_ANNOTATED:
        caption += " Full names are in the table of classes below."
    drawn = figures.confusion_matrix(matrix, classes)
    return [
        figure(drawn, "confusion_matrix", "Confusion matrix", caption, files),
        *most_confused(classes, matrix, evaluation.get("unit", "row")),
    ]


def most_confused(classes: list[str], matrix: np.ndarray, unit: str) -> list[Part]:
    off = matrix * (1 - np.eye(len(classes), dtype=matrix.dtype))
    order = np.argsort(-off, axis=None, kind="stable")[:MOST_CONFUSIONS]
    pairs = [(i, j) for i, j in zip(*np.unravel_index(order, off.shape), strict=True) if off[i, j] > 0]
    rows = [
        [classes[i], classes[j], int(off[i, j]), percent(float(off[i, j]), float(matrix[i].sum()))] for i, j in pairs
    ]
    heads = ["true", "predicted", f"{unit}s", "of the true class"]
    return [table(heads, rows, "Most frequent confusions")] if rows and len(classes) > 2 else []


def each_class(evaluation: Mapping[str, Any], files: Files) -> list[Part]:
    rows, unit = evaluation["per_class"], evaluation.get("unit", "row")
    names = ("precision", "recall", "f1", "support", "auroc", "auprc")
    return [
        text(
            "Precision: of the predictions of a class, the share that is right. Recall: of the class itself, the share "
            "that is found. F1 is high only if both are."
        ),
        figure(figures.per_class(rows, unit), "per_class", "F1, precision and recall of each class", "", files),
        table(
            ["class", "precision", "recall", "F1", f"test {unit}s", "AUROC", "average precision"],
            [[row["class"], *(row.get(name) for name in names)] for row in rows],
        ),
    ]


def calibration(evaluation: Mapping[str, Any], files: Files) -> list[Part]:
    ece, unit = (evaluation.get("metrics") or {}).get("ece"), evaluation.get("unit", "row")
    drawn = figures.reliability(evaluation["reliability"], ece, unit)
    caption = "Below the dashed line the model is surer than it is right; above it, more right than it is sure."
    return [
        text("Whether a probability of 80 % means that 8 of 10 such predictions are right."),
        figure(drawn, "reliability", "Share of right predictions against their probability", caption, files),
    ]


def mistakes(evaluation: Mapping[str, Any], tokens: Mapping[int, str]) -> list[Part]:
    """``tokens`` names token ids; ids without a name stay numbers."""
    found = evaluation.get("mistakes")
    if not found:
        return [text("There is none: every prediction on the test side is right.")]
    positioned = any(item.get("token") is not None for item in found)
    where = ["row", "position", "token"] if positioned else ["row"]
    rows = [
        [
            item["row"],
            *([item.get("position"), _token(item.get("token"), tokens)] if positioned else []),
            item["true"],
            item["predicted"],
            percent(item["probability"]),
            percent(item["probability_of_true"]),
        ]
        for item in found
    ]
    return [
        text(
            "Wrong predictions that the model was surest of. Wrong labels in the data often show up here. Rows are "
            "counted from 0 in the prepared dataset."
        ),
        table([*where, "true", "predicted", "its probability", "of the true class"], rows),
    ]


def _token(token: int | None, names: Mapping[int, str]) -> str | None:
    return None if token is None else names.get(token, str(token))


def baselines(evaluation: Mapping[str, Any], files: Files) -> list[Part]:
    found = evaluation.get("baseline")
    if not found:
        return [text("No baseline was asked for.")]
    shown = _beside(evaluation, found)
    parts = [text(found.get("verdict") or ""), text(_learnt(found))]
    drawn = figures.comparison(shown)
    parts.append(figure(drawn, "baseline", "Metrics of the transformer and of the baselines", "", files))
    return [*parts, compared(shown)]


def _beside(model: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What was measured of the model and of each baseline, by their names on the page."""
    models = {"transformer": model, **{words: found.get(name) for name, words in BASELINES.items()}}
    return {name: values for name, values in models.items() if values and values.get("metrics")}


def compared(models: Mapping[str, Mapping[str, Any]]) -> Part:
    rows = [
        [metric.words, *(values["metrics"].get(name) for values in models.values())]
        for name, metric in METRICS.items()
        if any(name in values["metrics"] for values in models.values())
    ]
    return table(["metric", *models], rows, "Beside the baselines" if len(models) > 1 else "")


def _learnt(found: Mapping[str, Any]) -> str:
    simple, words = found.get("logistic_regression"), []
    if simple:
        looks = f" (on {simple['features']})" if simple.get("features") else ""
        units = f" from {several(simple['train_units'], 'example')}" if simple.get("train_units") is not None else ""
        words.append(f"Logistic regression{looks} learnt{units} in {duration(simple.get('seconds'))}.")
    if found.get("majority"):
        words.append("'Majority class' always answers with the class that is most frequent in training.")
    return " ".join(words)


def votes(evaluation: Mapping[str, Any]) -> list[Part]:
    """Figures for token types, where whole tokens were held out."""
    found = evaluation.get("per_token_type")
    if not found:
        return []
    words = (
        "A token occurs in many rows. Here each token counts once, with the mean of the probabilities over all its "
        "occurrences: does the model know the class of a token that it never saw with a label?"
    )
    rivals = {
        name: (values or {}).get("per_token_type")
        for name, values in (evaluation.get("baseline") or {}).items()
        if name in BASELINES
    }
    parts = [text(words), measured(found, f"{several(found.get('tokens', 0), 'token')} held out of training.")]
    return [*parts, compared(_beside(found, rivals))] if any(rivals.values()) else parts
