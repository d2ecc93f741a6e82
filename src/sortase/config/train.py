"""How a model is trained: our own settings, and any field of Hugging Face's TrainingArguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, ValidationInfo, model_validator
from pydantic_core import PydanticCustomError

from ..errors import ConfigError
from ..redact import credentials_in
from .argument_translation import understood
from .base import Label, Section
from .metrics import NAMES
from .training_arguments import TABLE
from .worlds import is_python

__all__ = ["DEFAULTS", "TrainSpec", "check_arguments"]

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
INTERVALS = {"logging_steps": "logging_strategy", "save_steps": "save_strategy", "eval_steps": "eval_strategy"}


EARLY_STOPPING = (
    "train.early_stopping_patience needs evaluations on a validation side: split.validation_size above 0, "
    "train.eval_strategy other than 'no', and train.keep_best"
)


class TrainSpec(Section):
    """Our settings, and the arguments of the library as the table of training arguments understands them."""

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
    class_weights: Literal["none", "balanced"] | dict[Label, float] = Field(
        "none", description="Weights of the classes in the loss: none, balanced, or given by class name."
    )
    metric: Literal[NAMES] = Field(  # type: ignore[valid-type]
        "macro_f1", description="Metric on the validation side that chooses the best checkpoint."
    )
    keep_best: bool = Field(True, description="The saved model is the best checkpoint on the validation side.")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="Evaluations without improvement of the metric after which training stops."
    )
    early_stopping_threshold: float = Field(0.0, ge=0, description="Improvement below this does not count.")

    _notes: list[str] = PrivateAttr(default_factory=list)

    @classmethod
    def annotation_of(cls, key: str) -> Any:
        return super().annotation_of(key) or (TABLE[key].takes.annotation if key in TABLE else None)

    @model_validator(mode="wrap")
    @classmethod
    def _understood(cls, values: Any, handler: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        if not isinstance(values, Mapping) or next(credentials_in(dict(values)), None) is not None:
            return handler(values)  # which says what is wrong
        try:
            made = understood(values, cls.model_fields, is_python(info.context))
        except ValueError as error:
            raise PydanticCustomError("training_argument", "{words}", {"words": str(error)}) from error
        spec = handler(made.settings)
        spec._notes = made.notes()
        return spec

    @property
    def notes(self) -> list[str]:
        """Which arguments have no effect here, and what else is to be said about them. Not a part of the settings."""
        return list(self._notes)

    @property
    def arguments(self) -> dict[str, Any]:
        """The TrainingArguments fields: ours by default, the user's where given.

        An interval that is given makes the strategy ``steps`` where that is left open; 0 or less means never.
        """
        given = self.__pydantic_extra__ or {}
        merged = DEFAULTS | given
        for steps, strategy in INTERVALS.items():
            every = given.get(steps)
            if every is None:
                continue
            if every > 0:
                merged[strategy] = given.get(strategy, "steps")
                continue
            del merged[steps]
            if strategy != "eval_strategy" and given.get(strategy, "steps") == "steps":
                merged[strategy] = "no"
        return merged

    def global_batch(self, workers: int) -> dict[str, int]:
        """How large a global batch is: ``batch_size`` examples or ``batch_tokens`` tokens."""
        if self.global_batch_tokens is not None:
            if self.global_batch_size is not None:
                raise ConfigError("give train.global_batch_size or train.global_batch_tokens, not both")
            return {"batch_tokens": self.global_batch_tokens}
        arguments = self.arguments
        each = arguments["per_device_train_batch_size"] * arguments.get("gradient_accumulation_steps", 1)
        return {"batch_size": self.global_batch_size or each * max(1, workers)}


def check_arguments(names: Iterable[str]) -> None:
    """Refuse what the installed version of transformers does not have.

    Raises:
        ConfigError: an argument belongs to a newer version.
    """
    import transformers

    missing = sorted(set(names) - installed_names().keys())
    if missing:
        raise ConfigError(
            f"transformers {transformers.__version__}, which is installed here, has no training argument "
            f"{', '.join(missing)}; install a newer version or leave it out"
        )


def installed_names() -> dict[str, str]:
    """Our name of each argument -> the installed version's. A newer name is served by the one it replaced."""
    from transformers import TrainingArguments

    installed = {field.name for field in fields(TrainingArguments)}
    replaced = {
        row.setting.removeprefix("train."): name
        for name, row in TABLE.items()
        if row.setting is not None and row.setting.startswith("train.") and name in installed
    }
    return replaced | {name: name for name in installed}
