"""What a report says about the run itself: training, speed, settings, versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...config.load import dump
from ..figures import data
from .parts import Files, Part, Right, duration, figure, notes, percent, pre, table, text, written

MOST_ITEMS = 20
_SHOWN = 5


def _epochs(value: float) -> Right:
    return Right(f"{value:.4g}")


TRAINING: dict[str, tuple[str, Callable[[Any], str]]] = {
    "steps": ("optimizer steps", written),
    "epochs": ("passes over the data (epochs)", _epochs),
    "best_step": ("step of the checkpoint that was kept", written),
    "resumed_from": ("continued from step", written),
    "global_batch": ("examples in a step (global batch)", written),
    "rows": ("rows to learn from", written),
    "parameters": ("parameters", written),
    "from_checkpoint": ("parameters from the checkpoint", written),
    "new": ("parameters that were new", written),
    "trainable": ("parameters that learn", written),
    "precision": ("precision", str),
    "device": ("device", str),
    "seconds": ("time", duration),
    "useful_tokens_per_second": ("tokens a second, padding not counted", written),
    "padding_share": ("padding", percent),
    "checkpoint_wait_seconds": ("time waited for checkpoints", duration),
}


def training(run: Mapping[str, Any], events: Sequence[Mapping[str, Any]], files: Files) -> list[Part]:
    """Curves, speed, and what was switched."""
    found = run.get("training") or {}
    learnt = [event for event in events if event.get("stage") == "train" and "step" in event]
    parts = [] if found else [text("No training has finished in this run.")]
    if learnt:
        metric = ((run.get("config") or {}).get("train") or {}).get("metric")
        drawn = data.learning_curves(learnt, found.get("best_step"), metric)
        caption = "Training loss is of single batches with dropout, validation loss of the whole side without it."
        parts.append(figure(drawn, "learning_curves", "Losses and metrics during training", caption, files))
    rows = [
        [words, Right(form(found[name]))] for name, (words, form) in TRAINING.items() if found.get(name) is not None
    ]
    if rows:
        parts.append(table(["training", ""], rows))
    if found.get("notes"):
        parts += [text("What was switched on or off:"), notes(found["notes"])]
    return parts


def predictions(run: Mapping[str, Any]) -> list[Part]:
    """Counts of the predictions for unlabelled data, where there are any."""
    counts = (((run.get("stages") or {}).get("predict") or {}).get("result") or {}).get("counts")
    if not counts:
        return []
    total = sum(counts.values())
    rows = sorted(([name, n, percent(n, total)] for name, n in counts.items()), key=lambda row: -row[1])
    return [table(["predicted class", "count", "share"], rows, "Predictions for data without labels")]


def configuration(run: Mapping[str, Any]) -> list[Part]:
    parts = []
    stages = {name: mark for name, mark in (run.get("stages") or {}).items() if mark}
    if stages:
        rows = [[name, duration(mark.get("seconds")), _moment(mark.get("finished"))] for name, mark in stages.items()]
        parts.append(table(["stage", "time", "finished (UTC)"], rows))
    if run.get("versions"):
        parts.append(table(["package", "version"], sorted(run["versions"].items())))
    if (run.get("data") or {}).get("fingerprint"):
        parts.append(text(f"Fingerprint of the data: {run['data']['fingerprint']}"))
    if not run.get("config"):
        return [*parts, text("The run does not say its configuration.")]
    settings = dump(shortened(run["config"]))
    return [*parts, pre(settings)]


def _moment(iso: str | None) -> str:
    return (iso or "–")[:19].replace("T", " ")


def shortened(value: Any) -> Any:
    """Long lists, such as the genes of a class, with their beginning only; all of it is in run.json."""
    if isinstance(value, Mapping):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        if len(value) > MOST_ITEMS:
            return [*map(shortened, value[:_SHOWN]), f"… and {len(value) - _SHOWN:,} more, all in run.json"]
        return [shortened(item) for item in value]
    return value
