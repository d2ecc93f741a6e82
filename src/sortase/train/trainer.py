"""Hugging Face's Trainer, fed by a plan of global batches and with a loss that is normalised over each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer

from ..data.batches import BatchPlan, micro_batches, share
from ..data.prefetch import Prefetcher
from ..data.sequences import IGNORED, Sequences
from ..errors import ConfigError, StorageError, WorkFailedError
from ..model.device_memory import release_cache
from ..model.inputs import readable
from ..model.loss import summed_loss, weight_sum
from ..model.masks import without_needless_mask
from ..model.task import Task

SMALLEST_SCALE = 2.0**-14  # of the loss in fp16; torch.amp.GradScaler begins with 2**16


@dataclass
class Batches:
    """Turns a global batch into the padded micro-batches of one rank.

    ``even``: every rank gets as many micro-batches as the others, for ways of training in which they do each of them
    together. ``model`` gets what it reads, in the cheapest form; ``pin``: tensors lie where a GPU can copy them from
    while it computes. Tokens are counted when they were trained on, which is later than they are gathered.
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
    model: PreTrainedModel | None = None
    pin: bool = False
    useful_tokens: int = field(default=0, init=False)
    padded_tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.widths = np.minimum(self.sequences.widths, self.max_length)
        self.lengths = np.minimum(self.sequences.lengths, self.max_length)

    def __call__(self, batch: list[int]) -> dict[str, Any]:
        """``micro``: this rank's micro-batches; ``denominator``: the weight of all labels in the global batch.

        Batches are made ahead of the training, in another thread: nothing here is changed by it.
        """
        rows = np.asarray(batch)
        pieces = self._pieces(rows, self.rank)
        micro = [self._collate(piece) for piece in pieces]
        most = max(len(self._pieces(rows, rank)) for rank in range(self.world_size)) if self.even else 1
        shortest = rows[[self.widths[rows].argmin()]]
        micro += [self._idle(shortest) for _ in range(most - len(micro))]
        total = sum(weight_sum(self._labels(int(row)), self.weights) for row in rows)
        useful = sum(int(self.lengths[piece].sum()) for piece in pieces)
        return {
            "micro": micro,
            "denominator": max(total, 1e-12),
            "useful_tokens": useful,
            "padded_tokens": sum(batch["input_ids"].numel() for batch in micro),
        }

    def _pieces(self, rows: np.ndarray, rank: int) -> list[np.ndarray]:
        mine = share(rows, self.widths, rank, self.world_size)
        return micro_batches(mine, self.widths, self.max_rows, self.max_tokens)

    def _labels(self, row: int) -> np.ndarray:
        return self.sequences.labels_of(row)[: self.max_length]

    def _collate(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        inputs = self.sequences.model_inputs(rows, self.max_length, self.pad_id)
        if self.model is not None:
            inputs = without_needless_mask(readable(self.model, inputs), self.model.config)
        shown = self.sequences.shown(rows, self.max_length)
        inputs["labels"] = self.task.pad_labels([self._labels(int(row)) for row in rows], shown)
        return {name: self._tensor(array) for name, array in inputs.items()}

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory() if self.pin else tensor

    def _idle(self, rows: np.ndarray) -> dict[str, torch.Tensor]:
        """A forward pass that counts for nothing, for a rank without a row in this batch: the others wait for it."""
        batch = self._collate(rows)
        batch["labels"] = torch.full_like(batch["labels"], IGNORED)
        return batch

    def count(self, batch: dict[str, Any]) -> None:
        """A global batch was trained on."""
        self.useful_tokens += batch["useful_tokens"]
        self.padded_tokens += batch["padded_tokens"]


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
        self._weights = torch.from_numpy(batches.weights).to(self.args.device)
        self.computing = (0, 0)  # rows and length of the micro-batch
        self._pretrained: PreTrainedModel = arguments["model"]
        self._counted = int(self._pretrained.num_parameters(exclude_embeddings=True))
        self._waited = 0.0
        self._coming: Prefetcher | None = None
        batches.rank, batches.world_size = self.args.process_index, self.args.world_size
        batches.even = self.is_deepspeed_enabled
        batches.pin = self.args.device.type == "cuda"

    def create_accelerator_and_postprocess(self) -> None:
        """Accelerate computes in fp16 and scales losses on devices alone; PyTorch can on CPUs too."""
        super().create_accelerator_and_postprocess()
        if self.args.fp16 and self.accelerator.device.type == "cpu" and not self.is_deepspeed_enabled:
            self.accelerator.native_amp = True
            self.accelerator.scaler = torch.amp.GradScaler("cpu")

    def get_train_dataloader(self) -> DataLoader:
        rows: Any = range(len(self.batches.sequences))
        return PlanLoader(rows, batch_sampler=PlanSampler(self.plan), collate_fn=self.batches)

    @property
    def data_wait_seconds(self) -> float:
        """How long training has waited for batches."""
        return self._waited + (self._coming.waited if self._coming is not None else 0.0)

    def train(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().train(*arguments, **options)
        finally:
            self._end_prefetching()

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The next global batches of the epoch; those that follow are made while the model computes."""
        if self._coming is None or self._coming.source is not epoch_iterator:
            self._end_prefetching()
            self._coming = Prefetcher(epoch_iterator, on_start=self._take_device)
        return super().get_batch_samples(self._coming, num_batches, device)

    def _take_device(self) -> None:
        """A thread that pins memory does so for its own GPU; the first one would get a context of every rank."""
        if self.args.device.type == "cuda":
            torch.cuda.set_device(self.args.device)

    def whole_weights(self) -> dict[str, torch.Tensor]:
        """The model's weights by their own names, however it is wrapped, compiled or divided among workers."""
        wrapped = self.model_wrapped
        if self.deepspeed is None:
            wrapped = self.accelerator.unwrap_model(wrapped, keep_torch_compile=False)
        weights: dict[str, torch.Tensor] = self.accelerator.get_state_dict(wrapped, unwrap=self.deepspeed is not None)
        return weights

    def _save_checkpoint(self, *given: Any, **named: Any) -> None:
        """StorageError where the disk is full: torch and safetensors tell it in words of their own."""
        try:
            super()._save_checkpoint(*given, **named)
        except (RuntimeError, SafetensorError) as error:
            if isinstance(error, RuntimeError) and "inline_container" not in str(error):
                raise
            raise StorageError(
                f"cannot write a checkpoint to {self.args.output_dir}: {str(error).splitlines()[0]}; the disk is "
                "full, or files may not grow so large"
            ) from error

    def release(self) -> None:
        """Free what only training needs: gradients and the optimizer's state, twice the memory of the weights."""
        self.optimizer = self.lr_scheduler = None
        self.callback_handler.optimizer = self.callback_handler.lr_scheduler = None
        self.model_wrapped = self._pretrained
        self.accelerator.free_memory()
        self._pretrained.zero_grad(set_to_none=True)
        release_cache()

    def _end_prefetching(self) -> None:
        if self._coming is not None:
            self._coming.close()
            self._waited += self._coming.waited
            self._coming = None

    def create_optimizer(self, *given: Any, **named: Any) -> torch.optim.Optimizer:
        with self._fitting("optim", "optim_args", "optim_target_modules"):
            return super().create_optimizer(*given, **named)

    def create_scheduler(self, *given: Any, **named: Any) -> torch.optim.lr_scheduler.LRScheduler:
        with self._fitting("lr_scheduler_type", "lr_scheduler_kwargs"):
            return super().create_scheduler(*given, **named)

    @contextmanager
    def _fitting(self, *names: str) -> Iterator[None]:
        """What the library finds wrong with these arguments only when it uses them."""
        try:
            yield
        except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
            given = {name: getattr(self.args, name) for name in names if getattr(self.args, name) is not None}
            shown = ", ".join(f"{name}={getattr(value, 'value', value)!r}" for name, value in given.items())
            raise ConfigError(f"the training arguments do not fit together: {shown}: {error}") from error

    def training_step(self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        model.train()
        for module in self.frozen:
            module.eval()
        start_training = getattr(self.optimizer, "train", None)
        if start_training is not None:  # schedule-free optimizers have modes of their own
            start_training()
        micro = inputs["micro"]
        self._check_scale()
        scale = self.args.world_size / inputs["denominator"]
        total = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(micro):
            last = number == len(micro) - 1
            self.accelerator.gradient_state._set_sync_gradients(last)  # where DeepSpeed takes its step
            with nullcontext() if last else self.accelerator.no_sync(model):
                loss = self._loss(model, batch) * scale
                self.accelerator.backward(loss)
            total += loss.detach()
        self.batches.count(inputs)
        return total

    def _check_scale(self) -> None:
        """The scale of the loss is halved at each step whose gradients overflow, and that step is skipped."""
        scaler = self.accelerator.scaler
        if scaler is not None and scaler.get_scale() < SMALLEST_SCALE:
            raise WorkFailedError(
                f"the gradients leave the range of fp16 at step {self.state.global_step}, however small the loss is "
                "scaled; a lower learning rate or compute.precision bf16 or fp32 may help"
            )

    def _loss(self, model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        rows, length = batch["input_ids"].shape
        self.computing = rows, length
        there = {name: tensor.to(self.args.device, non_blocking=True) for name, tensor in batch.items()}
        labels = there.pop("labels")
        logits = model(**there).logits
        return summed_loss(logits, labels, self._weights, self.args.label_smoothing_factor)

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
        """Six for each padded token and parameter, as the library counts them."""
        if "micro" not in inputs:
            return int(super().floating_point_ops(inputs))
        return 6 * inputs["padded_tokens"] * self._counted

    def _track_num_input_tokens(self, inputs: Any) -> None:
        self.state.num_input_tokens_seen = self.batches.useful_tokens
