"""Experiment trackers, fed from the timeline of a training on rank 0.

The library's own integrations (``report_to``) are left alone: they keep one global run a process, begin a new one
whenever a training continues, and know nothing of run folders. A tracker that fails is said to, and left out; the
training goes on.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from .. import storage
from ..config.tracking import TrackingSpec
from ..errors import CancelledError, ConfigError, MissingExtraError
from ..redact import redacted
from .events import Events
from .run_folder import RunFolder

Values = dict[str, float]
LONGEST = 500  # characters of a parameter
PACKED = 100  # parameters that MLflow takes at once


class Tracker(Protocol):
    """``begin`` gets the step that a training continues from (0: it begins); ``keep`` makes all so far durable."""

    def begin(self, step: int) -> None: ...

    def log(self, step: int, values: Values) -> None: ...

    def keep(self) -> None: ...

    def end(self, status: str) -> None: ...


def check_tracking(spec: TrackingSpec, folder: RunFolder) -> None:
    """Whether each tracker can be used, before anything starts.

    Raises:
        MissingExtraError: a tracker is not installed.
        ConfigError: MLflow has nowhere to write.
    """
    for name in spec.to:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(f"tracking.to {name} needs the extra '{name}': pip install 'sortase[{name}]'")
    if "mlflow" in spec.to:
        _mlflow_uri(spec, folder)


@contextmanager
def tracked(
    spec: TrackingSpec, events: Events, folder: RunFolder, name: str, settings: Any, say: Callable[[str], None]
) -> Iterator[None]:
    """As long as the block lasts the trackers hear of what ``events`` gets. ``settings`` are noted once a run."""
    check_tracking(spec, folder)
    if not spec.to:
        yield
        return
    opened: dict[str, Tracker] = {kind: KINDS[kind](spec, folder, name, _flat(redacted(settings))) for kind in spec.to}
    listener = _Listener(opened, say)
    status = "failed"
    with ExitStack() as undo:
        undo.callback(lambda: listener.tell("end", status))
        events.listeners.append(listener)
        undo.callback(events.listeners.remove, listener)
        try:
            yield
            status = "finished"
        except CancelledError:
            status = "stopped"
            raise


class _Listener:
    def __init__(self, trackers: dict[str, Tracker], say: Callable[[str], None]):
        self.trackers, self.say = trackers, say

    def rewound(self, step: int) -> None:
        self.tell("begin", max(0, step))

    def heard(self, event: str, step: int, values: dict[str, Any]) -> None:
        if event == "checkpoint":
            self.tell("keep")
            return
        numbers = {_grouped(name): float(value) for name, value in values.items() if _is_number(value)}
        if numbers:
            self.tell("log", step, numbers)

    def tell(self, what: str, *arguments: Any) -> None:
        for kind, tracker in list(self.trackers.items()):
            try:
                getattr(tracker, what)(*arguments)
            except Exception as error:  # noqa: BLE001 - whatever befalls a service that only watches
                del self.trackers[kind]
                first = str(error).strip().splitlines()[:1]
                words = f"{type(error).__name__}: {' '.join(first)}"
                self.say(redacted(f"train: {kind} fails and is left out from now on: {words}"))


class TensorBoard:
    """Event files in ``tracking/tensorboard`` of the run folder. What a killed attempt told after its last checkpoint
    is purged by the readers."""

    def __init__(self, spec: TrackingSpec, folder: RunFolder, name: str, settings: dict[str, str]):
        self.url = folder.path("tracking", "tensorboard")
        self.settings = settings
        self.writer: Any = None
        self.scratch = _scratch(self.url)
        self.local = Path(self.scratch.name) if self.scratch else storage.local_path(self.url)

    def begin(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.local), purge_step=step + 1 if step else None)
        if not step:
            rows = "\n".join(f"| {name} | {value} |" for name, value in self.settings.items())
            self.writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)

    def log(self, step: int, values: Values) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def keep(self) -> None:
        self.writer.flush()
        _keep(self.scratch, self.url)

    def end(self, status: str) -> None:
        if self.writer is not None:
            self.keep()
            self.writer.close()
        if self.scratch:
            self.scratch.cleanup()


class MLflow:
    """One run of MLflow for the run folder, which later attempts go on with; steps that it has are not told twice."""

    def __init__(self, spec: TrackingSpec, folder: RunFolder, name: str, settings: dict[str, str]):
        self.project, self.folder, self.name, self.settings = spec.project, folder, name, settings
        self.uri = _mlflow_uri(spec, folder)
        self.client: Any = None
        self.run_id = ""
        self.known = 0

    def begin(self, step: int) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=self.uri)
        told = self.folder.read("tracking/mlflow.json")
        if told is not None and step:
            self.run_id = told["run_id"]
            self.client.update_run(self.run_id, status="RUNNING")
            names = self.client.get_run(self.run_id).data.metrics
            histories = [self.client.get_metric_history(self.run_id, name) for name in names]
            self.known = max((point.step for history in histories for point in history), default=0)
            return
        experiment = self.client.get_experiment_by_name(self.project)
        number = experiment.experiment_id if experiment else self.client.create_experiment(self.project)
        run = self.client.create_run(number, run_name=self.name, tags={"sortase.folder": self.folder.url})
        self.run_id = run.info.run_id
        storage.write_json(self.folder.path("tracking", "mlflow.json"), {"run_id": self.run_id})
        self._tell_settings()

    def _tell_settings(self) -> None:
        from mlflow.entities import Param

        given = [Param(name, value) for name, value in self.settings.items()]
        for start in range(0, len(given), PACKED):
            self.client.log_batch(self.run_id, params=given[start : start + PACKED])

    def log(self, step: int, values: Values) -> None:
        from mlflow.entities import Metric

        if step > self.known:
            now = int(time.time() * 1000)
            self.client.log_batch(self.run_id, metrics=[Metric(name, v, now, step) for name, v in values.items()])

    def keep(self) -> None: ...

    def end(self, status: str) -> None:
        if self.run_id:
            words = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
            self.client.set_terminated(self.run_id, words[status])


class WandB:
    """One run of W&B for the run folder. An offline one lies in ``tracking/wandb`` there, a folder for each attempt."""

    def __init__(self, spec: TrackingSpec, folder: RunFolder, name: str, settings: dict[str, str]):
        self.spec, self.folder, self.name, self.settings = spec, folder, name, settings
        self.url = folder.path("tracking")  # W&B makes the folder wandb itself
        self.scratch = _scratch(self.url)
        self.local = Path(self.scratch.name) if self.scratch else storage.local_path(self.url)
        self.run: Any = None

    def begin(self, step: int) -> None:
        import wandb

        told = self.folder.read("tracking/wandb.json") if step else None
        name = told["id"] if told else uuid.uuid4().hex[:16]
        if told is None:
            storage.write_json(self.folder.path("tracking", "wandb.json"), {"id": name})
        self.local.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=self.spec.project,
            name=self.name,
            id=name,
            resume="allow",
            mode=self.spec.wandb_mode,
            dir=str(self.local),
            config=None if told else self.settings,
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
        )

    def log(self, step: int, values: Values) -> None:
        self.run.log(values, step=step)

    def keep(self) -> None:
        _keep(self.scratch, self.url)

    def end(self, status: str) -> None:
        if self.run is not None:
            self.run.finish(exit_code=0 if status == "finished" else 1)
            self.keep()
        if self.scratch:
            self.scratch.cleanup()


KINDS: dict[str, Callable[[TrackingSpec, RunFolder, str, dict[str, str]], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}


def _mlflow_uri(spec: TrackingSpec, folder: RunFolder) -> str:
    uri = spec.mlflow_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if uri:
        return uri
    if storage.is_remote(folder.url):
        raise ConfigError(
            f"tracking.to mlflow needs a server, because the run folder {folder.url} is not a local one: "
            "set tracking.mlflow_uri or MLFLOW_TRACKING_URI"
        )
    return f"sqlite:///{storage.local_path(folder.path('mlflow.db')).absolute()}"


def _scratch(url: str) -> Any:
    """A local folder for services that cannot write to the run folder where it lies; None where they can."""
    return tempfile.TemporaryDirectory(prefix="sortase-tracking-") if storage.is_remote(url) else None


def _keep(scratch: Any, url: str) -> None:
    """Copy local files to the run folder, where that is elsewhere."""
    for path in sorted(Path(scratch.name).rglob("*")) if scratch else []:
        if path.is_file() and not path.is_symlink():
            storage.write_bytes(storage.join(url, *path.relative_to(scratch.name).parts), path.read_bytes())


def _grouped(name: str) -> str:
    return f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _flat(settings: Any, path: str = "") -> dict[str, str]:
    """``train.learning_rate: 0.001``, in the few words that services take."""
    if isinstance(settings, dict) and settings:
        parts = [_flat(value, f"{path}.{name}" if path else str(name)) for name, value in settings.items()]
        return {name: value for part in parts for name, value in part.items()}
    return {path: str(settings)[:LONGEST]}
