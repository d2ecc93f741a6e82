"""The one training kernel: everywhere that a model is trained, this function trains it."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments

from ..config.compute import ComputeSpec
from ..config.train import LOWER_IS_BETTER, TrainSpec
from ..data.batches import BatchPlan
from ..data.sequences import Sequences
from ..errors import CancelledError, ConfigError
from ..model.freeze import freeze_prefix
from ..model.load import without_library_bars
from ..model.loss import class_counts, class_weights
from ..model.task import Task
from .callbacks import EarlyStopping, Recorder, SaveAfterEvaluation, ShowProgress, StopOnRequest
from .checkpoints import Checkpoints, DamagedError
from .events import Events
from .place_model import device_precision, has_gpu
from .trainer import Batches, PlanTrainer


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything one training needs. ``validation`` may be None: then the last model is the result."""

    task: Task
    class_map: dict[str, int]
    model: PreTrainedModel
    train: Sequences
    validation: Sequences | None
    max_length: int
    pad_id: int
    freeze_layers: int
    settings: TrainSpec
    compute: ComputeSpec
    seed: int
    collator: Any
    validate: Callable[[Any], dict[str, float]]


@dataclass(frozen=True)
class Fitted:
    """The trainer, whose model is the chosen one, and what run.json tells about the training."""

    trainer: PlanTrainer
    summary: dict[str, Any]


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Seed the global generators that training draws from, and give the caller's states back afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def training_arguments(job: Job, scratch: Path) -> TrainingArguments:
    """The user's arguments, and those that the run decides."""
    settings = dict(job.settings.arguments)
    if job.validation is None:
        settings["eval_strategy"] = "no"
    if settings["eval_strategy"] != "no" and job.settings.keep_best:
        settings["metric_for_best_model"] = job.settings.metric
        settings["greater_is_better"] = job.settings.metric not in LOWER_IS_BETTER
    try:
        arguments = TrainingArguments(
            **{
                "report_to": [],
                **settings,
                "output_dir": str(scratch),
                "seed": job.seed,
                "gradient_accumulation_steps": 1,
                "save_total_limit": None,
                "bf16": device_precision(job.compute) == "bf16",
                "use_cpu": not has_gpu(job.compute),
                "disable_tqdm": True,
                "logging_nan_inf_filter": False,
                "remove_unused_columns": False,
                "dataloader_pin_memory": False,
                "dataloader_num_workers": 0,
            }
        )
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the training arguments do not fit together: {error}") from error
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def batch_plan(job: Job) -> BatchPlan:
    arguments = job.settings.arguments
    lengths = np.minimum(job.train.lengths, job.max_length)
    if job.settings.global_batch_tokens is not None:
        if job.settings.global_batch_size is not None:
            raise ConfigError("give train.global_batch_size or train.global_batch_tokens, not both")
        return BatchPlan(lengths=lengths, seed=job.seed, batch_tokens=job.settings.global_batch_tokens)
    size = job.settings.global_batch_size or (
        arguments["per_device_train_batch_size"] * arguments.get("gradient_accumulation_steps", 1)
    )
    return BatchPlan(lengths=lengths, seed=job.seed, batch_size=size)


def loss_weights(job: Job) -> np.ndarray:
    setting = job.settings.class_weights
    counts = np.zeros(len(job.class_map), dtype=np.int64)
    if setting == "balanced":
        labels = [job.train.labels_of(row) for row in range(len(job.train))]
        counts = class_counts(labels, len(job.class_map))
    return class_weights(setting, counts, job.class_map)


