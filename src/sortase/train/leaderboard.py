"""The trials of a sweep in the run folder: what each was given, what became of it, and which is best.

``tune/trial-00003/trial.json`` is written when a trial gets its hyperparameters and again when it ends; the trial's
own checkpoints and model lie beside it. ``tune/leaderboard.csv`` tells all of them, the best first.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from .. import storage
from ..errors import ExistingOutputError, StorageError
from ..runs import layout
from ..runs.folder import RunFolder, changes, identity
from ..runs.made import difference
from ..storage.scratch import Scratch

COLUMNS = ("trial", "status", "metric", "step", "seconds")
SWEEP = "search"  # under which an attempt notes down what its search belongs to
FORMER = "tune/settings.json"  # where an earlier release did
Status = Literal["unfinished", "done", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """``metric`` is that of the model which the trial keeps. ``start_seconds``: from its hyperparameters being given
    to the beginning of training, in a process that was ``fresh`` or had trained before. ``final``: a failure that
    would only repeat itself. ``sweep``: names the settings that all its trials share."""

    number: int
    parameters: dict[str, Any]
    status: Status = "unfinished"
    metric: float | None = None
    step: int | None = None
    evaluations: int = 0
    seconds: float | None = None
    start_seconds: float | None = None
    fresh: bool | None = None
    finished: str | None = None
    error: str | None = None
    final: bool = False
    sweep: str = ""

    @property
    def name(self) -> str:
        return name_of(self.number)

    @property
    def settled(self) -> bool:
        """Whether a sweep that is started again leaves it as it is."""
        return self.status in ("done", "pruned") or (self.status == "failed" and self.final)


def name_of(number: int) -> str:
    return f"trial-{number:05d}"


def trial_folder(folder: RunFolder, number: int) -> RunFolder:
    """The trial's own run folder, for its checkpoints, its timeline and its model."""
    return RunFolder(folder.path("tune", name_of(number)), whole=folder)


class Leaderboard:
    """``lower``: whether a lower metric is better. Only a driver that still owns the run may write."""

    def __init__(self, folder: RunFolder, lower: bool):
        self.folder = folder
        self.lower = lower
        self.trials: dict[int, Trial] = {}
        self.sweep = ""

    def load(self) -> None:
        """What an earlier attempt at the same sweep has left."""
        url = self.folder.path("tune")
        self.sweep = identity(sweep_settings(self.folder) or {})
        for name in storage.list_files(url) if storage.exists(url) else []:
            if name.startswith("trial-") and name.count("/") == 1 and name.endswith("/trial.json"):
                found = Trial(**storage.read_json(storage.join(url, *name.split("/"))))
                if found.sweep in ("", self.sweep):  # without it of an earlier release
                    self.trials[found.number] = found

    def put(self, trial: Trial) -> None:
        """Write a trial down; the table follows when it has ended."""
        self.folder.fence()
        trial = replace(trial, sweep=self.sweep)
        self.trials[trial.number] = trial
        storage.write_json(self.folder.path("tune", trial.name, "trial.json"), asdict(trial))
        if trial.status != "unfinished":
            storage.write_bytes(self.folder.path("tune", "leaderboard.csv"), self.table().encode())

    def ranked(self) -> list[Trial]:
        """The best finished one first; then pruned, unfinished and failed ones."""
        order = {"done": 0, "pruned": 1, "unfinished": 2, "failed": 3}
        sign = 1 if self.lower else -1
        return sorted(
            self.trials.values(),
            key=lambda trial: (
                order[trial.status],
                math.inf if trial.metric is None else sign * trial.metric,
                trial.number,
            ),
        )

    @property
    def best(self) -> Trial | None:
        """Pruned trials are not asked: they have no model."""
        return next((trial for trial in self.ranked() if trial.status == "done" and trial.metric is not None), None)

    def table(self) -> str:
        names = list(dict.fromkeys(name for trial in self.trials.values() for name in trial.parameters))
        written = io.StringIO()
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow([*COLUMNS, *names])
        for trial in self.ranked():
            own = [trial.name, trial.status, trial.metric, trial.step, trial.seconds]
            writer.writerow([_cell(value) for value in (*own, *(trial.parameters.get(name) for name in names))])
        return written.getvalue()

    def counts(self) -> dict[str, int]:
        return dict(sorted(Counter(trial.status for trial in self.trials.values()).items()))


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list | bool) else value


def claim_sweep(folder: RunFolder, inputs: dict[str, Any], replace: bool) -> None:
    """The trials below ``tune/`` belong to these settings; those of others are refused or discarded.

    The number of trials is not among them: a sweep may be made longer.
    """
    if not sweep_fits(folder, inputs, replace):
        storage.remove(folder.path("tune"))
    folder.keep(SWEEP, _plain(inputs))


def sweep_settings(folder: RunFolder) -> Any:
    """Those that the trials below ``tune/`` share; None where there are none."""
    return folder.kept(SWEEP) or folder.read(FORMER)


def sweep_fits(folder: RunFolder, inputs: dict[str, Any], replace: bool) -> bool:
    """Whether there is no sweep with other settings; without ``replace`` such a one is refused."""
    plain, earlier = _plain(inputs), sweep_settings(folder)
    if earlier is None or identity(earlier) == identity(plain):
        return True
    if not any(name.startswith("trial-") for name in storage.list_files(folder.path("tune"))):
        return True
    if not replace:
        raise ExistingOutputError(
            f"{folder.path('tune')} holds a sweep that began with other settings: {changes(earlier, plain)}. "
            "Use --replace (replace=True) to discard it, or another run name"
        )
    return False


def _plain(inputs: dict[str, Any]) -> Any:
    plain = json.loads(json.dumps(inputs, default=str))
    plain["tune"].pop("trials")
    return plain


def take_model(folder: RunFolder, trial: Trial) -> None:
    """Copy the trial's model to where the run's model lies.

    StorageError where it is not what the trial saved; the trial is unfinished then.
    """
    own = trial_folder(folder, trial.number)
    told = own.described()
    name = layout.RUN if told is None else difference(own.url, told.get("files") or {})
    if name is not None:
        undone = asdict(replace(trial, status="unfinished", finished=None))
        storage.write_json(own.path("trial.json"), undone)
        raise StorageError(
            f"{own.path(*name.split('/'))} is not what {trial.name} made: an earlier attempt or another program has "
            "written there meanwhile; the same command goes on with this trial"
        )
    source = own.model
    with Scratch("best") as scratch:
        local = scratch / "model"
        storage.download(source, local)
        folder.fence()
        if folder.model_name:
            storage.remove(folder.model)
        storage.upload(local, folder.model)
