"""Which rows (or tokens) a model has seen, as 64-bit numbers that are the same on every machine.

A row's fingerprint follows from its ``input_ids``, their order and number, whatever the dataset's chunks and integer
types. Equal fingerprints of different rows are as likely as two random 64-bit numbers being equal.

A row that was cut has another fingerprint than the whole one, so there is a second one of the first ``HEAD`` tokens of
rows that have as many. Shorter cuts are not recognised.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from .. import storage
from ..errors import InputError
from ..stopping import check
from .hashing import splitmix64
from .sequences import IGNORED, Sequences

Unit = Literal["row", "token"]
UNITS: tuple[Unit, ...] = ("row", "token")
WINDOW_TOKENS = 1_000_000
HEAD = 64


def windows(sequences: Sequences, tokens: int = WINDOW_TOKENS) -> Iterator[np.ndarray]:
    """Indices of a view in consecutive windows of about so many tokens (and as many rows at most)."""
    total = np.cumsum(np.maximum(sequences.lengths, 1), dtype=np.int64)
    start = 0
    while start < len(total):
        before = total[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(total, before + tokens, side="right")))
        check()
        yield np.arange(start, end)
        start = end


def fingerprints(sequences: Sequences, tokens: int = WINDOW_TOKENS, limit: int | None = None) -> np.ndarray:
    """uint64, one for each row of the view, cut to ``limit`` tokens; so many ``tokens`` are in memory at a time."""
    found = np.empty(len(sequences), dtype=np.uint64)
    for window in windows(sequences, tokens):
        found[window] = _hashes(sequences.flat_tokens(window), sequences.lengths[window].astype(np.int64), limit)
    return found


def _hashes(flat: np.ndarray, lengths: np.ndarray, limit: int | None) -> np.ndarray:
    """Sums over a row of hashes of (token, place), and the row's length, mixed once more."""
    starts = np.cumsum(lengths) - lengths
    places = np.arange(len(flat), dtype=np.int64) - np.repeat(starts, lengths)
    read = lengths if limit is None else np.minimum(lengths, limit)
    with np.errstate(over="ignore"):
        terms = splitmix64(splitmix64(flat) + places.astype(np.uint64))
        total = np.concatenate([np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)])
        sums = total[starts + read] - total[starts]
    return splitmix64(sums ^ splitmix64(read))


def labelled_tokens(sequences: Sequences) -> np.ndarray:
    """Ids (uint64, ascending) of the tokens that show a label anywhere in the view."""
    found = np.empty(0, dtype=np.uint64)
    for window in windows(sequences):
        tokens, labels = sequences.flat_tokens(window), sequences.flat_labels(window)
        found = np.union1d(found, tokens[labels != IGNORED].astype(np.uint64))
    return found


