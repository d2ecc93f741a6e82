"""What a trial's hyperparameters make of the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..config.argument_translation import understood
from ..config.check import validate
from ..config.model import ModelSpec
from ..config.train import TrainSpec
from ..config.training_arguments import TABLE
from ..config.tune_space import FREEZE
from ..errors import ConfigError

SEEDS = ("seed", "data_seed")


def trial_settings(
    settings: TrainSpec, model: ModelSpec, parameters: Mapping[str, Any], metric: str, workers: int
) -> tuple[TrainSpec, ModelSpec]:
    """Settings of training and model. The global batch is that of ``workers``, wherever the trial itself runs."""
    own = {name: _whole(name, value) for name, value in parameters.items() if name not in (FREEZE, *SEEDS)}
    try:
        own = understood(own, TrainSpec.model_fields).settings  # under the names that the run's settings have
    except ValueError as error:
        raise ConfigError(f"the trial's settings: {error}") from error
    given = {**settings.model_dump(exclude_unset=True), **own, "metric": metric}
    made: TrainSpec = validate(TrainSpec, given, "the trial's settings")
    batch = made.global_batch(workers)
    if "batch_size" in batch:
        made = made.model_copy(update={"global_batch_size": batch["batch_size"]})
    return made, model.model_copy(update={FREEZE: parameters.get(FREEZE, model.freeze_layers)})


def trial_seed(parameters: Mapping[str, Any], seed: int) -> int:
    """The seed of a trial's training. Which rows it is trained and compared on follows from the run's alone."""
    return next((int(parameters[name]) for name in SEEDS if name in parameters), seed)


def _whole(name: str, value: Any) -> Any:
    """Numbers that Ray has drawn, as Trainer makes them whole."""
    argument = TABLE.get(name)
    return int(value) if argument is not None and argument.takes.whole and isinstance(value, float) else value
