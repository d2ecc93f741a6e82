"""The one training kernel: everywhere that a model is trained, this function trains it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel, PrinterCallback, TrainingArguments

from ..config.compute import ComputeSpec
from ..config.metrics import METRICS
from ..config.train import EARLY_STOPPING, TrainSpec, installed_names
from ..data.batches import BatchPlan
from ..data.sequences import Sequences
from ..errors import CancelledError, ConfigError, MissingExtraError, MissingInputError, SortaseError
from ..model.device import device_precision, has_gpu
from ..model.device_memory import explained_memory
from ..model.freeze import freeze_prefix
from ..model.load import without_library_bars
from ..model.loss import class_counts, class_weights
from ..model.task import Task
from ..runs.events import Events
from ..storage.scratch import Scratch
from .callbacks import EarlyStopping, Recorder, Report, SaveAfterEvaluation, ShowProgress, StopOnRequest
from .checkpoints import Checkpoints, DamagedError
from .deepspeed import weights_only, zero_settings, zero_stage
from .ranks import Ranks
from .throughput import Speed
from .torch_flags import own_flags
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
    """The trainer, and what run.json tells about the training.

    ``weights`` are the chosen model's on rank 0, whole also where the trainer's model is divided; None elsewhere. In a
    process alone the trainer's model has them too.
    """

    trainer: PlanTrainer
    summary: dict[str, Any]
    weights: dict[str, torch.Tensor] | None


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Seed the global generators that training draws from, and give the caller's states back afterwards."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(), own_flags():
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])


def training_arguments(job: Job, scratch: Path) -> TrainingArguments:
    """The user's arguments, and those that the run decides."""
    names = installed_names()
    settings = {names.get(name, name): value for name, value in job.settings.arguments.items()}
    if job.validation is None:
        settings["eval_strategy"] = "no"
    if settings["eval_strategy"] != "no" and job.settings.keep_best:
        settings["metric_for_best_model"] = job.settings.metric
        settings["greater_is_better"] = METRICS[job.settings.metric].higher_is_better
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
                "fp16": device_precision(job.compute) == "fp16",
                "use_cpu": not has_gpu(job.compute),
                "deepspeed": zero_settings(job.compute),
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
    widths = np.minimum(job.train.widths, job.max_length)
    return BatchPlan(lengths=widths, seed=job.seed, **job.settings.global_batch(job.compute.max_workers))


def loss_weights(job: Job) -> np.ndarray:
    setting = job.settings.class_weights
    counts = np.zeros(len(job.class_map), dtype=np.int64)
    if setting == "balanced":
        labels = [job.train.labels_of(row) for row in range(len(job.train))]
        counts = class_counts(labels, len(job.class_map))
    return class_weights(setting, counts, job.class_map)


def check(job: Job, here: bool) -> None:
    """ConfigError where arguments, classes, layers or the validation side do not fit each other; trains nothing.

    ``here``: it will be trained in this process, whose device has to suit the arguments.
    """
    if here:
        with Scratch("check") as folder:
            training_arguments(job, folder)
    batch_plan(job)
    if job.settings.class_weights != "balanced":
        loss_weights(job)
    freeze_prefix(job.model, job.freeze_layers)
    if job.settings.early_stopping_patience is not None:
        evaluates = job.validation is not None and job.settings.arguments["eval_strategy"] != "no"
        early_stopping(job, evaluates and job.settings.keep_best, 1)


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
        model=job.model,
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
    log: Callable[[str], None],
    should_stop: Callable[[], bool] = lambda: False,
    report: Report | None = None,
    ranks: Ranks | None = None,
) -> Fitted:
    """Train, continuing from the newest intact checkpoint; the model of the result is the best one.

    All ``ranks`` call this alike. ``report`` gets step and metrics of each evaluation.

    Raises:
        CancelledError: ``should_stop`` of any rank said so; a checkpoint of the last step is stored.
        WorkFailedError: the loss is no longer finite.
    """
    with (
        Scratch("train") as scratch,
        own_random_state(job.seed),
        without_library_bars(),
    ):
        ranks = ranks or Ranks()
        trainer = build_trainer(job, scratch)
        selecting = trainer.args.metric_for_best_model is not None
        sign = 1 if trainer.args.greater_is_better else -1
        stop = StopOnRequest(should_stop, len(trainer.plan), ranks)
        chosen_by = job.settings.metric if selecting else None
        trainer.add_callback(Speed(trainer, checkpoints))
        trainer.add_callback(Recorder(events, checkpoints, chosen_by, sign, report))
        trainer.add_callback(stop)
        trainer.add_callback(SaveAfterEvaluation(len(trainer.plan)))
        if ranks.is_first and not job.settings.arguments.get("disable_tqdm"):
            trainer.add_callback(ShowProgress())
        if job.settings.early_stopping_patience is not None:
            trainer.add_callback(early_stopping(job, selecting, sign))
        resumed = checkpoints.newest(scratch / "resume", log)
        events.rewind("train", resumed[0].step if resumed else -1)
        if resumed:
            log(f"train: continuing from the checkpoint of step {resumed[0].step}")
        started = time.monotonic()
        torch.manual_seed(job.seed)
        try:
            with explained_memory(lambda: too_large(job, trainer)), weights_only(job.compute):
                trainer.train(resume_from_checkpoint=str(resumed[1]) if resumed else None)
        except BaseException as error:
            with suppress(Exception):  # why training ended matters more
                checkpoints.wait()  # its files lie in the folder that is removed now
            if isinstance(error, ImportError) and not isinstance(error, SortaseError):
                raise MissingExtraError(f"a training argument needs another package: {error}") from error
            raise
        seconds = time.monotonic() - started
        checkpoints.wait()
        events.flush()
        if stop.stopped:
            raise CancelledError(
                f"stopped on request at step {trainer.state.global_step} of {trainer.state.max_steps}; "
                "its checkpoint is stored, the same command continues from there"
            )
        whole = trainer.whole_weights()
        best: int | None = trainer.state.global_step
        weights = whole
        if selecting and ranks.is_first:
            best, weights = take_best(trainer, whole, checkpoints, scratch, log)
        if ranks.world_size == 1 and trainer.deepspeed is None:
            job.model.load_state_dict(weights, strict=False)
            trainer.release()
        told = summary(job, trainer, seconds, best if selecting else None, resumed and resumed[0].step)
        told["checkpoint_wait_seconds"] = round(max(ranks.gather(checkpoints.waited)), 3)
        told["data_wait_seconds"] = round(max(ranks.gather(trainer.data_wait_seconds)), 3)
        told |= rates(trainer, seconds, ranks)
        return Fitted(trainer, told, weights if ranks.is_first else None)


