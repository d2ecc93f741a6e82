"""Which experiment trackers are told of a training; their credentials come from the environment."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from .base import Section

Service = Literal["tensorboard", "mlflow", "wandb"]


class TrackingSpec(Section):
    """Trackers beside ``events/``, which is always written. Each needs the extra of its name."""

    to: list[Service] = Field(default_factory=list, description="Trackers: tensorboard, mlflow, wandb.")
    project: str = Field("sortase", min_length=1, description="MLflow's experiment, and the project of W&B.")
    mlflow_uri: str | None = Field(
        None,
        description="MLflow's tracking server or database. Default: MLFLOW_TRACKING_URI, else mlflow.db in the run "
        "folder, where that is local.",
    )
    wandb_mode: Literal["online", "offline"] = Field(
        "online", description="offline keeps the run in tracking/wandb of the run folder, for `wandb sync`."
    )

    @field_validator("to")
    @classmethod
    def _once(cls, services: list[Service]) -> list[Service]:
        return list(dict.fromkeys(services))

    @field_validator("mlflow_uri")
    @classmethod
    def _no_folder(cls, uri: str | None) -> str | None:
        if uri is not None:
            check_mlflow_uri("mlflow_uri", uri)
        return uri


def check_mlflow_uri(name: str, uri: str) -> None:
    """ValueError for a folder: MLflow 3 has given its file store up."""
    scheme, mark, _ = uri.partition("://")
    if uri != "databricks" and (not mark or scheme == "file"):
        raise ValueError(
            f"{name} is {uri!r}, but MLflow no longer keeps runs in folders: give a server (https://host) or a "
            "database (sqlite:////folder/mlflow.db)"
        )