def content(sequences: Sequences) -> str:
    """SHA-256 (hex) of what a model reads of the rows of a view, in their order, and of the labels that they show."""
    digest = hashlib.sha256()
    for window in windows(sequences):
        digest.update(fingerprints(sequences.view(window)).astype("<u8").tobytes())
        if sequences.labelled:
            digest.update(sequences.flat_labels(window).astype("<i8").tobytes())
        for beside in sequences.beside(window):
            digest.update(beside.astype("<i8").tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Training:
    """What a model was trained on. ``unit`` is what its split divided; ``hashes`` (uint64, ascending, each once) are
    fingerprints of rows, or ids of the tokens whose labels it saw.

    Of rows there are also ``heads``, fingerprints of their first ``HEAD`` tokens, and the length of the ``longest`` one
    of each training that led to the model. Without these rows are recognised whole only.
    """

    unit: Unit
    hashes: np.ndarray
    heads: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.uint64))
    longest: tuple[int, ...] = ()

    @classmethod
    def of(cls, sides: Iterable[Sequences], unit: Unit) -> Training:
        """Of the training side and, because it chose the checkpoint, the validation side."""
        sides = list(sides)
        if unit == "token":
            return cls(unit, _unique(map(labelled_tokens, sides)))
        longest = max((int(side.lengths.max(initial=0)) for side in sides), default=0)
        heads = (fingerprints(side.view(np.flatnonzero(side.lengths >= HEAD)), limit=HEAD) for side in sides)
        return cls(unit, _unique(map(fingerprints, sides)), _unique(heads), (longest,) if longest else ())

    def union(self, other: Training) -> Training:
        """Of a model that went on from another one. InputError for another unit."""
        if other.unit != self.unit:
            raise InputError(f"what was trained on a split by {self.unit} and one by {other.unit} does not add up")
        hashes, heads = _unique((self.hashes, other.hashes)), _unique((self.heads, other.heads))
        return Training(self.unit, hashes, heads, tuple(sorted({*self.longest, *other.longest})))

    def write(self, url: str) -> None:
        """Arrays as .npy, one behind the other: ``hashes`` with the unit as the name of the only field, and of rows
        ``heads`` and ``longest``."""
        buffer = io.BytesIO()
        np.save(buffer, self.hashes.astype("<u8").view([(self.unit, "<u8")]), allow_pickle=False)
        if self.longest:
            np.save(buffer, self.heads.astype("<u8"), allow_pickle=False)
            np.save(buffer, np.array(self.longest, dtype="<i8"), allow_pickle=False)
        storage.write_bytes(url, buffer.getvalue())

    @classmethod
    def read(cls, url: str) -> Training:
        """InputError for a file that ``write`` did not make."""
        data = storage.read_bytes(url)
        buffer = io.BytesIO(data)
        try:
            found, *more = [np.load(buffer, allow_pickle=False), *_rest(buffer, len(data))]
        except (ValueError, EOFError) as error:
            raise InputError(f"{url} does not hold fingerprints of training rows: {error}") from error
        shapes = [(each.dtype, each.ndim) for each in more]
        for unit in UNITS:
            if found.dtype != np.dtype([(unit, "<u8")]) or found.ndim != 1:
                continue
            if not more:
                return cls(unit, _unique([found[unit]]))
            if unit == "row" and shapes == [(np.dtype("<u8"), 1), (np.dtype("<i8"), 1)]:
                return cls(unit, _unique([found[unit]]), _unique(more[:1]), tuple(more[1].tolist()))
        kinds = ", ".join(f"{each.dtype}, shape {each.shape}" for each in (found, *more))
        raise InputError(f"{url} does not hold fingerprints of training rows but {kinds}")


def _rest(buffer: io.BytesIO, size: int) -> Iterator[np.ndarray]:
    while buffer.tell() < size:
        yield np.load(buffer, allow_pickle=False)


def _unique(each: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.empty(0, np.uint64), *each]).astype(np.uint64))


def overlap(evaluation: np.ndarray, training: Training) -> np.ndarray:
    """Positions in ``evaluation`` (fingerprints of rows, or token ids; uint64) of what the model was trained on."""
    return np.flatnonzero(np.isin(evaluation, training.hashes))


def seen_rows(sequences: Sequences, marks: np.ndarray, training: Training) -> np.ndarray:
    """Positions of the rows of the view that the model was trained on, be it cut at another length; ``marks`` are their
    fingerprints.

    Its first ``HEAD`` tokens tell a row that may be cut here or was cut there: one as long as the longest of the view,
    where training rows are longer, and one longer than all of these.
    """
    found, lengths = np.isin(marks, training.hashes), sequences.lengths
    if training.longest and len(lengths):
        cut_here = (lengths == lengths.max()) & (lengths < max(training.longest))
        cut_there = lengths > min(training.longest)
        places = np.flatnonzero(~found & (cut_here | cut_there) & (lengths >= HEAD))
        found[places] = np.isin(fingerprints(sequences.view(places), limit=HEAD), training.heads)
    return np.flatnonzero(found)
