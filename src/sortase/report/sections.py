"""The sections of a report, each from what the stages wrote; one without material says so or is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from . import figures
from .parts import bounds, figure, notes, percent, pre, table, text

Files = dict[str, bytes]
Part = dict[str, Any]

STRATEGIES = {
    "random": "Rows were divided at random, each class in the same proportion.",
    "group": "Whole groups were put on one side, with classes balanced as far as the groups allow.",
    "column": "A column of the data says the side of each row.",
    "token": "Labelled tokens were held out: a token of the test side never shows its label in training, so that "
    "remembering it cannot help. All rows serve all sides.",
}
METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "mcc": "Matthews correlation",
    "auroc": "AUROC (mean over classes)",
    "auprc": "average precision (mean over classes)",
    "ece": "calibration error (ECE)",
    "loss": "cross-entropy",
}


def kept(prepared: Mapping[str, Any], files: Files) -> list[Part]:
    """What each step of preparation left, in all and per class."""
    steps = prepared["steps"]
    names = sorted({name for step in steps for name in step["per_class"]}, key=lambda n: _first_count(steps, n))
    rows: list[list[Any]] = [["all rows", *(step["rows"] for step in steps)]]
    rows += [[name, *(step["per_class"].get(name, 0) for step in steps)] for name in names]
    share = percent(steps[-1]["rows"], steps[0]["rows"])
    parts = [
        text(f"{steps[-1]['rows']:,} of {steps[0]['rows']:,} rows ({share}) were kept."),
        table(["class", *(step["step"] for step in steps)], rows, "Rows after each step"),
    ]
    if prepared.get("notes"):
        parts.append(notes(prepared["notes"]))
    if prepared.get("genes"):
        parts += genes(prepared["genes"])
    histogram = (prepared.get("lengths") or {}).get("histogram")
    if histogram and histogram["counts"]:
        spread = prepared["lengths"]
        caption = f"Median {spread['median']:,.0f}, mean {spread['mean']:,.0f}, longest {spread['max']:,} tokens."
        parts.append(figure(figures.lengths(histogram, None), "lengths", caption, files))
    return parts


def _first_count(steps: Sequence[Mapping[str, Any]], name: str) -> tuple[int, str]:
    return (-max(step["per_class"].get(name, 0) for step in steps), name)


def genes(found: Mapping[str, Any]) -> list[Part]:
    rows = [[name, c["given"], c["known"], c["seen"]] for name, c in found["per_class"].items()]
    missing = found["missing_from_vocabulary"]
    parts = [table(["class", "tokens given", "in the vocabulary", "seen in the data"], rows, "Labelled tokens")]
    if missing["count"]:
        parts.append(
            text(f"{missing['count']:,} are not in the vocabulary, such as {', '.join(missing['examples'][:5])}.")
        )
    return parts


def split(prepared: Mapping[str, Any], files: Files) -> list[Part]:
    found = prepared.get("split")
    if not found:
        return [text("There is no split: the data was not divided.")]
    unit = found.get("unit", "row")
    sides = {side: values["per_class"] for side, values in found["sides"].items() if values.get("rows")}
    parts = [
        text(STRATEGIES[found["strategy"]]),
        figure(figures.class_balance(sides, unit), "class_balance", "", files),
        table(
            ["side", f"{unit}s", "share"],
            [
                [side, values["rows"], percent(values["rows"], sum(v["rows"] for v in found["sides"].values()))]
                for side, values in found["sides"].items()
            ],
        ),
    ]
    if found["groups"]["count"] is not None:
        parts.append(text(f"{found['groups']['crossing']} of {found['groups']['count']} groups are on two sides."))
    if near := found.get("near_duplicates"):
        parts.append(text(near_words(near)))
    if found.get("missing"):
        parts.append(notes([f"{m['class']} is not on the {m['side']} side: {m['why']}." for m in found["missing"]]))
    return parts


def near_words(near: Mapping[str, Any]) -> str:
    """Rows that (nearly) occur on two sides would flatter the result."""
    if not near["crossing"]:
        return f"None of {near['checked']:,} compared rows nearly repeats a row of another side."
    examples = ", ".join(f"rows {a} and {b} ({s:.0%} alike)" for a, b, s in near["examples"][:3])
    return f"{near['crossing']:,} of {near['checked']:,} compared rows nearly repeat a row of another side: {examples}."


def training(run: Mapping[str, Any], events: Sequence[Mapping[str, Any]], files: Files) -> list[Part]:
    found = run.get("training")
    if not found:
        return [text("No training has finished in this run.")]
    learnt = [event for event in events if event.get("stage") == "train"]
    parts = [figure(figures.learning_curves(learnt, found.get("best_step")), "learning_curves", "", files)]
    rows = [
        ["optimizer steps", found.get("steps")],
        ["epochs", round(found["epochs"], 2) if found.get("epochs") is not None else None],
        ["step of the chosen model", found.get("best_step")],
        ["parameters", found.get("parameters")],
        ["parameters that learn", found.get("trainable")],
        ["precision", found.get("precision")],
        ["device", found.get("device")],
        ["global batch", found.get("global_batch")],
        ["useful tokens a second", found.get("useful_tokens_per_second")],
        ["padding", f"{100 * found['padding_share']:.1f} %" if found.get("padding_share") is not None else None],
        ["seconds", found.get("seconds")],
        ["seconds waited for checkpoints", found.get("checkpoint_wait_seconds")],
    ]
    parts.append(table(["", ""], [row for row in rows if row[1] is not None]))
    if found.get("notes"):
        parts.append(notes(found["notes"]))
    return parts


def results(evaluation: Mapping[str, Any], files: Files) -> list[Part]:
    found = evaluation["metrics"]
    rows = [
        [words, found.get(name), bounds(evaluation["intervals"].get(name)) or "–"] for name, words in METRICS.items()
    ]
    resampled = {"row": "rows", "token": "tokens"}[evaluation["bootstrap"]["unit"]]
    parts = [
        table(
            ["metric", "value", "95 % interval"],
            rows,
            f"{evaluation['units']:,} labelled {evaluation['unit']}s in {evaluation['rows']:,} rows; intervals from "
            f"{evaluation['bootstrap']['replicates']:,} resamples of {resampled}",
        ),
        figure(figures.confusion_matrix(evaluation["confusion_matrix"], evaluation["classes"]), "confusion_matrix",
               "Rows: true classes. Columns: predictions.", files),
        figure(figures.per_class(evaluation["per_class"]), "per_class", "", files),
        table(
            ["class", "precision", "recall", "F1", "support", "AUROC", "average precision"],
            [
                [c["class"], c["precision"], c["recall"], c["f1"], c["support"], c["auroc"], c["auprc"]]
                for c in evaluation["per_class"]
            ],
        ),
        figure(figures.reliability(evaluation["reliability"], found.get("ece")), "reliability",
               "Below the dashed line the model is surer than it is right.", files),
    ]  # fmt: skip
    if votes := evaluation.get("per_token_type"):
        parts.append(text(f"One vote a token (mean probability over its occurrences), {votes['tokens']:,} tokens:"))
        parts.append(
            table(
                ["metric", "value", "95 % interval"],
                [[METRICS[n], v, bounds(votes["intervals"].get(n)) or "–"] for n, v in votes["metrics"].items()],
            )
        )
    return parts


def mistakes(evaluation: Mapping[str, Any]) -> list[Part]:
    found = evaluation["mistakes"]
    if not found:
        return [text("There is none: every prediction on the test side is right.")]
    tokens = any(item["token"] is not None for item in found)
    heads = ["row", *(["position", "token"] if tokens else []), "true", "predicted", "probability", "of the true class"]
    rows = [
        [
            item["row"],
            *([item["position"], item["token"]] if tokens else []),
            item["true"],
            item["predicted"],
            item["probability"],
            item["probability_of_true"],
        ]
        for item in found
    ]
    return [table(heads, rows, "Wrong predictions that the model was surest of: wrong labels often show up here")]


def baselines(evaluation: Mapping[str, Any], files: Files) -> list[Part]:
    found = evaluation.get("baseline")
    if not found:
        return [text("No baseline was asked for.")]
    simple = found["logistic_regression"]
    models = {
        "transformer": evaluation,
        f"logistic regression ({simple['features']})": simple,
        "majority class": found["majority"],
    }
    rows = [
        [words, *(values["metrics"].get(name) for values in models.values())]
        for name, words in METRICS.items()
        if name != "loss"
    ]
    learnt = f"The logistic regression learnt from {simple['train_units']:,} examples in {simple['seconds']:.1f} s."
    return [
        text(found["verdict"]),
        figure(figures.comparison(models), "baseline", learnt, files),
        table(["metric", *models], rows),
    ]


def configuration(run: Mapping[str, Any]) -> list[Part]:
    stages = run.get("stages") or {}
    parts = []
    if stages:
        rows = [[name, mark["seconds"], mark["finished"][:19].replace("T", " ")] for name, mark in stages.items()]
        parts.append(table(["stage", "seconds", "finished (UTC)"], rows))
    if run.get("versions"):
        parts.append(table(["package", "version"], sorted(run["versions"].items())))
    parts.append(pre(yaml.safe_dump(run.get("config") or {}, sort_keys=False, allow_unicode=True)))
    return parts
