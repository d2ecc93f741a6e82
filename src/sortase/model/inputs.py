"""Which columns of the data a model's forward reads."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..data.padding import TYPES
from ..data.sequences import Sequences
from ..errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Value = TypeVar("Value")


def readable(model: Any, inputs: dict[str, Value]) -> dict[str, Value]:
    """The inputs without token types where the model knows none."""
    if TYPES in inputs and not kinds_of_tokens(model):
        return {name: value for name, value in inputs.items() if name != TYPES}
    return inputs


def kinds_of_tokens(model: Any) -> int:
    """How many ``token_type_ids`` the model tells apart; 0: it does not read them.

    A model without ``type_vocab_size`` that takes them, such as GPT-2, looks them up among its tokens.
    """
    if TYPES not in _parameters(type(model).forward):
        return 0
    size = getattr(model.config, "type_vocab_size", None)
    return int(model.config.vocab_size if size is None else size)


@lru_cache
def _parameters(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


def check_token_types(sequences: Sequences, model: PreTrainedModel) -> str | None:
    """Refuse token types that the model does not have; says so where it does not read the column at all."""
    if not sequences.typed:
        return None
    known = kinds_of_tokens(model)
    if known == 0:
        return f"column '{TYPES}' has no effect: {type(model).__name__} does not read it"
    for window in sequences.windows():
        kinds = sequences.flat_types(window)
        wrong = (kinds < 0) | (kinds >= known)
        if wrong.any():
            place = int(np.argmax(wrong))
            row = window[np.searchsorted(np.cumsum(sequences.lengths[window]), place, side="right")]
            raise InputError(
                f"row {sequences.rows[row]} has {kinds[place]} in '{TYPES}', but the model has {known} "
                f"(0 to {known - 1}); drop the column, or set model.config.type_vocab_size for a new model"
            )
    return None
