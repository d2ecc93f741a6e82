"""The run folder: where a run's files lie, which stages are finished, and who may write.

A stage is finished when its mark, `stages/<stage>.json`, exists; the mark is written last. A later attempt at the
same run takes it over: the earlier one is refused at its next publication, so that their files never mix.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import storage
from ..errors import ExistingOutputError, FencedError
from ..redact import redacted

FITTING = ("train", "tune")  # the stages that make the model
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


def contents(*urls: str | None) -> dict[str, str]:
    """Fingerprints of the files and folders among these that exist; other names, such as a hub's, have none."""
    return {url: storage.fingerprint(url) for url in urls if url is not None and storage.exists(url)}


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


@dataclass
class RunFolder:
    """One run's folder in storage. ``model_name`` is where in it the model lies; empty for the folder itself."""

    url: str
    model_name: str = "model"
    attempt: str = field(default_factory=lambda: uuid.uuid4().hex)

    def path(self, *parts: str) -> str:
        return storage.join(self.url, *parts)

    @property
    def model(self) -> str:
        return self.path(self.model_name) if self.model_name else self.url

    def read(self, name: str) -> Any:
        """A JSON file of the folder, or None where there is none."""
        url = self.path(*name.split("/"))
        return storage.read_json(url) if storage.exists(url) else None

    def begin(self) -> None:
        """Take the run over: from here on an earlier attempt can publish nothing."""
        earlier = self.read("attempt.json")
        number = earlier["number"] + 1 if earlier else 1
        storage.write_json(
            self.path("attempt.json"),
            {"id": self.attempt, "number": number, "started": now(), "host": socket.gethostname(), "pid": os.getpid()},
        )

    def fence(self) -> None:
        """Refuse to go on when a later attempt has taken the run over."""
        current = self.read("attempt.json")
        if current is not None and current["id"] != self.attempt:
            raise FencedError(
                f"attempt {current['number']} (started {current['started']} on {current['host']}) has taken over "
                f"{self.url}; this one stops without publishing"
            )

    def describe(self, **parts: Any) -> None:
        """Merge these parts into run.json."""
        description = self.read("run.json") or {"created": now()}
        description.update(redacted(parts))
        description["stages"] = self.stages()
        storage.write_json(self.path("run.json"), description)

    def mark(self, stage: str) -> Any:
        return self.read(f"stages/{stage}.json")

    def stages(self) -> dict[str, Any]:
        """Marks of all finished stages, in the order in which they finished."""
        url = self.path("stages")
        names = [name.removesuffix(".json") for name in storage.list_files(url)] if storage.exists(url) else []
        marks = {name: self.mark(name) for name in names}
        return dict(sorted(marks.items(), key=lambda item: item[1]["finished"]))

    def is_done(self, stage: str, inputs: dict[str, Any], replace: bool = False) -> bool:
        """Whether the stage finished with these inputs. Other inputs are refused unless ``replace``."""
        mark = self.mark(stage)
        if mark is None:
            return False
        if mark["inputs"] == digest(inputs):
            return True
        if not replace:
            raise ExistingOutputError(
                f"stage '{stage}' of {self.url} was finished with other inputs: {changes(mark['settings'], inputs)}. "
                "Use --replace (replace=True) to discard its results, or another run name"
            )
        return False

    def claim_model(self, stage: str, replace: bool) -> None:
        """A folder holds one model: the one that training made gives way to a search's, or the other way round, only
        with ``replace``."""
        for other in FITTING:
            if other == stage or self.mark(other) is None:
                continue
            if not replace:
                raise ExistingOutputError(
                    f"stage '{other}' made the model in {self.url}, and now stage '{stage}' shall. "
                    "Use --replace (replace=True) to discard it, or another run name"
                )
            storage.remove(self.path("stages", f"{other}.json"))
            self.describe(training=None, tuning=None)

    @contextmanager
    def stage(self, name: str, inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Run a stage and mark it finished. The dict that is yielded becomes the mark's ``result``."""
        storage.remove(self.path("stages", f"{name}.json"))
        started, clock = now(), time.monotonic()
        result: dict[str, Any] = {}
        yield result
        self.fence()
        settings = json.loads(json.dumps(inputs, default=str))
        storage.write_json(
            self.path("stages", f"{name}.json"),
            {
                "status": "done",
                "inputs": digest(inputs),
                "settings": redacted(settings),
                **code(),
                "started": started,
                "finished": datetime.now(UTC).isoformat(),
                "seconds": round(time.monotonic() - clock, 3),
                "result": redacted(result),
            },
        )


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
