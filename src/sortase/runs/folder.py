"""The run folder: where a run's files lie, which stages are finished, and who may write.

A stage is finished when its mark, `stages/<stage>.json`, exists, and the files that it names are as it says; the mark
is written last. Each attempt notes its marks under its own number too, and the latest attempt's count. A later attempt
at the same run takes it over: the earlier one is refused at its next publication, and what it had begun to write is
told from the files of the later one by the hashes in the marks.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import storage
from ..errors import ExistingOutputError, FencedError, MissingInputError, StorageError
from ..redact import redacted
from ..storage.written import recording
from . import layout
from .layout import DataPaths
from .made import belongs, difference, made

STAGES = ("tokenize", "prepare", "train", "tune", "evaluate", "predict", "report")  # each builds on those before it
FITTING = ("train", "tune")  # those that make the model
PACKAGES = ("sortase", "torch", "transformers", "datasets", "accelerate", "numpy", "pyarrow", "scikit-learn")


def digest(value: Any) -> str:
    """A short, stable name for plain settings; 1.0 is 1, as not every writer of YAML tells them apart."""
    return hashlib.sha256(json.dumps(_whole(value), sort_keys=True, default=str).encode()).hexdigest()[:32]


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def identity(inputs: dict[str, Any]) -> str:
    """A name for the inputs of a stage: files count by what they hold (``inputs["files"]``), not by where they lie."""
    files = inputs.get("files")
    if not files:
        return digest(inputs)
    settings = {name: value for name, value in inputs.items() if name != "files"}
    return digest({**_located(settings, files), "files": sorted(files.values())})


def _located(value: Any, files: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _located(inner, files) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_located(inner, files) for inner in value]
    return files.get(value, value) if isinstance(value, str) else value


def contents(*urls: str | None, names: Iterable[str | None] = ()) -> dict[str, str]:
    """Fingerprints of these files and folders. ``names`` may be a hub's, which have none.

    MissingInputError for a path at which there is nothing.
    """
    here = [name for name in names if name is not None and storage.is_located(name)]
    return {url: storage.fingerprint(url) for url in [*urls, *here] if url is not None}


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def code() -> dict[str, Any]:
    """What is running: the package's version and commit, and the container image, as far as the environment tells."""
    names = ("SORTASE_REVISION", "GITHUB_SHA", "CI_COMMIT_SHA")
    commit = next((os.environ[name] for name in names if os.environ.get(name)), None)
    return {"code": {"sortase": version("sortase"), "commit": commit}, "image": os.environ.get("SORTASE_IMAGE") or None}


MODEL = "model"  # where in a run folder the model lies
DESCRIPTION = "run"  # what run.json shows, as each attempt has noted it down


