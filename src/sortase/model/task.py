"""What differs between labelling whole sequences and labelling their tokens; nothing else asks which kind it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.sequences import IGNORED
from ..errors import InputError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Task:
    """A kind of classification.

    ``unit`` is what one prediction is about: a ``row`` of the dataset or a ``token`` in it.
    ``auto_class`` names the ``transformers`` class that loads a model with the fitting head.
    """

    kind: str
    alias: str
    unit: str
    label_column: str
    auto_class: str
    architecture_suffix: str

    def pad_labels(self, labels: list[np.ndarray], shown: np.ndarray) -> np.ndarray:
        """Labels of a batch as the model's loss takes them, int64, ``IGNORED`` where there is none. ``shown`` (bool
        ``[rows, length]``) is where the rows' tokens lie."""
        raise TypeError(f"{self.kind} must say how labels are padded")

    def units(self, logits: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
        """Logits of a batch as ``[units, classes]``: its rows, or its unpadded tokens row by row.

        ``tokens`` are the unpadded ones among all places of the batch; None where no row is padded.
        """
        raise TypeError(f"{self.kind} must say what its units are")

    def unit_counts(self, lengths: np.ndarray) -> np.ndarray:
        """Number of units in rows of these token counts."""
        raise TypeError(f"{self.kind} must say how many units a row has")

    def unit_tokens(self, rows: list[np.ndarray]) -> np.ndarray:
        """Token id of each unit of these rows, int64; -1 where a unit is not a token."""
        raise TypeError(f"{self.kind} must say which tokens its units are")

    def collator(self, tokenizer: Any, max_length: int) -> Any:
        """The public data collator for this kind, padding to the longest of a batch."""
        raise TypeError(f"{self.kind} must say what collates its features")


@dataclass(frozen=True)
class PadToken:
    """What collators read of a tokenizer, for a model that has none."""

    pad_token_id: int

    def save_pretrained(self, folder: Any) -> None:
        """Nothing: transformers' Trainer saves the collator's tokenizer with each checkpoint."""


class SequenceTask(Task):
    """One label for each row."""

    def pad_labels(self, labels: list[np.ndarray], shown: np.ndarray) -> np.ndarray:
        return np.array([row[0] for row in labels], dtype=np.int64)

    def units(self, logits: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
        return logits

    def unit_counts(self, lengths: np.ndarray) -> np.ndarray:
        return np.ones_like(lengths)

    def unit_tokens(self, rows: list[np.ndarray]) -> np.ndarray:
        return np.full(len(rows), -1, dtype=np.int64)

    def collator(self, tokenizer: Any, max_length: int) -> Any:
        from ..data.collators import DataCollatorForCellClassification

        return DataCollatorForCellClassification(tokenizer, padding="longest", max_length=max_length)


class TokenTask(Task):
    """One label for each token, ``IGNORED`` where a token has no class."""

    def pad_labels(self, labels: list[np.ndarray], shown: np.ndarray) -> np.ndarray:
        padded = np.full(shown.shape, IGNORED, dtype=np.int64)
        counts = shown.sum(axis=1)
        padded[shown] = np.concatenate([of[:count] for of, count in zip(labels, counts, strict=True)])
        return padded

    def units(self, logits: torch.Tensor, tokens: torch.Tensor | None) -> torch.Tensor:
        flat = logits.flatten(0, 1)
        return flat if tokens is None else flat.index_select(0, tokens)

    def unit_counts(self, lengths: np.ndarray) -> np.ndarray:
        return lengths

    def unit_tokens(self, rows: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(rows).astype(np.int64)

    def collator(self, tokenizer: Any, max_length: int) -> Any:
        from ..data.collators import DataCollatorForGeneClassification

        return DataCollatorForGeneClassification(tokenizer, padding="longest", max_length=max_length)


TASKS: dict[str, Task] = {
    "sequence": SequenceTask(
        kind="sequence",
        alias="cell",
        unit="row",
        label_column="label",
        auto_class="AutoModelForSequenceClassification",
        architecture_suffix="ForSequenceClassification",
    ),
    "token": TokenTask(
        kind="token",
        alias="gene",
        unit="token",
        label_column="labels",
        auto_class="AutoModelForTokenClassification",
        architecture_suffix="ForTokenClassification",
    ),
}


def task_of(name: Any) -> Task:
    """The task called ``sequence`` or ``cell``, ``token`` or ``gene``."""
    for task in TASKS.values():
        if name in (task.kind, task.alias):
            return task
    raise InputError(f"unknown kind of classifier {name!r}; allowed: 'sequence' ('cell') and 'token' ('gene')")
