"""What would crash or mislead a model is found on the host, before any tensor reaches it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import InputError
from .sequences import IGNORED, Sequences


def check_tokens(sequences: Sequences, vocabulary_size: int, names: Mapping[int, str] | None = None) -> None:
    """Refuse rows without tokens and token ids outside 0..vocabulary_size-1, naming the first such row.

    ``names``: id -> token, where they are known.
    """
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
            token = (names or {}).get(int(flat[place]))
            called = f" ({token})" if token is not None else ""
            raise InputError(
                f"row {row} has token id {flat[place]}{called}, but the model's vocabulary has {vocabulary_size} "
                f"entries (ids 0 to {vocabulary_size - 1}); it was made with another vocabulary than the data"
            )


def check_labels(sequences: Sequences, classes: int) -> None:
    """Refuse labels outside 0..classes-1 (-100 apart), naming the first such row."""
    for window in sequences.windows():
        flat = sequences.flat_labels(window)
        wrong = (flat != IGNORED) & ((flat < 0) | (flat >= classes))
        if wrong.any():
            place = int(np.argmax(wrong))
            owners = np.repeat(window, sequences.lengths[window]) if sequences.labelled_by_token else window
            row = sequences.rows[owners[place]]
            raise InputError(
                f"row {row} has label {flat[place]}, but there are {classes} classes (ids 0 to {classes - 1})"
            )


def overlong(sequences: Sequences, limit: int) -> int:
    """How many rows are longer than ``limit`` tokens and will be cut."""
    return int((sequences.lengths > limit).sum())
