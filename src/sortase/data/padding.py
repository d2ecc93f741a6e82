"""Rows that are padded already: a column ``attention_mask`` says where a row's own tokens lie.

A row's own tokens go from the first to the last position that the mask shows; what is masked between them stays a
token, which the others do not attend to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, InputTypeError
from .arrow_lists import flat_tokens, lengths_of

TOKENS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"


@dataclass(frozen=True)
class Spans:
    """Of each row, int64: the positions before its ``first`` own token, and their number; ``whole`` rows have no masked
    position among their own."""

    first: np.ndarray
    length: np.ndarray
    whole: np.ndarray


def spans(mask: np.ndarray, lengths: np.ndarray) -> Spans:
    """Of rows one after another: ``mask`` (bool) of all their positions, ``lengths`` how many each has."""
    stops = np.cumsum(lengths, dtype=np.int64)
    starts = stops - lengths
    before = np.concatenate([[0], np.cumsum(mask, dtype=np.int64)])
    count = before[stops] - before[starts]
    shown, some = np.flatnonzero(mask), count > 0
    first, length = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    first[some] = shown[before[starts[some]]] - starts[some]
    length[some] = shown[before[stops[some]] - 1] + 1 - starts[some] - first[some]
    return Spans(first, length, count == length)


def check_mask_field(field: pa.Field) -> None:
    kind = field.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    fitting = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_floating)
    if not lists or not any(fits(kind.value_type) for fits in fitting):
        raise InputTypeError(f"column '{field.name}' holds {kind}; expected lists of 0 and 1, one for each token")


def mask_values(mask: pa.Array, tokens: np.ndarray, start: int) -> np.ndarray:
    """The mask of rows from ``start`` on as bool; ``tokens`` (lengths of their ``input_ids``) must be its own."""
    if mask.null_count or mask.flatten().null_count:
        raise InputError(f"column '{MASK}' has missing values; every token needs 0 or 1")
    check_same_length(tokens, lengths_of(mask), start, MASK)
    flat = mask.flatten()
    if pa.types.is_boolean(flat.type):
        return np.asarray(flat.to_numpy(zero_copy_only=False))
    values = flat.to_numpy()
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        place = int(np.argmax(wrong))
        row = start + int(np.searchsorted(np.cumsum(tokens), place, side="right"))
        raise InputError(f"row {row} has {values[place]} in '{MASK}'; allowed: 1 for a token, 0 for padding")
    return values.astype(bool)


def check_same_length(tokens: np.ndarray, others: np.ndarray, start: int, name: str, what: str = "row") -> None:
    """Refuse a row from ``start`` on whose list ``name`` is not as long as its ``input_ids``."""
    if not np.array_equal(tokens, others):
        place = int(np.argmax(tokens != others))
        raise InputError(
            f"{what} {start + place} has {tokens[place]} tokens and {others[place]} values in '{name}'; "
            f"'{name}' must be as long as 'input_ids'"
        )


def token_columns(names: Sequence[str]) -> list[str]:
    """What has to be read of a dataset with these columns to know the rows' tokens."""
    return [TOKENS, *([MASK] if MASK in names else [])]


def row_spans(batch: pa.RecordBatch, start: int = 0) -> Spans:
    """Of the rows of a batch, whose first one is row ``start`` of the dataset."""
    lengths = lengths_of(batch.column(TOKENS))
    if MASK not in batch.schema.names:
        return Spans(np.zeros_like(lengths), lengths, np.ones(len(lengths), dtype=bool))
    check_mask_field(batch.schema.field(MASK))
    return spans(mask_values(batch.column(MASK), lengths, start), lengths)


def own(batch: pa.RecordBatch, column: str = TOKENS) -> pa.Array:
    """A column of lists, one value for each position of the rows, without the values of their padding."""
    values = batch.column(column)
    if MASK not in batch.schema.names:
        return values
    found, lengths = row_spans(batch), lengths_of(values)
    if np.array_equal(found.length, lengths):
        return values
    offsets = np.concatenate([[0], np.cumsum(found.length)])
    keep = pa.array(inside(found, lengths))
    build = pa.LargeListArray if pa.types.is_large_list(values.type) else pa.ListArray
    integers = np.int64 if pa.types.is_large_list(values.type) else np.int32
    return build.from_arrays(pa.array(offsets.astype(integers)), pc.filter(values.flatten(), keep), type=values.type)


def inside(found: Spans, lengths: np.ndarray) -> np.ndarray:
    """Which positions of all rows, one row after another, are the rows' own (bool)."""
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    first = np.repeat(found.first, lengths)
    return (within >= first) & (within < first + np.repeat(found.length, lengths))


def own_tokens(batch: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of the rows one after another, without padding, and how many each row has."""
    column = own(batch)
    return flat_tokens(column), lengths_of(column)
