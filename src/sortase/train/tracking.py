"""Experiment trackers hear the timeline of a training on rank 0.

Each has a thread of its own, so that no step waits for a service, and none that hangs holds up the other ranks. One
that fails is said to, and left out; the training goes on. The library's own integrations (``report_to``) are left
alone: they keep one global run a process, begin a new one whenever a training continues, and know no run folders.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .. import storage
from ..config.tracking import TrackingSpec, check_mlflow_uri
from ..deadlines import limit
from ..errors import CancelledError, ConfigError, FencedError, MissingExtraError
from ..redact import redacted
from ..runs.events import Events
from ..runs.folder import RunFolder
from ..storage.scratch import Scratch
from .trackers import TRACKERS, Tracker, TrackingContext, plain_name


def check_tracking(spec: TrackingSpec, folder: RunFolder, *, here: bool = True) -> None:
    """Whether each tracker can be used. ``here``: whether this process, or one on this machine, is to train.

    Raises:
        MissingExtraError: a tracker is not installed.
        ConfigError: MLflow has nowhere to write, or W&B no key.
    """
    for name in spec.to:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"tracking.to {name} needs the extra '{name}': pip install 'sortase[{name}]'")
    if "mlflow" in spec.to:
        _mlflow_uri(spec, folder)
    if "wandb" in spec.to and spec.wandb_mode == "online" and here and not _has_wandb_key():
        raise ConfigError(
            "tracking.to wandb has no key: set WANDB_API_KEY, log in with `wandb login`, or choose "
            "tracking.wandb_mode: offline"
        )


def tracking_for(spec: TrackingSpec, folder: RunFolder) -> TrackingSpec:
    """The same with MLflow's default database in this run folder, for trainings in folders below it."""
    if "mlflow" not in spec.to or spec.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI"):
        return spec
    return spec.model_copy(update={"mlflow_uri": _mlflow_uri(spec, folder)})


@contextmanager
def tracked(
    spec: TrackingSpec, events: Events, folder: RunFolder, name: str, settings: Any, log: Callable[[str], None]
) -> Iterator[None]:
    """As long as the block lasts the trackers hear of what ``events`` gets. ``settings`` are noted once a run."""
    check_tracking(spec, folder)
    if not spec.to:
        yield
        return
    status = "failed"
    with ExitStack() as undo:
        url = folder.path("tracking")
        local = undo.enter_context(Scratch("tracking")) if storage.is_remote(url) else storage.local_path(url)
        told = TrackingContext(
            name=name,
            project=spec.project,
            settings={plain_name(key): value for key, value in _flat(redacted(settings)).items()},
            folder=folder,
            local=local,
            mlflow_uri=_mlflow_uri(spec, folder) if "mlflow" in spec.to else "",
            wandb_mode=spec.wandb_mode,
        )
        listener = _Listener(events, [_Feed(kind, TRACKERS[kind](told), log) for kind in spec.to])
        undo.callback(lambda: listener.end(status))
        events.listeners.append(listener)
        undo.callback(events.listeners.remove, listener)
        try:
            yield
            status = "finished"
        except FencedError:
            status = "fenced"
            raise
        except CancelledError:
            status = "stopped"
            raise


class _Feed:
    """One tracker in its thread, which ends with the tracker's first failure."""

    def __init__(self, kind: str, tracker: Tracker, log: Callable[[str], None]):
        self.kind, self.tracker, self.log = kind, tracker, log
        self.calls: queue.SimpleQueue[tuple[str, tuple[Any, ...]]] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self._work, name=f"tracking-{kind}", daemon=True)
        self.thread.start()

    def tell(self, what: str, *arguments: Any) -> None:
        self.calls.put((what, arguments))

    def wait(self, seconds: float) -> None:
        self.thread.join(max(0.0, seconds))
        if self.thread.is_alive():
            self.log(f"train: {self.kind} does not answer, and may lack the last steps")

    def _work(self) -> None:
        what = ""
        while what != "end":
            what, arguments = self.calls.get()
            try:
                getattr(self.tracker, what)(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever befalls a service that only watches
                first = str(error).strip().splitlines()[:1]
                words = f"{type(error).__name__}: {' '.join(first)}"
                self.log(redacted(f"train: {self.kind} fails and is left out from now on: {words}"))
                return


class _Listener:
    def __init__(self, events: Events, feeds: list[_Feed]):
        self.events, self.feeds = events, feeds

    def rewound(self, step: int) -> None:
        """All that the timeline still holds is told again: a killed attempt may have told less, or more."""
        self._tell("begin")
        for line in self.events.lines:
            if line["stage"] == "train" and line["event"] != "checkpoint" and "step" in line:
                self._log(line["step"], line, datetime.fromisoformat(line["time"]).timestamp())

    def heard(self, event: str, step: int, values: dict[str, Any]) -> None:
        if event == "checkpoint":
            self._tell("keep")
        else:
            self._log(step, values, time.time())

    def _log(self, step: int, values: dict[str, Any], when: float) -> None:
        numbers = {
            _grouped(name): float(value) for name, value in values.items() if _is_number(value) and name != "step"
        }
        if numbers:
            self._tell("log", step, numbers, when)

    def end(self, status: str) -> None:
        self._tell("end", status)
        deadline = time.monotonic() + limit("tracker-end")
        for feed in self.feeds:
            feed.wait(deadline - time.monotonic())

    def _tell(self, what: str, *arguments: Any) -> None:
        for feed in self.feeds:
            feed.tell(what, *arguments)


def _mlflow_uri(spec: TrackingSpec, folder: RunFolder) -> str:
    if spec.mlflow_uri:
        return spec.mlflow_uri
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        try:
            check_mlflow_uri("MLFLOW_TRACKING_URI", uri)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return uri
    if storage.is_remote(folder.url):
        raise ConfigError(
            f"tracking.to mlflow needs a server, because the run folder {folder.url} is not a local one: "
            "set tracking.mlflow_uri or MLFLOW_TRACKING_URI"
        )
    return f"sqlite:///{storage.local_path(folder.path('mlflow.db')).absolute()}"


def _has_wandb_key() -> bool:
    """Where W&B looks: its variables, and the file that `wandb login` writes."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).netloc
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path.expanduser()).authenticators(host):
                return True
        except FileNotFoundError:
            continue
        except (OSError, netrc.NetrcParseError) as error:
            raise ConfigError(f"the account of W&B cannot be read from {path}: {error}") from error
    return False


def _grouped(name: str) -> str:
    return plain_name(f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(settings: Any, path: str = "") -> dict[str, str]:
    """``train.learning_rate: 0.001``."""
    if isinstance(settings, dict) and settings:
        parts = [_flat(value, f"{path}.{name}" if path else str(name)) for name, value in settings.items()]
        return {name: value for part in parts for name, value in part.items()}
    return {path: str(settings)}
