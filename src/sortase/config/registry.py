"""Where models are registered, and how they are trained again when data arrive."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from .base import Section
from .drift import DriftSpec

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class RegistrySpec(Section):
    """The registry, a folder in object storage, and the model's name in it."""

    url: str | None = Field(None, description="Folder or URL of the registry (default: $SORTASE_REGISTRY).")
    name: str | None = Field(None, description="Name of the model (default: the run's name).")
    mlflow: str | None = Field(
        None, description="Tracking URI of an MLflow whose model registry is told every version and alias, too."
    )

    @field_validator("name")
    @classmethod
    def _plain(cls, name: str | None) -> str | None:
        if name is not None and not NAME.fullmatch(name):
            raise ValueError(
                f"{name!r} must be made of letters, digits, '-', '_' and '.', and start with one of the two"
            )
        return name


class RetrainSpec(Section):
    """What `sortase retrain` does with new data."""

    from_champion: bool = Field(False, description="Go on from the champion's weights instead of those of `model`.")
    new_labels: Literal["refuse", "drop"] = Field(
        "refuse",
        description="Rows with a label that the champion does not know: an error, or left out. `labels.rename` maps "
        "labels by name.",
    )
    promote: bool = Field(True, description="Make a challenger that passes the gate the champion; else a person does.")
    drift: DriftSpec = Field(default_factory=DriftSpec, description="How far new data may be from the champion's.")
