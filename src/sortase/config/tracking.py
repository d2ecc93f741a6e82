"""Which experiment trackers are told of a training; their credentials come from the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Section


class TrackingSpec(Section):
    """Trackers beside ``events.jsonl``, which is always written. Each needs the extra of its name."""

    to: list[Literal["tensorboard", "mlflow", "wandb"]] = Field(
        default_factory=list, description="Trackers: tensorboard, mlflow, wandb."
    )
    project: str = Field("sortase", min_length=1, description="MLflow's experiment, and the project of W&B.")
    mlflow_uri: str | None = Field(
        None,
        description="MLflow's tracking server or database. Default: MLFLOW_TRACKING_URI, else mlflow.db in the run "
        "folder, where that is local.",
    )
    wandb_mode: Literal["online", "offline"] = Field(
        "online", description="offline keeps the run in tracking/wandb of the run folder, for `wandb sync`."
    )
