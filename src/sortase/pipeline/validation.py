"""Metrics of a model in training on the validation side, from streamed predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..config.compute import ComputeSpec
from ..data.sequences import Sequences
from ..errors import ConfigError
from ..model.inference import stream
from ..model.load import Trained
from ..model.metrics import Metrics
from .place_model import device_precision


def validator(
    trained: Trained, validation: Sequences | None, batch_size: int, compute: ComputeSpec
) -> Callable[[Any], dict[str, float]]:
    """A function of a labelled dataset; without one (None) it takes the validation side."""

    def validate(dataset: Any) -> dict[str, float]:
        chosen = validation if dataset is None else Sequences.open(dataset, trained.task.label_column)
        if chosen is None:
            raise ConfigError("there is no validation side; give a dataset to evaluate")
        metrics = Metrics(trained.classes, bootstrap=0)
        training = trained.model.training
        try:
            for scores in stream(trained, chosen, batch_size=batch_size, precision=device_precision(compute)):
                metrics.update(scores)
        finally:
            trained.model.train(training)
        return {name: value for name, value in metrics.result()["metrics"].items() if value is not None}

    return validate
