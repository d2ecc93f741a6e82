"""TensorBoard, MLflow and Weights & Biases: one run each for a training, however often that is continued.

The names of their runs lie beside the checkpoints, and are discarded together with them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import storage
from ..runs.folder import RunFolder

Values = dict[str, float]
LONGEST_NAME, LONGEST_VALUE = 250, 500  # characters of a setting that all services take
PACKED = 100  # parameters that MLflow takes at once


@dataclass(frozen=True, kw_only=True)
class TrackingContext:
    """What a tracker knows of a training. ``local``: the folder ``tracking`` of the run folder, where that is local,
    else one that is copied there."""

    name: str
    project: str
    settings: dict[str, str]
    folder: RunFolder
    local: Path
    mlflow_uri: str = ""
    wandb_mode: str = "offline"

    @property
    def group(self) -> str | None:
        """The sweep that a trial belongs to."""
        return self.name.rpartition("/")[0] or None


class Tracker(Protocol):
    """Each attempt tells all steps from the first. ``when`` is in seconds since 1970; ``keep`` makes all so far
    durable; ``end`` gets finished, stopped, failed, or fenced: then a later attempt is at work, and nothing may be
    published."""

    def begin(self) -> None: ...

    def log(self, step: int, values: Values, when: float) -> None: ...

    def keep(self) -> None: ...

    def end(self, status: str) -> None: ...


class TensorBoard:
    """Event files in ``tracking/tensorboard`` of the run folder, one for each attempt. Readers purge what the earlier
    ones told."""

    def __init__(self, told: TrackingContext):
        self.settings = told.settings
        self.files = _Files(told, "tensorboard")
        self.writer: Any = None

    def begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.files.local), purge_step=0)
        rows = "\n".join(f"| {name} | {value[:LONGEST_VALUE]} |" for name, value in self.settings.items())
        self.writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)

    def log(self, step: int, values: Values, when: float) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step, when)

    def keep(self) -> None:
        self.writer.flush()
        self.files.publish()

    def end(self, status: str) -> None:
        self.writer.close()
        if status != "fenced":
            self.files.publish()


class MLflow:
    """A run on MLflow's server or in its database, which is asked what it knows when a training goes on."""

    def __init__(self, told: TrackingContext):
        self.told = told
        self.run_id = ""
        self.known: dict[str, int] = {}
        self.client: Any = None

    def begin(self) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri=self.told.mlflow_uri)
        earlier = self._earlier()
        if earlier is None:
            self._create()
            return
        self.run_id = earlier.info.run_id
        self.client.update_run(self.run_id, status="RUNNING")
        for name in earlier.data.metrics:
            self.known[name] = max(point.step for point in self.client.get_metric_history(self.run_id, name))

    def _earlier(self) -> Any:
        from mlflow.exceptions import MlflowException

        kept = self.told.folder.read("checkpoints/mlflow.json")
        if kept is None:
            return None
        try:
            run = self.client.get_run(kept["run_id"])
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        return run if run.info.lifecycle_stage == "active" else None

    def _create(self) -> None:
        from mlflow.entities import Param

        tags = {"sortase.folder": self.told.folder.url} | (
            {"sortase.sweep": self.told.group} if self.told.group else {}
        )
        run = self.client.create_run(self._experiment(), run_name=self.told.name, tags=tags)
        self.run_id = run.info.run_id
        storage.write_json(self.told.folder.path("checkpoints", "mlflow.json"), {"run_id": self.run_id})
        given = [Param(name, value[:LONGEST_VALUE]) for name, value in self.told.settings.items()]
        for start in range(0, len(given), PACKED):
            self.client.log_batch(self.run_id, params=given[start : start + PACKED])

    def _experiment(self) -> str:
        """Trials begin at the same time, and each may find none."""
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(self.told.project)
        if found is None:
            try:
                return str(self.client.create_experiment(self.told.project))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(self.told.project)
        return str(found.experiment_id)

    def log(self, step: int, values: Values, when: float) -> None:
        from mlflow.entities import Metric

        new = [Metric(name, v, int(when * 1000), step) for name, v in values.items() if step > self.known.get(name, 0)]
        if new:
            self.client.log_batch(self.run_id, metrics=new)

    def keep(self) -> None: ...

    def end(self, status: str) -> None:
        words = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
        if status in words:
            self.client.set_terminated(self.run_id, words[status])


class WandB:
    """A run of W&B. An offline one lies in ``tracking/wandb`` of the run folder; each attempt writes it anew, because
    W&B loses the last seconds of one that is killed, and shows what two files hold twice."""

    def __init__(self, told: TrackingContext):
        self.told = told
        self.files = _Files(told, "wandb")
        self.offline = told.wandb_mode == "offline"
        self.known = 0
        self.run: Any = None

    def begin(self) -> None:
        import wandb

        kept = self.told.folder.read("checkpoints/wandb.json") or {"id": uuid.uuid4().hex[:16]}
        storage.write_json(self.told.folder.path("checkpoints", "wandb.json"), kept)
        if self.offline:
            storage.remove(self.files.url)
        self.told.local.mkdir(parents=True, exist_ok=True)
        self.run = wandb.init(
            project=self.told.project,
            name=self.told.name,
            group=self.told.group,
            id=kept["id"],
            resume=None if self.offline else "allow",
            mode="offline" if self.offline else "online",
            dir=str(self.told.local),
            config={name: value[:LONGEST_VALUE] for name, value in self.told.settings.items()},
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True, disable_git=True, disable_code=True),
        )
        self.known = self.run.step  # online the next one after those that the service has

    def log(self, step: int, values: Values, when: float) -> None:
        if step >= self.known:
            self.run.log(values, step=step)

    def keep(self) -> None:
        if self.offline:
            self.files.publish()

    def end(self, status: str) -> None:
        self.run.finish(exit_code=0 if status == "finished" else 1)
        if status != "fenced":
            self.keep()


TRACKERS: dict[str, Callable[[TrackingContext], Tracker]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "wandb": WandB,
}


class _Files:
    """What a service writes to a local folder, and its copies in the run folder, where that is elsewhere."""

    def __init__(self, told: TrackingContext, name: str):
        self.local = told.local / name
        self.url = told.folder.path("tracking", name)
        self.elsewhere = storage.is_remote(self.url)
        self._copied: dict[Path, tuple[int, int]] = {}

    def publish(self) -> None:
        """Copy what has changed."""
        files = [path for path in sorted(self.local.rglob("*")) if path.is_file() and not path.is_symlink()]
        for path in files if self.elsewhere else []:
            state = path.stat().st_size, path.stat().st_mtime_ns
            if self._copied.get(path) != state:
                storage.write_bytes(storage.join(self.url, *path.relative_to(self.local).parts), path.read_bytes())
                self._copied[path] = state


def plain_name(name: str) -> str:
    """With no letters but those that MLflow takes in names; classes may be called anything."""
    return re.sub(r"[^\w.\- :/]", "_", name)[:LONGEST_NAME]
