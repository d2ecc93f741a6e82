"""How fast a training is while it runs, told with every log of its loss."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback

from .checkpoints import Checkpoints
from .trainer import PlanTrainer


class Speed(TrainerCallback):
    """Adds the figures since the log before: ``step_seconds`` (evaluations and saving apart), ``tokens_per_second``
    (useful ones of all ranks, by this rank's share), ``padding_share``; and so far ``checkpoint_wait_seconds`` and
    ``data_wait_seconds``.
    """

    def __init__(self, trainer: PlanTrainer, checkpoints: Checkpoints):
        self.trainer, self.batches = trainer, trainer.batches
        self.checkpoints = checkpoints
        self.steps, self.seconds = 0, 0.0
        self._before = (0, 0)
        self._mark = 0.0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self.steps, self.seconds, self._mark = self.steps + 1, self.seconds + now - self._mark, now

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.monotonic()

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._mark = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs is None or "loss" not in logs or not self.steps:
            return
        useful = self.batches.useful_tokens - self._before[0]
        padded = self.batches.padded_tokens - self._before[1]
        self._before = self.batches.useful_tokens, self.batches.padded_tokens
        logs["step_seconds"] = round(self.seconds / self.steps, 4)
        logs["tokens_per_second"] = round(useful * args.world_size / max(self.seconds, 1e-9), 1)
        logs["padding_share"] = round(1 - useful / max(1, padded), 4)
        logs["checkpoint_wait_seconds"] = round(self.checkpoints.waited, 3)
        logs["data_wait_seconds"] = round(self.trainer.data_wait_seconds, 3)
        self.steps, self.seconds = 0, 0.0
