"""Which rows (or tokens) a model has seen, as 64-bit numbers that are the same on every machine.

A row's fingerprint follows from its ``input_ids``, their order and number, whatever the dataset's chunks and integer
types. Equal fingerprints of different rows are as likely as two random 64-bit numbers being equal.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .. import storage
from ..errors import InputError
from .select import splitmix64
from .sequences import IGNORED, Sequences

Unit = Literal["row", "token"]
UNITS: tuple[Unit, ...] = ("row", "token")
WINDOW_TOKENS = 1_000_000


def windows(sequences: Sequences, tokens: int = WINDOW_TOKENS) -> Iterator[np.ndarray]:
    """Indices of a view in consecutive windows of about so many tokens (and as many rows at most)."""
    total = np.cumsum(np.maximum(sequences.lengths, 1), dtype=np.int64)
    start = 0
    while start < len(total):
        before = total[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(total, before + tokens, side="right")))
        yield np.arange(start, end)
        start = end


def fingerprints(sequences: Sequences, tokens: int = WINDOW_TOKENS) -> np.ndarray:
    """uint64, one for each row of the view; so many ``tokens`` are in memory at a time."""
    found = np.empty(len(sequences), dtype=np.uint64)
    for window in windows(sequences, tokens):
        found[window] = _hashes(sequences.flat_tokens(window), sequences.lengths[window].astype(np.int64))
    return found


def _hashes(flat: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Sums over a row of hashes of (token, place), and the row's length, mixed once more."""
    ends = np.cumsum(lengths)
    places = np.arange(len(flat), dtype=np.int64) - np.repeat(ends - lengths, lengths)
    with np.errstate(over="ignore"):
        terms = splitmix64(splitmix64(flat) + places.astype(np.uint64))
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
        sums = total[ends] - total[ends - lengths]
    return splitmix64(sums ^ splitmix64(lengths))


def labelled_tokens(sequences: Sequences) -> np.ndarray:
    """Ids (uint64, ascending) of the tokens that show a label anywhere in the view."""
    found = np.empty(0, dtype=np.uint64)
    for window in windows(sequences):
        tokens, labels = sequences.flat_tokens(window), sequences.flat_labels(window)
        found = np.union1d(found, tokens[labels != IGNORED].astype(np.uint64))
    return found


def content(sequences: Sequences) -> str:
    """SHA-256 (hex) of the rows of a view, in their order, with the labels that they show."""
    digest = hashlib.sha256()
    for window in windows(sequences):
        digest.update(fingerprints(sequences.view(window)).astype("<u8").tobytes())
        if sequences.labelled:
            digest.update(sequences.flat_labels(window).astype("<i8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Training:
    """What a model was trained on. ``unit`` is what its split divided; ``hashes`` (uint64, ascending, each once) are
    fingerprints of rows, or ids of the tokens whose labels it saw."""

    unit: Unit
    hashes: np.ndarray

    @classmethod
    def of(cls, sides: Iterable[Sequences], unit: Unit) -> Training:
        """Of the training side and, because it chose the checkpoint, the validation side."""
        each = {"row": fingerprints, "token": labelled_tokens}[unit]
        return cls(unit, np.unique(np.concatenate([np.empty(0, np.uint64), *(each(side) for side in sides)])))

    def write(self, url: str) -> None:
        """As .npy, with the unit as the name of its only field."""
        buffer = io.BytesIO()
        np.save(buffer, self.hashes.astype("<u8").view([(self.unit, "<u8")]), allow_pickle=False)
        storage.write_bytes(url, buffer.getvalue())

    @classmethod
    def read(cls, url: str) -> Training:
        """InputError for a file that ``write`` did not make."""
        try:
            found = np.load(io.BytesIO(storage.read_bytes(url)), allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InputError(f"{url} does not hold fingerprints of training rows: {error}") from error
        for unit in UNITS:
            if found.dtype == np.dtype([(unit, "<u8")]) and found.ndim == 1:
                return cls(unit, np.unique(found[unit]).astype(np.uint64))
        raise InputError(f"{url} does not hold fingerprints of training rows but {found.dtype}, shape {found.shape}")


def overlap(evaluation: np.ndarray, training: Training) -> np.ndarray:
    """Positions in ``evaluation`` (fingerprints of rows, or token ids; uint64) of what the model was trained on."""
    return np.flatnonzero(np.isin(evaluation, training.hashes))
