"""Data collators of the public API: features in, padded tensors out; the features themselves stay as they are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import DataCollatorWithPadding

from .. import arguments as check
from ..errors import InputError, InputTypeError
from .padding import MASK, TOKENS, TYPES, check_same_length, spans
from .sequences import IGNORED

_PADDINGS = ("max_length", "longest")
_TENSORS = ("pt", "np")
_LABELS = ("label", "labels", "label_ids")


class _Padder:
    """Pads features as a tokenizer does: to the side that it pads, with its ids, and with a mask.

    A feature that is longer than ``max_length`` gives up its own padding first; then its last tokens, with one warning.
    """

    def __init__(self) -> None:
        self.warned = False

    def __call__(self, collator: Any, features: Sequence[Mapping[str, Any]], more: Mapping[str, int]) -> dict[str, Any]:
        """``more``: by name, what else there is for each token, and what fills it up."""
        tokenizer = collator.tokenizer
        pad = getattr(tokenizer, "pad_token_id", None)
        if pad is None:
            raise InputError("the tokenizer has no pad token; set tokenizer.pad_token")
        fill = {TOKENS: int(pad), MASK: 0, TYPES: int(getattr(tokenizer, "pad_token_type_id", 0)), **more}
        columns = {name: _columns(features, name) for name in fill}
        rows = self._cut({name: found for name, found in columns.items() if found}, collator.max_length)
        width = max(len(row) for row in rows[TOKENS])
        if collator.padding == "max_length" and collator.max_length:
            width = collator.max_length
        if multiple := collator.pad_to_multiple_of:
            width = -(-width // multiple) * multiple
        left = getattr(tokenizer, "padding_side", "right") == "left"
        return {name: _tensor(_filled(found, width, fill[name], left), collator) for name, found in rows.items()}

    def _cut(self, columns: dict[str, list[np.ndarray]], most: int | None) -> dict[str, list[np.ndarray]]:
        lengths = np.array([len(row) for row in columns[TOKENS]])
        for name, found in columns.items():
            check_same_length(lengths, np.array([len(row) for row in found]), 0, name, "feature")
        columns.setdefault(MASK, [np.ones(length, dtype=np.int64) for length in lengths])
        if most is None or lengths.max(initial=0) <= most:
            return columns
        own = spans(np.concatenate(columns[MASK]) != 0, lengths)
        if not self.warned and (own.length > most).any():
            self.warned = True
            longest = int(own.length.max())
            warnings.warn(f"a sequence of {longest} tokens is cut to max_length={most}", stacklevel=4)
        first = np.where(own.length > most, own.first, np.maximum(own.first + own.length - most, 0))
        return {
            name: [row[start : start + most] for row, start in zip(found, first, strict=True)]
            for name, found in columns.items()
        }


def _filled(rows: list[np.ndarray], width: int, fill: int, left: bool) -> np.ndarray:
    padded = np.full((len(rows), width), fill, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[width - len(row) if left else 0 :][: len(row)] = row
    return padded


def _tensor(array: np.ndarray, collator: Any) -> Any:
    return torch.from_numpy(array) if collator.return_tensors == "pt" else array


def _features(features: Any) -> list[Mapping[str, Any]]:
    """Features as a list, also of a dict of lists as ``dataset[:8]`` gives it."""
    if isinstance(features, Mapping):
        columns = {name: list(values) for name, values in features.items()}
        features = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    given = list(features)
    if not given:
        raise InputError("features must have at least one feature")
    if wrong := [feature for feature in given if not isinstance(feature, Mapping)]:
        raise InputTypeError(f"features must be dicts with '{TOKENS}', got {check.shown(wrong[0])}")
    if TOKENS not in given[0]:
        raise InputError(f"features must have '{TOKENS}', got {sorted(map(str, given[0]))}")
    return given


def _given(features: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """What the features have under a name: of all of them, or of none."""
    having = [feature for feature in features if feature.get(name) is not None]
    if having and len(having) < len(features):
        place = next(i for i, feature in enumerate(features) if feature.get(name) is None)
        raise InputError(f"feature {place} has no '{name}', others have")
    return [feature[name] for feature in having]


def _columns(features: Sequence[Mapping[str, Any]], name: str) -> list[np.ndarray]:
    return [_integers(values, f"'{name}' of feature {place}", 1) for place, values in enumerate(_given(features, name))]


def _integers(values: Any, what: str, dimensions: int) -> np.ndarray:
    """A list, array or tensor of whole numbers as int64."""
    try:
        array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{what} must hold whole numbers, got {check.shown(values)}") from error
    if array.size == 0 and dimensions == 1:
        array = array.astype(np.int64)
    if array.ndim != dimensions or array.dtype.kind not in "iub":
        expected = "a list of whole numbers" if dimensions else "a whole number"
        raise InputTypeError(f"{what} must be {expected}, got {check.shown(values)}")
    return array.astype(np.int64)


def _checked(tokenizer: Any, padding: Any, max_length: Any, multiple: Any) -> tuple[str, int | None, int | None]:
    if not hasattr(tokenizer, "pad_token_id"):
        raise InputTypeError(f"tokenizer must be a tokenizer with a pad_token_id, got {check.shown(tokenizer)}")
    padding = "longest" if padding is True else padding
    if not isinstance(padding, str) or padding not in _PADDINGS:
        raise InputError(f"unknown padding {padding!r}; allowed: {', '.join(_PADDINGS)}")
    most = check.optional(check.count(1))("max_length", max_length)
    if padding == "max_length" and most is None:
        raise InputError("padding='max_length' needs max_length")
    return str(getattr(padding, "value", padding)), most, check.optional(check.count(1))("pad_to_multiple_of", multiple)


def _check_tensors(return_tensors: Any) -> str:
    if return_tensors not in _TENSORS:
        allowed = ", ".join(map(repr, _TENSORS))
        raise InputError(f"return_tensors={return_tensors!r} is not supported; allowed: {allowed}")
    return str(return_tensors)


class DataCollatorForCellClassification(DataCollatorWithPadding):
    """Pad sequences and stack their labels.

    Args:
        tokenizer: gives the padding id and its side.
        padding: ``max_length`` (all batches alike) or ``longest`` (of the batch).
        max_length: tokens; longer sequences are cut, with one warning.
        pad_to_multiple_of: lengths are rounded up to a multiple of it.

    Called with features that have ``input_ids`` and perhaps ``label`` (or ``labels``), it returns int64 tensors
    ``input_ids`` and ``attention_mask`` ``[rows, length]`` and ``labels`` ``[rows]``; ``token_type_ids`` where the
    features have them. An ``attention_mask`` of the features is kept. Other columns are left out.

    Raises:
        InputError: a setting is not allowed, or only some of the features have a column.
        InputTypeError: a feature is not a dictionary of whole numbers.
    """

    def __init__(
        self,
        tokenizer: Any,
        padding: str = "max_length",
        max_length: int = 2048,
        *,
        pad_to_multiple_of: int | None = None,
    ):
        padding, most, multiple = _checked(tokenizer, padding, max_length, pad_to_multiple_of)
        super().__init__(tokenizer=tokenizer, padding=padding, max_length=most, pad_to_multiple_of=multiple)
        self._pad = _Padder()

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        given = _features(features)
        batch = self._pad(self, given, {})
        for name in _LABELS:
            if labels := _given(given, name):
                numbers = [_integers(label, f"'{name}' of feature {i}", 0) for i, label in enumerate(labels)]
                return batch | {"labels": _tensor(np.array(numbers, dtype=np.int64), self)}
        return batch


class DataCollatorForGeneClassification:
    """Pad sequences together with one label for each token.

    Args:
        tokenizer: gives the padding id and its side.
        padding: ``longest`` (of the batch) or ``max_length``.
        max_length: tokens; longer sequences are cut together with their labels, with one warning.
        label_pad_token_id: label of padded positions, which the loss ignores.
        return_tensors: ``pt`` (PyTorch) or ``np`` (NumPy).
        pad_to_multiple_of: lengths are rounded up to a multiple of it.

    Called with features that have ``input_ids`` and perhaps ``labels``, it returns int64 tensors ``input_ids``,
    ``attention_mask`` and ``labels``, each ``[rows, length]``; ``token_type_ids`` where the features have them. An
    ``attention_mask`` of the features is kept. Other columns are left out.

    Raises:
        InputError: a setting is not allowed, or only some of the features have a column.
        InputTypeError: a feature is not a dictionary of whole numbers.
    """

    def __init__(
        self,
        tokenizer: Any,
        padding: str = "longest",
        max_length: int | None = None,
        label_pad_token_id: int = IGNORED,
        return_tensors: str = "pt",
        *,
        pad_to_multiple_of: int | None = None,
    ):
        self.padding, self.max_length, self.pad_to_multiple_of = _checked(
            tokenizer, padding, max_length, pad_to_multiple_of
        )
        self.return_tensors = _check_tensors(return_tensors)
        self.tokenizer = tokenizer
        self.label_pad_token_id = int(_integers(label_pad_token_id, "label_pad_token_id", 0))
        self._pad = _Padder()

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        return self._pad(self, _features(features), {"labels": self.label_pad_token_id})
