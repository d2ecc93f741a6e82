"""Hugging Face's Trainer, fed by a plan of global batches and with a loss that is normalised over each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer

from ..data.batches import BatchPlan, micro_batches, share
from ..data.sequences import IGNORED, Sequences
from ..model.loss import summed_loss, weight_sum
from ..model.task import Task


@dataclass
class Batches:
    """Turns a global batch into the padded micro-batches of one rank, and counts what padding costs.

    ``even``: every rank gets as many micro-batches as the others, for ways of training in which they do each of them
    together.
    """

    sequences: Sequences
    task: Task
    weights: np.ndarray
    max_length: int
    pad_id: int
    max_rows: int
    max_tokens: int | None
    rank: int = 0
    world_size: int = 1
    even: bool = False
    useful_tokens: int = 0
    padded_tokens: int = 0

    def __post_init__(self) -> None:
        self.lengths = np.minimum(self.sequences.lengths, self.max_length)

    def __call__(self, batch: list[int]) -> dict[str, Any]:
        """``micro``: this rank's micro-batches; ``denominator``: the weight of all labels in the global batch."""
        rows = np.asarray(batch)
        micro = [self._collate(piece) for piece in self._pieces(rows, self.rank)]
        most = max(len(self._pieces(rows, rank)) for rank in range(self.world_size)) if self.even else 1
        shortest = rows[[self.lengths[rows].argmin()]]
        micro += [self._idle(shortest) for _ in range(most - len(micro))]
        total = sum(weight_sum(self._labels(int(row)), self.weights) for row in rows)
        return {"micro": micro, "denominator": max(total, 1e-12)}

    def _pieces(self, rows: np.ndarray, rank: int) -> list[np.ndarray]:
        mine = share(rows, self.lengths, rank, self.world_size)
        return micro_batches(mine, self.lengths, self.max_rows, self.max_tokens)

    def _labels(self, row: int) -> np.ndarray:
        return self.sequences.labels_of(row)[: self.max_length]

    def _collate(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        ids, mask = self.sequences.pad(rows, self.max_length, self.pad_id)
        labels = self.task.pad_labels([self._labels(int(row)) for row in rows], ids.shape[1])
        self.useful_tokens += int(mask.sum())
        self.padded_tokens += mask.size
        arrays = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _idle(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """A forward pass that counts for nothing, for a rank without a row in this batch: the others wait for it."""
        batch = self._collate(rows)
        batch["labels"] = torch.full_like(batch["labels"], IGNORED)
        return batch


class PlanSampler:
    """Yields the global batches of the current epoch."""

    def __init__(self, plan: BatchPlan):
        self.plan = plan
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self.plan.epoch(self.epoch):
            yield batch.tolist()


class PlanLoader(DataLoader):
    """A loader whose epoch the Trainer can set."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


class PlanTrainer(Trainer):
    """One optimizer step a global batch.

    ``validate`` gives the model's metrics, without prefix, on a dataset or (None) the validation side. ``frozen``
    modules stay in evaluation mode.
    """

    def __init__(
        self,
        *,
        plan: BatchPlan,
        batches: Batches,
        frozen: list[nn.Module],
        validate: Callable[[Any], dict[str, float]],
        **arguments: Any,
    ):
        super().__init__(**arguments)
        self.plan = plan
        self.batches = batches
        self.frozen = frozen
        self._validate = validate
        self._weights = torch.from_numpy(batches.weights)
        batches.rank, batches.world_size = self.args.process_index, self.args.world_size
        batches.even = self.is_deepspeed_enabled

    def get_train_dataloader(self) -> DataLoader:
        rows: Any = range(len(self.batches.sequences))
        return PlanLoader(rows, batch_sampler=PlanSampler(self.plan), collate_fn=self.batches)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        model.train()
        for module in self.frozen:
            module.eval()
        start_training = getattr(self.optimizer, "train", None)
        if start_training is not None:  # schedule-free optimizers have modes of their own
            start_training()
        micro = inputs["micro"]
        scale = self.args.world_size / inputs["denominator"]
        total = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(micro):
            last = number == len(micro) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)  # where DeepSpeed takes its step
            with nullcontext() if last else self.accelerator.no_sync(model):
                loss = self._loss(model, self._prepare_inputs(batch)) * scale
                self.accelerator.backward(loss)
            total += loss.detach()
        return total

    def _loss(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        labels = batch.pop("labels")
        logits = model(**batch).logits
        weights = self._weights.to(logits.device)
        return summed_loss(logits, labels, weights, self.args.label_smoothing_factor)

    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Metrics on the validation side, or on a labelled dataset, computed from streamed predictions."""
        metrics = {f"{metric_key_prefix}_{k}": v for k, v in self._validate(eval_dataset).items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        """A model that is the best so far is always saved, whenever checkpoints are due."""
        best = super()._determine_best_metric(metrics, trial)
        if best:
            self.control.should_save = True
        return best

    def floating_point_ops(self, inputs: Any) -> int:
        return sum(super(PlanTrainer, self).floating_point_ops(batch) for batch in inputs.get("micro", [inputs]))

    def _track_num_input_tokens(self, inputs: Any) -> None:
        self.state.num_input_tokens_seen = self.batches.useful_tokens
