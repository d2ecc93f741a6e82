"""What would crash or mislead a model is found on the host, before any tensor reaches it."""

from __future__ import annotations

import numpy as np

from ..errors import InputError
from .sequences import Sequences


def check_tokens(sequences: Sequences, vocabulary_size: int) -> None:
    """Refuse rows without tokens and token ids outside 0..vocabulary_size-1, naming the first such row."""
    for window in sequences.windows():
        lengths = sequences.lengths[window]
        if (lengths == 0).any():
            row = sequences.rows[window[np.argmax(lengths == 0)]]
            raise InputError(f"row {row} has no token; empty rows have to be dropped")
        flat = np.concatenate([sequences.tokens_of(index) for index in window])
        wrong = (flat < 0) | (flat >= vocabulary_size)
        if wrong.any():
            place = int(np.argmax(wrong))
            row = sequences.rows[window[np.searchsorted(np.cumsum(lengths), place, side="right")]]
            raise InputError(
                f"row {row} has token id {flat[place]}, but the model's vocabulary has {vocabulary_size} entries "
                f"(ids 0 to {vocabulary_size - 1}); model and tokenizer do not belong together"
            )


def check_labels(sequences: Sequences, classes: int) -> None:
    """Refuse labels outside 0..classes-1 (-100 apart), naming the first such row."""
    for index in range(len(sequences)):
        labels = sequences.labels_of(index)
        wrong = (labels != -100) & ((labels < 0) | (labels >= classes))
        if wrong.any():
            raise InputError(
                f"row {sequences.rows[index]} has label {labels[wrong][0]}, but there are {classes} classes "
                f"(ids 0 to {classes - 1})"
            )


def overlong(sequences: Sequences, limit: int) -> int:
    """How many rows are longer than ``limit`` tokens and will be cut."""
    return int((sequences.lengths > limit).sum())
