"""What a report says about the search of hyperparameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..figures.tune import best_so_far, parallel
from .parts import Files, Part, Right, duration, figure, several, table, text, written

MOST_ROWS = 20
WORDS = {"done": "trained to the end", "pruned": "ended early", "failed": "failed", "unfinished": "unfinished"}


def tuning(run: Mapping[str, Any], files: Files) -> list[Part]:
    """The best hyperparameters, both figures, and the best trials; nothing for a run without a search."""
    found = run.get("tuning")
    if not found:
        return []
    rows, metric = found["table"], found["metric"]
    counts = ", ".join(f"{count} {WORDS.get(status, status)}" for status, count in found["counts"].items())
    parts = [
        text(
            f"{several(found['trials'], 'trial')} ({counts}) in {duration(found['seconds'])}, "
            f"{found['at_a_time']} at a time. The best is {found['best']} with {metric} {written(found['value'])} on "
            "the validation side. It was chosen by that figure, which is therefore too favourable; those of the test "
            "side are not."
        ),
        table(["hyperparameter", "of the best trial"], [[name, _value(v)] for name, v in found["parameters"].items()]),
    ]
    if sum(row["metric"] is not None for row in rows) > 1:
        caption = "Each line is a trial. Trials that ended early show the metric of their best evaluation until then."
        drawn = parallel(rows, metric, found["best"])
        parts.append(figure(drawn, "tune_parallel", "Hyperparameters of all trials and their results", caption, files))
        drawn = best_so_far(rows, metric, found["mode"] == "min")
        parts.append(figure(drawn, "tune_best", "Results of trials in the order they ended", "", files))
    parts.append(_table(rows, metric, list(found["parameters"])))
    if starts := _starts(found["start_seconds"]):
        parts.append(text(starts))
    return parts


def _table(rows: list[dict[str, Any]], metric: str, names: list[str]) -> Part:
    cells = [
        [
            row["name"],
            WORDS.get(row["status"], row["status"]),
            row["metric"],
            row["step"],
            duration(row["seconds"]),
            *(_value(row["parameters"].get(name)) for name in names),
        ]
        for row in rows[:MOST_ROWS]
    ]
    rest = f"The best {MOST_ROWS} of {len(rows)}; all are in tune/leaderboard.csv" if len(rows) > MOST_ROWS else ""
    return table(["trial", "", metric, "step", "time", *names], cells, rest)


def _value(value: Any) -> Any:
    """Small numbers keep their digits, unlike those of results."""
    if isinstance(value, float):
        return Right(f"{value:.4g}".replace("-", "−"))
    return json.dumps(value) if isinstance(value, dict | list | bool) else value


def _starts(seconds: Mapping[str, float | None]) -> str:
    words = {"new_process": "in a new process", "kept_process": "in one that had trained before"}
    told = [f"{duration(seconds[kind])} {said}" for kind, said in words.items() if seconds.get(kind) is not None]
    return f"Start of a trial until it trains, median: {', '.join(told)}." if told else ""