def build_trainer(job: Job, scratch: Path) -> PlanTrainer:
    if not has_gpu(job.compute):  # an installed DeepSpeed is imported, and writes to stdout that it found no GPU
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    arguments = training_arguments(job, scratch)
    batches = Batches(
        sequences=job.train,
        task=job.task,
        weights=loss_weights(job),
        max_length=job.max_length,
        pad_id=job.pad_id,
        max_rows=arguments.per_device_train_batch_size,
        max_tokens=job.settings.max_tokens_per_device,
    )
    trainer = PlanTrainer(
        plan=batch_plan(job),
        batches=batches,
        frozen=freeze_prefix(job.model, job.freeze_layers),
        validate=job.validate,
        model=job.model,
        args=arguments,
        data_collator=job.collator,
        eval_dataset=job.validation,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def fit(
    job: Job,
    checkpoints: Checkpoints,
    events: Events,
    say: Callable[[str], None],
    should_stop: Callable[[], bool] = lambda: False,
) -> Fitted:
    """Train, continuing from the newest intact checkpoint; the model of the result is the best one.

    Raises:
        CancelledError: ``should_stop`` said so; a checkpoint of the last step is stored.
        WorkFailedError: the loss is no longer finite.
    """
    with (
        tempfile.TemporaryDirectory(prefix="sortase-train-") as folder,
        own_random_state(job.seed),
        without_library_bars(),
    ):
        scratch = Path(folder)
        trainer = build_trainer(job, scratch)
        selecting = trainer.args.metric_for_best_model is not None
        sign = 1 if trainer.args.greater_is_better else -1
        stop = StopOnRequest(should_stop, len(trainer.plan))
        trainer.add_callback(Recorder(events, checkpoints, job.settings.metric if selecting else None, sign))
        trainer.add_callback(stop)
        trainer.add_callback(SaveAfterEvaluation(len(trainer.plan)))
        trainer.add_callback(ShowProgress())
        if job.settings.early_stopping_patience is not None:
            trainer.add_callback(early_stopping(job, selecting, sign))
        resumed = checkpoints.newest(scratch / "resume", say)
        events.rewind("train", resumed[0].step if resumed else -1)
        if resumed:
            say(f"train: continuing from the checkpoint of step {resumed[0].step}")
        started = time.monotonic()
        torch.manual_seed(job.seed)
        trainer.train(resume_from_checkpoint=str(resumed[1]) if resumed else None)
        seconds = time.monotonic() - started
        checkpoints.wait()
        events.flush()
        if stop.stopped:
            raise CancelledError(
                f"stopped on request at step {trainer.state.global_step} of {trainer.state.max_steps}; "
                "its checkpoint is stored, the same command continues from there"
            )
        best = take_best(job, trainer, checkpoints, scratch, say) if selecting else None
        return Fitted(trainer, summary(job, trainer, seconds, best, checkpoints.waited, resumed and resumed[0].step))


def early_stopping(job: Job, selecting: bool, sign: int) -> EarlyStopping:
    if not selecting:
        raise ConfigError(
            "train.early_stopping_patience needs evaluations on a validation side: "
            "split.validation_size above 0, train.eval_strategy other than 'no', and train.keep_best"
        )
    settings = job.settings
    return EarlyStopping(
        settings.metric, sign, settings.early_stopping_patience or 1, settings.early_stopping_threshold
    )


def take_best(
    job: Job, trainer: PlanTrainer, checkpoints: Checkpoints, scratch: Path, say: Callable[[str], None]
) -> int | None:
    """Put the best checkpoint's weights into the trainer's model; returns its step."""
    for best in checkpoints.best_first():
        if best.step == trainer.state.global_step:
            return best.step
        try:
            folder = best.download(scratch / "best")
        except (DamagedError, FileNotFoundError) as error:
            say(f"train: the checkpoint of step {best.step} was the best but is damaged, taking the next: {error}")
            continue
        job.model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
        return best.step
    return None


def summary(
    job: Job, trainer: PlanTrainer, seconds: float, best: int | None, waited: float, resumed: int | None
) -> dict[str, Any]:
    """What run.json says of the training; rates count this attempt only."""
    parameters = list(job.model.parameters())
    batches = trainer.batches
    return {
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "best_step": best,
        "resumed_from": resumed,
        "seconds": round(seconds, 3),
        "checkpoint_wait_seconds": round(waited, 3),
        "useful_tokens_per_second": round(batches.useful_tokens / seconds, 1) if seconds else None,
        "padding_share": round(1 - batches.useful_tokens / max(1, batches.padded_tokens), 4),
        "parameters": sum(p.numel() for p in parameters),
        "trainable": sum(p.numel() for p in parameters if p.requires_grad),
        "precision": device_precision(job.compute),
        "device": str(trainer.args.device),
        "global_batch": job.settings.global_batch_tokens or trainer.plan.batch_size,
        "rows": len(job.train),
    }