def too_large(job: Job, trainer: PlanTrainer) -> str:
    """What was computed when the device's memory ran out, and what makes it smaller without another global batch."""
    rows, length = trainer.computing
    given = job.settings.global_batch_size or job.settings.global_batch_tokens
    keep = "" if given else f" and train.global_batch_size: {trainer.plan.batch_size}"
    device = job.settings.max_tokens_per_device
    checkpointing = "" if trainer.args.gradient_checkpointing else ", or set train.gradient_checkpointing: true"
    return (
        f"training on {rows} rows of {length:,} tokens at a time does not fit the memory of the GPU. The global batch "
        f"stays the same with a lower train.max_tokens_per_device ({device or f'not set; it was {rows * length}'}), or "
        f"with a lower train.per_device_train_batch_size ({trainer.batches.max_rows}){keep}{checkpointing}"
    )


def early_stopping(job: Job, selecting: bool, sign: int) -> EarlyStopping:
    if not selecting:
        raise ConfigError(EARLY_STOPPING)
    settings = job.settings
    return EarlyStopping(
        settings.metric, sign, settings.early_stopping_patience or 1, settings.early_stopping_threshold
    )


def take_best(
    trainer: PlanTrainer,
    last: dict[str, torch.Tensor],
    checkpoints: Checkpoints,
    scratch: Path,
    log: Callable[[str], None],
) -> tuple[int | None, dict[str, torch.Tensor]]:
    """Step and weights of the best checkpoint; where none was evaluated no step, and the last weights.

    Raises DamagedError where the best one is not what was written.
    """
    best = checkpoints.best()
    if best is None:
        log("train: no checkpoint was evaluated; the model has the last weights")
        return None, last
    if best.step == trainer.state.global_step:
        return best.step, last
    try:
        folder = best.download(scratch / "best")
    except (DamagedError, MissingInputError) as error:
        raise DamagedError(
            f"the best checkpoint, of step {best.step}, is damaged, and its weights are lost: {error}. Remove "
            f"{best.url}, and the same command takes the next best one"
        ) from error
    return best.step, load_file(folder / "model.safetensors")


def summary(job: Job, trainer: PlanTrainer, seconds: float, best: int | None, resumed: int | None) -> dict[str, Any]:
    """What run.json says of the training; seconds count this attempt only."""
    parameters = [(getattr(p, "ds_numel", None) or p.numel(), p.requires_grad) for p in job.model.parameters()]
    return {
        "steps": trainer.state.global_step,
        "epochs": trainer.state.epoch,
        "best_step": best,
        "resumed_from": resumed,
        "seconds": round(seconds, 3),
        "parameters": sum(count for count, _ in parameters),
        "trainable": sum(count for count, learns in parameters if learns),
        "precision": device_precision(job.compute),
        "device": str(trainer.args.device),
        "workers": trainer.args.world_size,
        "zero_stage": zero_stage(job.compute),
        "global_batch": job.settings.global_batch_tokens or trainer.plan.batch_size,
        "rows": len(job.train),
    }


def rates(trainer: PlanTrainer, seconds: float, ranks: Ranks) -> dict[str, Any]:
    """Useful tokens a second of all ranks together, and the share of padding in what they computed."""
    useful = sum(ranks.gather(trainer.batches.useful_tokens))
    padded = sum(ranks.gather(trainer.batches.padded_tokens))
    return {
        "useful_tokens_per_second": round(useful / seconds, 1) if seconds else None,
        "padding_share": round(1 - useful / max(1, padded), 4),
    }
