"""What a trial's hyperparameters make of the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.load import validate
from ..config.model import ModelSpec
from ..config.train import TrainSpec
from ..config.tune_space import FREEZE


def trial_settings(
    settings: TrainSpec, model: ModelSpec, parameters: Mapping[str, Any], metric: str, workers: int
) -> tuple[TrainSpec, ModelSpec]:
    """Settings of training and model. The global batch is that of ``workers``, wherever the trial itself runs."""
    own = {name: value for name, value in parameters.items() if name != FREEZE}
    given = {**settings.model_dump(exclude_unset=True), **own, "metric": metric}
    made: TrainSpec = validate(TrainSpec, given, "the trial's settings")
    batch = made.global_batch(workers)
    if "batch_size" in batch:
        made = made.model_copy(update={"global_batch_size": batch["batch_size"]})
    return made, model.model_copy(update={FREEZE: parameters.get(FREEZE, model.freeze_layers)})
