"""What a run folder tells of its run while it is worked on and afterwards, without the cluster."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from .. import storage
from ..errors import MissingInputError
from ..wording import duration
from .attempts import outcomes
from .events import read_events
from .folder import FITTING, RunFolder

_MANIFEST = re.compile(r"step-(\d+)/manifest\.json")


@dataclass(frozen=True, kw_only=True)
class Overview:
    """``state``: working, or the last attempt's outcome. ``quiet_seconds``: since the timeline's last line."""

    folder: str
    attempt: int
    state: str
    error: str | None = None
    exit_code: int | None = None
    stages: dict[str, float] = field(default_factory=dict)  # of finished ones, seconds
    stage: str | None = None
    step: int | None = None
    steps: int | None = None
    step_seconds: float | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    metrics_step: int | None = None
    trials: dict[str, int] = field(default_factory=dict)  # of a search, by what became of them
    checkpoint: str | None = None
    quiet_seconds: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """For a person, one matter a line."""
        told = [f"folder     {self.folder}", f"attempt    {self.attempt}, {self.state}"]
        if self.quiet_seconds is not None and self.state == "working":
            told[-1] += f", last heard of {duration(self.quiet_seconds)} ago"
        if self.error:
            told.append(f"error      {self.error} (exit code {self.exit_code})")
        if self.stages:
            told.append(
                "finished   " + ", ".join(f"{name} {duration(seconds)}" for name, seconds in self.stages.items())
            )
        if self.stage:
            told.append(f"stage      {self.stage}{self._progress()}")
        if self.trials:
            told.append("trials     " + ", ".join(f"{count} {state}" for state, count in self.trials.items()))
        if self.metrics:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
            told.append(f"metrics    {shown}" + (f" (step {self.metrics_step})" if self.metrics_step else ""))
        if self.checkpoint:
            told.append(f"durable    {self.checkpoint}")
        return told

    def _progress(self) -> str:
        if self.step is None:
            return ""
        words = f", step {self.step}" + (f" of {self.steps} ({self.step / self.steps:.0%})" if self.steps else "")
        if self.step_seconds:
            words += f", {1 / self.step_seconds:.3g} steps/s"
        if self.tokens_per_second:
            words += f", {self.tokens_per_second:,.0f} tokens/s"
        return words + (f", about {duration(self.seconds_left)} left" if self.seconds_left else "")


def overview(folder: RunFolder) -> Overview:
    """Read what there is.

    Raises:
        MissingInputError: nothing has been run there yet.
    """
    begun = folder.holder()
    ended = {outcome["attempt"]: outcome for outcome in outcomes(folder.url)}
    number = max([*ended, begun["number"] if begun else 0])
    if not number:
        raise MissingInputError(f"{folder.url} holds no run: nothing has begun there")
    outcome = ended.get(number)
    lines = read_events(folder)
    stage = next((line["stage"] for line in reversed(lines) if line["event"] in ("start", "end")), None)
    is_over = {line["stage"]: line["event"] == "end" for line in lines if line["event"] in ("start", "end")}
    marks = folder.stages()
    return Overview(
        folder=folder.url,
        attempt=number,
        state=outcome["state"] if outcome else "working",
        error=outcome["error"] if outcome else None,
        exit_code=outcome["exit_code"] if outcome else None,
        stages={name: mark["seconds"] for name, mark in marks.items()},
        stage=None if stage is None or is_over.get(stage) else stage,
        trials=_trials(lines),
        checkpoint=_checkpoint(folder),
        quiet_seconds=_quiet(lines),
        **_training(lines, marks),
    )


def _training(lines: list[dict[str, Any]], marks: dict[str, Any]) -> dict[str, Any]:
    """Progress of the training under way, and the newest metrics: of the test side where it was evaluated."""
    of_it = [line for line in lines if line["stage"] == "train"]
    planned: dict[str, Any] = next((line for line in reversed(of_it) if line["event"] == "steps"), {})
    found: dict[str, Any] = {"steps": planned.get("last")}
    for line in of_it:
        if "step" in line:
            found["step"] = line["step"]
        found.update({name: line[name] for name in ("step_seconds", "tokens_per_second") if name in line})
        if line["event"] == "evaluate":
            found["metrics_step"] = line["step"]
            found["metrics"] = {name: value for name, value in line.items() if name.startswith("eval_")}
    fitted = any(stage in marks for stage in FITTING)
    if found.get("step_seconds") and found["steps"] and not fitted:
        found["seconds_left"] = (found["steps"] - found["step"]) * found["step_seconds"]
    evaluated = marks.get("evaluate")
    if evaluated:
        numbers = {name: value for name, value in evaluated["result"]["metrics"].items() if isinstance(value, float)}
        found |= {"metrics": numbers, "metrics_step": None}
    found["metrics"] = dict(list(found.get("metrics", {}).items())[:8])
    return found


def _trials(lines: list[dict[str, Any]]) -> dict[str, int]:
    newest = {line["trial"]: line["event"] for line in lines if line["stage"] == "tune" and "trial" in line}
    return dict(sorted(Counter(newest.values()).items()))


def _checkpoint(folder: RunFolder) -> str | None:
    url = folder.path("checkpoints")
    steps = [int(match[1]) for name in storage.list_files(url) if (match := _MANIFEST.fullmatch(name))]
    return storage.join(url, f"step-{max(steps):08d}") if steps else None


def _quiet(lines: list[dict[str, Any]]) -> float | None:
    if not lines:
        return None
    return (datetime.now(UTC) - datetime.fromisoformat(lines[-1]["time"])).total_seconds()