@dataclass
class RunFolder:
    """One run's folder in storage. ``model_name`` is where in it the model lies; empty for the folder itself.

    ``number`` is the attempt's, once it has begun. ``whole``: the run that this folder is a trial of; who takes that
    over has taken over this one too.
    """

    url: str
    model_name: str = MODEL
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)
    whole: RunFolder | None = None
    number: int = 0

    def path(self, *parts: str) -> str:
        return storage.join(self.url, *parts)

    def data(self, prefix: str) -> DataPaths:
        """Paths of what was tokenized and prepared; ``prefix`` as run.yaml has it."""
        return DataPaths(self.path(layout.DATA), prefix)

    @property
    def model(self) -> str:
        return self.path(self.model_name) if self.model_name else self.url

    def read(self, name: str) -> Any:
        """A JSON file of the folder, or None where there is none."""
        url = self.path(*name.split("/"))
        return storage.read_json(url) if storage.exists(url) else None

    def keep(self, name: str, value: Any) -> None:
        """Note something down under this attempt's own number, so that an earlier one that was held, and writes late,
        does not write over it."""
        storage.write_json(self.path("attempts", f"{self.number:05d}-{name}.json"), value)

    def kept(self, name: str) -> Any:
        """What the latest attempt that has noted this down said; None where none has."""
        return self._kept(name, storage.list_files(self.path("attempts")))

    def _kept(self, name: str, names: Iterable[str]) -> Any:
        for own in sorted((each for each in names if re.fullmatch(rf"\d+-{name}\.json", each)), reverse=True):
            with suppress(MissingInputError):  # it was refused, and gave the run back
                return storage.read_json(self.path("attempts", own))
        return None

    def described(self) -> Any:
        """run.json as the latest attempt wrote it, whoever has written there since; None where there is none."""
        return self.kept(DESCRIPTION) or self.read(layout.RUN)

    def description(self) -> dict[str, Any]:
        """`described` of a run that has begun; MissingInputError where it is lost."""
        found = self.described()
        if found is None:
            raise MissingInputError(f"{self.path('run.json')} is gone; the same command makes it again")
        return dict(found)

    def begin(self, least: int = 1) -> int:
        """Take the run over, with the next free number from ``least``, which is returned: from here on an earlier
        attempt is refused. Of two that begin at once one gets the number and the other one the next."""
        told = {"id": self.attempt, "started": now(), "host": socket.gethostname(), "pid": os.getpid()}
        number = max(least, 1 + max(self._claims(), default=0))
        while not storage.claim_json(self._claim(number), {**told, "number": number}):
            number += 1
        self.number = number
        try:
            self.fence()
        except FencedError:
            if self.whole is not None:  # the later attempt at the whole may be at work here
                storage.remove(self._claim(number))
            raise
        return number

    def give_back(self) -> None:
        """The run is that of the attempt before, as if this one had not begun."""
        for name in storage.list_files(self.path("events")):
            if name.startswith(f"{self.number:05d}-"):
                storage.remove(self.path("events", name))
        for number in self._claims():
            if storage.read_json(self._claim(number))["id"] == self.attempt:
                for name in storage.list_files(self.path("attempts")):
                    if name.startswith(f"{number:05d}-"):
                        storage.remove(self.path("attempts", name))
                storage.remove(self._claim(number))

    def _claim(self, number: int) -> str:
        return self.path("attempts", f"{number:05d}.json")

    def _claims(self) -> list[int]:
        """Numbers of the attempts that have begun. Another one's may be taken back meanwhile."""
        names = storage.list_files(self.path("attempts"))
        return sorted(int(name.removesuffix(".json")) for name in names if re.fullmatch(r"\d+\.json", name))

    def holder(self) -> Any:
        """The attempt that has the run: the latest that began; None where none did."""
        for number in reversed(self._claims()):
            with suppress(MissingInputError):  # it was refused, and gave the run back
                return storage.read_json(self._claim(number))
        return self.read("attempt.json")  # of a run that an earlier release began

    def fence(self) -> None:
        """Refuse to go on when a later attempt has taken the run over."""
        if self.whole is not None:
            self.whole.fence()
        current = self.holder()
        if current is None and self.number:
            raise StorageError(
                f"{self.path('attempts')} is gone, and nothing tells which attempt has this run: somebody has removed "
                "files of it while it was worked on"
            )
        if current is not None and current["id"] != self.attempt:
            raise FencedError(
                f"attempt {current['number']} (started {current['started']} on {current['host']}) has taken over "
                f"{self.url}; this one stops without publishing"
            )

    def describe(self, **parts: Any) -> None:
        """Merge these parts into run.json. What the stages found is taken from their marks."""
        description = self.described() or {"created": now()}
        marks = self.stages()
        description.update(redacted(parts))
        if "train" in marks:
            description["training"] = marks["train"]["result"]
        if "tune" in marks:
            description.update({k: v for k, v in marks["tune"]["result"].items() if k in ("training", "tuning")})
        self.fence()
        description["stages"] = marks
        self.keep(DESCRIPTION, description)
        storage.write_json(self.path(layout.RUN), description)

    def mark(self, stage: str) -> Any:
        """What the latest attempt says of a finished stage; None where it is not finished."""
        return self._marks([stage]).get(stage)

    def stages(self) -> dict[str, Any]:
        """Marks of all finished stages, in the order in which they finished."""
        return dict(sorted(self._marks(STAGES).items(), key=lambda item: item[1]["finished"]))

    def _marks(self, wanted: Iterable[str]) -> dict[str, Any]:
        names = [name.removesuffix(".json") for name in storage.list_files(self.path("stages"))]
        noted = storage.list_files(self.path("attempts")) if names else {}
        found = {name: self._latest(name, noted) for name in names if name in wanted}
        return {name: mark for name, mark in found.items() if mark}

    def _latest(self, stage: str, noted: Iterable[str]) -> Any:
        """An earlier attempt that was held may have written `stages/<stage>.json` last."""
        kept = self._kept(_mark(stage), noted)
        return self.read(f"stages/{stage}.json") if kept is None else kept

    def is_done(self, stage: str, inputs: dict[str, Any], replace: bool = False) -> bool:
        """Whether the stage finished with these inputs. Other inputs are refused unless ``replace``."""
        mark = self.mark(stage)
        if mark is None or (mark["inputs"] == identity(inputs) and self.damage(mark) is not None):
            return False
        if mark["inputs"] == identity(inputs):
            return True
        if not replace:
            raise ExistingOutputError(
                f"stage '{stage}' of {self.url} was finished with other inputs: {changes(mark['settings'], inputs)}. "
                "Use --replace (replace=True) to discard its results, or another run name"
            )
        return False

    def damage(self, mark: dict[str, Any]) -> str | None:
        """A file of a finished stage that is not what the stage made. Marks of earlier releases name none."""
        return difference(self.url, mark.get("files") or {})

    def check_made(self, until: str = STAGES[-1]) -> None:
        """StorageError where a file of a finished stage, up to this one, is not what the stage made."""
        for stage in STAGES[: STAGES.index(until) + 1]:
            mark = self.mark(stage)
            if mark is not None and (name := self.damage(mark)) is not None:
                raise StorageError(
                    f"{self.path(*name.split('/'))} is not what stage '{stage}' made: an earlier attempt or another "
                    "program has written there meanwhile; the same command makes it again"
                )

    def other_models(self, stage: str, replace: bool) -> list[str]:
        """A folder holds one model: the one that training made gives way to a search's, or the other way round, only
        with ``replace``. Returns the stages that made one."""
        others = [other for other in FITTING if other != stage and self.mark(other) is not None]
        if others and not replace:
            raise ExistingOutputError(
                f"stage '{others[0]}' made the model in {self.url}, and now stage '{stage}' shall. "
                "Use --replace (replace=True) to discard it, or another run name"
            )
        return others

    def claim_model(self, stage: str, replace: bool) -> None:
        """Discard the model of another stage."""
        for other in self.other_models(stage, replace):
            self.take_away(other)
            self.describe(training=None, tuning=None)

    def take_away(self, stage: str) -> None:
        """The mark of a stage: it is not finished then."""
        url = self.path("stages", f"{stage}.json")
        if storage.exists(url):
            self.keep(_mark(stage), {})  # an earlier attempt that was held may bring it back
            storage.remove(url)

    @contextmanager
    def stage(self, name: str, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Run a stage and mark it finished. The dict that is yielded becomes the mark's ``result``."""
        self._discard(name, inputs)
        started, clock = now(), time.monotonic()
        result: dict[str, Any] = {}
        with recording(partial(belongs, self.url)) as record:
            yield result
        self.fence()
        self.check_made(name)
        settings = json.loads(json.dumps(inputs, default=str))
        mark = {
            "status": "done",
            "attempt": self.attempt,
            "inputs": identity(inputs),
            "settings": redacted(settings),
            **code(),
            "started": started,
            "finished": datetime.now(UTC).isoformat(),
            "seconds": round(time.monotonic() - clock, 3),
            "result": redacted(result),
            "files": made(self.url, record),
        }
        self.keep(_mark(name), mark)
        url = self.path("stages", f"{name}.json")
        if not storage.claim_json(url, mark):  # another attempt was quicker: a later one, or one that was held
            self.fence()
            storage.write_json(url, mark)

    def _discard(self, stage: str, inputs: dict[str, Any]) -> None:
        """The mark of the stage, and its files where they are damaged: nothing may be taken for finished then."""
        mark = self.mark(stage)
        self.take_away(stage)
        if mark is not None and mark["inputs"] == identity(inputs) and self.damage(mark) is not None:
            for name in mark["files"]:
                storage.remove(self.path(*name.split("/")))


def _mark(stage: str) -> str:
    return f"{stage}-mark"


def changes(before: Any, after: Any, path: str = "") -> str:
    """Which settings differ, in words: ``train.learning_rate 5e-05 → 0.001``."""
    known, given = redacted([before, json.loads(json.dumps(after, default=str))])
    return "; ".join(_changes(known, given, path)) or "nothing that is named"


def _changes(before: Any, after: Any, path: str) -> list[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted(before.keys() | after.keys())
        return [
            change
            for key in keys
            for change in _changes(before.get(key), after.get(key), f"{path}.{key}" if path else key)
        ]
    return [] if before == after else [f"{path} {before!r} → {after!r}"]
