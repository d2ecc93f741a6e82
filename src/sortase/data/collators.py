"""Data collators of the public API: features in, padded tensors out; the features themselves stay as they are."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformers import DataCollatorWithPadding

from ..errors import InputError

_PADDINGS = ("max_length", "longest")


def _check(padding: str, max_length: int | None) -> None:
    if padding not in _PADDINGS:
        raise InputError(f"unknown padding {padding!r}; allowed: {', '.join(_PADDINGS)}")
    if padding == "max_length" and max_length is None:
        raise InputError("padding='max_length' needs max_length")
    if max_length is not None and max_length < 1:
        raise InputError(f"max_length must be at least 1, got {max_length}")


class _Truncation:
    """Cuts what is too long and says so once."""

    def __init__(self, max_length: int | None):
        self.max_length = max_length
        self.told = False

    def __call__(self, values: Any) -> list[int]:
        values = list(values)
        if self.max_length is None or len(values) <= self.max_length:
            return values
        if not self.told:
            self.told = True
            warnings.warn(f"a sequence of {len(values)} tokens is cut to max_length={self.max_length}", stacklevel=3)
        return values[: self.max_length]


def _pad(tokenizer: Any, ids: list[list[int]], padding: str, max_length: int | None) -> dict[str, torch.Tensor]:
    width = max_length if padding == "max_length" and max_length else max(len(row) for row in ids)
    pad = tokenizer.pad_token_id
    if pad is None:
        raise InputError("the tokenizer has no pad token")
    return {
        "input_ids": torch.tensor([row + [pad] * (width - len(row)) for row in ids], dtype=torch.long),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], dtype=torch.long),
    }


class DataCollatorForCellClassification(DataCollatorWithPadding):
    """Pad sequences and stack their labels.

    Args:
        tokenizer: gives the padding id.
        padding: ``max_length`` (all batches alike) or ``longest`` (of the batch).
        max_length: tokens; longer sequences are cut, with one warning.

    Returns, when called with features that have ``input_ids`` and perhaps ``label``, int64 tensors
    ``input_ids`` and ``attention_mask`` ``[rows, length]`` and ``labels`` ``[rows]``.
    """

    def __init__(self, tokenizer: Any, padding: str = "max_length", max_length: int = 2048):
        _check(padding, max_length)
        super().__init__(tokenizer=tokenizer, padding=padding, max_length=max_length)
        self._cut = _Truncation(max_length)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [self._cut(feature["input_ids"]) for feature in features]
        batch = _pad(self.tokenizer, ids, str(self.padding), self.max_length)
        if all("label" in feature for feature in features):
            batch["labels"] = torch.tensor([int(feature["label"]) for feature in features], dtype=torch.long)
        return batch


class DataCollatorForGeneClassification:
    """Pad sequences together with one label for each token.

    Args:
        tokenizer: gives the padding id.
        padding: ``longest`` (of the batch) or ``max_length``.
        max_length: tokens; longer sequences are cut together with their labels, with one warning.
        label_pad_token_id: label of padded positions, which the loss ignores.
        return_tensors: ``pt`` only.

    Returns, when called with features that have ``input_ids`` and perhaps ``labels``, int64 tensors
    ``input_ids``, ``attention_mask`` and ``labels``, each ``[rows, length]``.
    """

    def __init__(
        self,
        tokenizer: Any,
        padding: str = "longest",
        max_length: int | None = None,
        label_pad_token_id: int = -100,
        return_tensors: str = "pt",
    ):
        _check(padding, max_length)
        if return_tensors != "pt":
            raise InputError(f"return_tensors={return_tensors!r} is not supported; allowed: 'pt'")
        self.tokenizer = tokenizer
        self.padding = padding
        self.max_length = max_length
        self.label_pad_token_id = label_pad_token_id
        self.return_tensors = return_tensors
        self._cut = _Truncation(max_length)

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids = [self._cut(feature["input_ids"]) for feature in features]
        batch = _pad(self.tokenizer, ids, self.padding, self.max_length)
        if all("labels" in feature for feature in features):
            batch["labels"] = self._pad_labels(features, ids, batch["input_ids"].shape[1])
        return batch

    def _pad_labels(self, features: list[dict[str, Any]], ids: list[list[int]], width: int) -> torch.Tensor:
        rows = []
        for feature, tokens in zip(features, ids, strict=True):
            labels = list(feature["labels"])
            if len(labels) != len(feature["input_ids"]):
                raise InputError(f"a feature has {len(feature['input_ids'])} tokens and {len(labels)} labels")
            rows.append(labels[: len(tokens)] + [self.label_pad_token_id] * (width - len(tokens)))
        return torch.tensor(rows, dtype=torch.long)
