"""Metrics of a model in training on the validation side, from streamed predictions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..config.compute import ComputeSpec
from ..data.sequences import Sequences
from ..errors import ConfigError
from ..model.device import device_precision
from ..model.inference import forward_passes, stream
from ..model.load import Trained
from ..model.metrics.metrics import Metrics
from .ranks import Ranks


def validator(
    trained: Trained, validation: Sequences | None, batch_size: int, compute: ComputeSpec, ranks: Ranks
) -> Callable[[Any], dict[str, float]]:
    """A function of a labelled dataset; without one (None) it takes the validation side.

    Each rank scores its share of the rows, and all get the metrics of the whole. They make the same number of forward
    passes, because a model whose parameters are divided among them (ZeRO-3) can only be run by all together.
    """

    def validate(dataset: Any) -> dict[str, float]:
        chosen = validation if dataset is None else Sequences.open(dataset, trained.task.label_column)
        if chosen is None:
            raise ConfigError("there is no validation side; give a dataset to evaluate")
        metrics = Metrics(trained.classes, bootstrap=0)
        mine = chosen.view(np.arange(ranks.rank, len(chosen), ranks.world_size))
        passes = max(ranks.gather(forward_passes(trained, mine.lengths, batch_size)))
        training = trained.model.training
        try:
            precision = device_precision(compute)
            for scores in stream(trained, mine, batch_size=batch_size, precision=precision, at_least=passes):
                metrics.update(scores)
        finally:
            trained.model.train(training)
        first, *others = ranks.gather(metrics)
        for other in others:
            first.merge(other)
        metrics = first
        return {name: value for name, value in metrics.result()["metrics"].items() if value is not None}

    return validate
