"""How a model is trained: our own settings, and any field of Hugging Face's TrainingArguments."""

from __future__ import annotations

from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Literal

from pydantic import ConfigDict, Field

from ..errors import ConfigError
from .base import Section

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "learning_rate": 5e-5,
    "weight_decay": 0.01,
    "warmup_steps": 0.1,
    "per_device_train_batch_size": 8,
    "logging_steps": 10,
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 2,
}

OWNED = {
    "output_dir": "the run folder decides where files go",
    "logging_dir": "the run folder decides where files go",
    "run_name": "it is run.name",
    "seed": "it is run.seed",
    "data_seed": "it is run.seed",
    "deepspeed": "it belongs to compute",
    "fsdp": "DDP and DeepSpeed are the supported ways",
    "fsdp_config": "DDP and DeepSpeed are the supported ways",
    "parallelism_config": "DDP and DeepSpeed are the supported ways",
    "bf16": "it is compute.precision: bf16",
    "fp16": "it is compute.precision: bf16 or fp32",
    "bf16_full_eval": "it is compute.precision: bf16",
    "fp16_full_eval": "it is compute.precision: bf16",
    "local_rank": "the launcher decides it",
    "load_best_model_at_end": "it is train.keep_best",
    "metric_for_best_model": "it is train.metric",
    "greater_is_better": "it follows from train.metric",
    "resume_from_checkpoint": "a run continues by itself from its newest intact checkpoint",
    "ignore_data_skip": "a run continues at the exact step of its batch plan",
    "train_sampling_strategy": "the batch plan groups sequences by length",
    "length_column_name": "the batch plan reads lengths from the data",
    "dataloader_drop_last": "every row counts once in every epoch",
    "auto_find_batch_size": "use train.max_tokens_per_device, which keeps the global batch",
    "remove_unused_columns": "only tokens and labels reach the model",
    "per_device_eval_batch_size": "it is evaluate.batch_size",
    "save_only_model": "a run must be able to continue from its checkpoints",
    "dataloader_num_workers": "batches are gathered from memory-mapped data in the training process",
    "push_to_hub": "models stay in the run folder",
    "do_train": "the stage decides it",
    "do_eval": "the stage decides it",
    "do_predict": "the stage decides it",
}

LOWER_IS_BETTER = ("ece", "loss")
METRICS = ("macro_f1", "weighted_f1", "accuracy", "balanced_accuracy", "mcc", "auroc", "auprc", "ece", "loss")


class TrainSpec(Section):
    """Our settings are checked here; the others must be names of TrainingArguments fields."""

    model_config = ConfigDict(extra="allow", frozen=True, validate_default=True)

    global_batch_size: int | None = Field(
        None,
        ge=1,
        description="Examples in one optimizer step, over all workers. Default: per_device_train_batch_size x "
        "gradient_accumulation_steps x workers.",
    )
    global_batch_tokens: int | None = Field(
        None,
        ge=1,
        description="Padded tokens in one optimizer step, over all workers, instead of a number of examples.",
    )
    max_tokens_per_device: int | None = Field(
        None, ge=1, description="Padded tokens that one forward pass may hold; longer batches are accumulated."
    )
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        "none", description="Weights of the classes in the loss: none, balanced, or given by class name."
    )
    metric: Literal[METRICS] = Field(  # type: ignore[valid-type]
        "macro_f1", description="Metric on the validation side that chooses the best checkpoint."
    )
    keep_best: bool = Field(True, description="The saved model is the best checkpoint on the validation side.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Evaluations without improvement of the metric after which training stops."
    )
    early_stopping_threshold: float = Field(0.0, ge=0, description="Improvement below this does not count.")

    @property
    def arguments(self) -> dict[str, Any]:
        """The TrainingArguments fields: ours by default, the user's where given."""
        return DEFAULTS | (self.__pydantic_extra__ or {})

    def global_batch(self, workers: int) -> dict[str, int]:
        """How large a global batch is: ``batch_size`` examples or ``batch_tokens`` tokens."""
        if self.global_batch_tokens is not None:
            if self.global_batch_size is not None:
                raise ConfigError("give train.global_batch_size or train.global_batch_tokens, not both")
            return {"batch_tokens": self.global_batch_tokens}
        arguments = self.arguments
        each = arguments["per_device_train_batch_size"] * arguments.get("gradient_accumulation_steps", 1)
        return {"batch_size": self.global_batch_size or each * max(1, workers)}


def check_arguments(names: Any) -> None:
    """Refuse names that TrainingArguments does not have, or that another setting decides."""
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments)}
    for name in names:
        if name in OWNED:
            raise ConfigError(f"train.{name} cannot be set: {OWNED[name]}")
        if name not in known:
            near = get_close_matches(name, [*sorted(known - OWNED.keys()), *TrainSpec.model_fields], n=3)
            raise ConfigError(
                f"unknown training argument {name!r}; "
                + (f"did you mean {', '.join(near)}?" if near else "no such field")
            )
