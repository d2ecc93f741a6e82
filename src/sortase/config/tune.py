"""How hyperparameters are searched."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_serializer, field_validator

from .base import Section
from .metrics import METRICS, NAMES
from .tune_space import check_names, parse_space
from .worlds import is_python

PLACES = {"max_concurrent", "cpus_per_trial", "gpus_per_trial"}


class TuneSpec(Section):
    """A sweep: trials of the same training with other hyperparameters, compared on the validation side."""

    trials: int = Field(ge=1, description="Trainings with different hyperparameters.")
    space: dict[str, Any] = Field(
        description="What is searched, by name of a training argument or freeze_layers: [low, high] is a range, "
        "any other list are choices, {low, high, log, step} and {choices} say it explicitly."
    )
    search: Literal["random", "optuna"] = Field("random", description="How the next hyperparameters are chosen.")
    scheduler: Literal["asha", "none"] = Field(
        "asha", description="asha ends trials early that fall behind the others at the same evaluation."
    )
    metric: Literal[NAMES] | None = Field(  # type: ignore[valid-type]
        None, description="Metric on the validation side that compares trials. Default: train.metric."
    )
    mode: Literal["min", "max"] | None = Field(None, description="Default: min for loss and ece, max for the others.")
    max_concurrent: int | None = Field(
        None, ge=1, description="Trials at the same time, at most. Default: as many as find room."
    )
    cpus_per_trial: float | None = Field(
        None, gt=0, description="CPUs of a trial in one process. Default: compute.cpus_per_worker."
    )
    gpus_per_trial: float | None = Field(
        None,
        ge=0,
        description="GPUs of a trial in one process; a fraction shares one. Default: as a training worker has.",
    )
    grace_period: int = Field(1, ge=1, description="Evaluations that every trial is given before asha may end it.")
    reduction_factor: float = Field(3, gt=1, description="Of the trials at a rung, asha keeps one in this many.")

    @field_validator("space")
    @classmethod
    def _readable(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        check_names(value, is_python(info.context))
        parse_space(value)
        return value

    @field_serializer("space")
    def _plain(self, value: dict[str, Any]) -> dict[str, Any]:
        """Objects of Ray Tune by what they are made of."""
        return {name: _described(item) for name, item in value.items()}

    def compared_by(self, training_metric: str) -> tuple[str, str]:
        """Metric and ``min`` or ``max``."""
        metric = self.metric or training_metric
        return metric, self.mode or ("max" if METRICS[metric].higher_is_better else "min")

    def shapes_result(self) -> dict[str, Any]:
        """What the result depends on: not where trials run."""
        return self.model_dump(mode="json", exclude=PLACES)


def _described(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_described(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    if callable(value):
        return getattr(value, "__qualname__", type(value).__qualname__)
    return {type(value).__name__: _described(vars(value)) if hasattr(value, "__dict__") else str(value)}
