"""Token sequences of a dataset as flat memory-mapped arrays: rows are gathered into padded batches without copies
of the whole and without a Python object a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import storage
from ..errors import InputError, InputTypeError
from ..stopping import check
from .arrow_check import check_dataset
from .padding import MASK, TOKENS, TYPES, check_mask_field, check_same_length, mask_values, spans
from .shards import data_files

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100
LABELS = ("label", "labels")


def label_column(names: Sequence[str], usual: str) -> str:
    """The column of the labels: ``usual``, else the one of `LABELS` that is there."""
    return next((name for name in (usual, *LABELS) if name in names), usual)


class _Ragged:
    """A list column: for each row the chunk it lies in, where it starts there and how long it is."""

    def __init__(self, column: pa.ChunkedArray, name: str):
        kind = column.type
        if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(kind.value_type):
            raise InputTypeError(f"column '{name}' holds {kind}; expected lists of integers")
        chunks = [chunk for chunk in column.chunks if len(chunk)]
        if any(chunk.null_count or chunk.flatten().null_count for chunk in chunks):
            raise InputError(f"column '{name}' has missing values; every row needs its list")
        offsets = [chunk.offsets.to_numpy() for chunk in chunks]
        self.values = [chunk.values.to_numpy() for chunk in chunks]
        self.chunk = np.repeat(np.arange(len(chunks), dtype=np.int32), [len(chunk) for chunk in chunks])
        self.start = np.concatenate([o[:-1] for o in offsets] or [np.empty(0)]).astype(np.int64)
        self.length = np.concatenate([np.diff(o) for o in offsets] or [np.empty(0)]).astype(np.int32)

    def narrowed(self, first: np.ndarray, length: np.ndarray) -> _Ragged:
        """Only ``length`` values of each row, from its ``first`` one on."""
        other = object.__new__(_Ragged)
        other.__dict__.update(self.__dict__)
        other.start, other.length = self.start + first, length.astype(np.int32)
        return other

    def row(self, index: int) -> np.ndarray:
        start = self.start[index]
        return self.values[self.chunk[index]][start : start + self.length[index]]

    def flat(self, rows: np.ndarray) -> np.ndarray:
        """The values of these rows, one row after another, int64."""
        ends = np.cumsum(self.length[rows], dtype=np.int64)
        found = np.empty(ends[-1] if len(ends) else 0, dtype=np.int64)
        chunks, lengths = self.chunk[rows], self.length[rows].astype(np.int64)
        for chunk in np.unique(chunks):
            inside = np.flatnonzero(chunks == chunk)
            counts = lengths[inside]
            within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
            source = np.repeat(self.start[rows[inside]], counts) + within
            found[np.repeat(ends[inside] - counts, counts) + within] = self.values[chunk][source]
        return found


class Sequences:
    """Rows of a dataset that carry ``input_ids`` and perhaps labels.

    ``rows`` are the dataset's row numbers (int64) that this view shows, ``lengths`` their token counts (int32).
    ``hidden_tokens`` is a boolean table over token ids: labels of tokens it marks are not shown. Padding that a column
    ``attention_mask`` tells is neither a token nor labelled.
    """

    def __init__(self, dataset: Dataset, label_column: str | None = None):
        table = dataset.data.table if hasattr(dataset.data, "table") else dataset.data
        if "input_ids" not in table.column_names:
            raise InputError(f"the dataset has no column 'input_ids'; it has {sorted(table.column_names)}")
        self._table = table
        self._whole = _Ragged(table.column(TOKENS), TOKENS)  # with what is padded already
        self._tokens, self._first = self._whole, np.zeros(len(self._whole.start), np.int32)
        self._gaps: _Ragged | None = None
        if MASK in table.column_names:
            self._read_mask(table)
        self._types = self._beside(TYPES) if TYPES in table.column_names else None
        indices = dataset._indices
        self.rows: np.ndarray = np.arange(len(dataset), dtype=np.int64)
        self._physical = self.rows if indices is None else indices.column(0).to_numpy().astype(np.int64)
        self._labels: Any = None
        if label_column is not None:
            self._labels = self._read_labels(label_column)
        self.hidden: np.ndarray | None = None

    @classmethod
    def open(cls, source: str | Dataset, label_column: str | None = None) -> Sequences:
        """Memory-map a saved dataset (local folder or URL), or view one that is open already."""
        return cls(open_dataset(source), label_column)

    def _read_labels(self, usual: str) -> Any:
        name = label_column(self._table.column_names, usual)
        if name not in self._table.column_names:
            raise InputError(f"the dataset has no column '{name}'; it has {sorted(self._table.column_names)}")
        column = self._table.column(name)
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            return self._beside(name)
        if not pa.types.is_integer(column.type) or column.null_count:
            raise InputTypeError(f"column '{name}' holds {column.type}; expected a class id in every row")
        return column.to_numpy().astype(np.int64)

    def _beside(self, name: str) -> _Ragged:
        """A column with a number for each token."""
        found = _Ragged(self._table.column(name), name)
        check_same_length(self._whole.length, found.length, 0, name)
        return found if self._tokens is self._whole else found.narrowed(self._first, self._tokens.length)

    def _read_mask(self, table: Any) -> None:
        check_mask_field(table.schema.field(MASK))
        first, length, start, gaps = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0, False
        for chunk in table.column(MASK).chunks:
            for part in (chunk[i : i + 1024] for i in range(0, len(chunk), 1024)):
                lengths = self._whole.length[start : start + len(part)].astype(np.int64)
                found = spans(mask_values(part, lengths, start), lengths)
                first.append(found.first)
                length.append(found.length)
                gaps |= not found.whole.all()
                start += len(part)
        self._first = np.concatenate(first).astype(np.int32)
        self._tokens = self._whole.narrowed(self._first, np.concatenate(length))
        if gaps:
            self._gaps = _Ragged(pc.cast(table.column(MASK), pa.list_(pa.int8())), MASK)
            self._gaps = self._gaps.narrowed(self._first, self._tokens.length)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        return self._tokens.length[self._physical]

    @property
    def widths(self) -> np.ndarray:
        """Positions that a row takes in a batch (int32): its tokens, and the padding before the first one."""
        return self._tokens.length[self._physical] + self._first[self._physical]

    @property
    def columns(self) -> list[str]:
        return list(self._table.column_names)

    def column(self, name: str) -> pa.ChunkedArray:
        """A column's values for the rows of this view, in their order."""
        if name not in self._table.column_names:
            raise InputError(f"unknown column '{name}'; the dataset has {sorted(self._table.column_names)}")
        return self._table.column(name).take(pa.array(self._physical))

    def view(self, indices: np.ndarray | None = None, hidden_tokens: np.ndarray | None = None) -> Sequences:
        """The same data with only the rows at ``indices`` and without the labels of ``hidden_tokens``."""
        other = object.__new__(Sequences)
        other.__dict__.update(self.__dict__)
        if indices is not None:
            other.rows, other._physical = self.rows[indices], self._physical[indices]
        if hidden_tokens is not None:
            other.hidden = hidden_tokens
        return other

    def tokens_of(self, index: int) -> np.ndarray:
        return self._tokens.row(self._physical[index])

    def labels_of(self, index: int) -> np.ndarray:
        """Labels of one row: one value for a sequence, one for each token otherwise."""
        row = self._physical[index]
        if isinstance(self._labels, np.ndarray):
            return self._labels[row : row + 1]
        labels = self._labels.row(row)
        if self.hidden is None:
            return labels
        return np.where(self.hidden[self._tokens.row(row)], IGNORED, labels)

    def flat_tokens(self, indices: np.ndarray) -> np.ndarray:
        """Token ids of these rows, one row after another, int64."""
        return self._tokens.flat(self._physical[indices])

    def flat_labels(self, indices: np.ndarray) -> np.ndarray:
        """Labels of these rows, one row after another, int64: one a row for sequences, one a token otherwise."""
        rows = self._physical[indices]
        if isinstance(self._labels, np.ndarray):
            return self._labels[rows]
        labels = self._labels.flat(rows)
        return labels if self.hidden is None else np.where(self.hidden[self._tokens.flat(rows)], IGNORED, labels)

    def beside(self, indices: np.ndarray) -> list[np.ndarray]:
        """What else than tokens shapes a model's input: padding before the rows, gaps in masks, types of tokens."""
        rows = self._physical[indices]
        columns = [column.flat(rows) for column in (self._gaps, self._types) if column is not None]
        return [*([self._first[rows]] if self._first.any() else []), *columns]

    def flat_types(self, indices: np.ndarray) -> np.ndarray:
        """``token_type_ids`` of these rows, one row after another, int64; only where they are ``typed``."""
        if self._types is None:
            raise InputError(f"the dataset has no column '{TYPES}'")
        return self._types.flat(self._physical[indices])

    @property
    def typed(self) -> bool:
        """Whether the data have ``token_type_ids``."""
        return self._types is not None

    @property
    def labelled_by_token(self) -> bool:
        """Whether each token has a label of its own."""
        return isinstance(self._labels, _Ragged)

    @property
    def labelled(self) -> bool:
        return self._labels is not None

    def model_inputs(self, indices: np.ndarray, max_length: int, pad_id: int) -> dict[str, np.ndarray]:
        """What a model's forward takes of these rows, int64 ``[rows, widest]``: ``input_ids``, ``attention_mask``, and
        ``token_type_ids`` where the data has them.

        Rows are cut at ``max_length`` tokens. Padding before a row's first token stays there, because models with
        absolute positions count it; but it gives way to tokens where both have no room.
        """
        shown, rows = self.shown(indices, max_length), self._physical[indices]
        counts = shown.sum(axis=1)
        arrays = {TOKENS: np.full(shown.shape, pad_id, np.int64), MASK: shown.astype(np.int64)}
        columns = {TOKENS: self._tokens}
        if self._gaps is not None:
            columns[MASK] = self._gaps
        if self._types is not None:
            arrays[TYPES], columns[TYPES] = np.zeros(shown.shape, np.int64), self._types
        for name, column in columns.items():
            values = [column.row(row)[:count] for row, count in zip(rows, counts, strict=True)]
            if values:
                arrays[name][shown] = np.concatenate(values)
        return arrays

    def shown(self, indices: np.ndarray, max_length: int) -> np.ndarray:
        """Where the tokens of these rows lie in the arrays of ``model_inputs``, bool ``[rows, widest]``."""
        rows = self._physical[indices]
        lengths = np.minimum(self._tokens.length[rows], max_length)
        first = np.minimum(self._first[rows], max_length - lengths)
        place = np.arange(int((first + lengths).max(initial=0)))
        return (place >= first[:, None]) & (place < (first + lengths)[:, None])

    def max_token(self) -> int:
        """The largest token id in the whole dataset, -1 when it has none."""
        return max((int(values.max()) for values in self._tokens.values if len(values)), default=-1)

    def windows(self, size: int = 4096) -> Iterator[np.ndarray]:
        """Indices of this view in consecutive windows, for passes whose memory must not grow with the rows."""
        for start in range(0, len(self), size):
            check()
            yield np.arange(start, min(start + size, len(self)))


def open_dataset(source: str | Dataset) -> Dataset:
    """Open what ``Dataset.save_to_disk`` wrote; a remote folder is copied to this node's cache once."""
    from datasets import Dataset, load_from_disk

    if isinstance(source, Dataset):
        check_dataset(source, "the dataset")
        return source
    if not isinstance(source, str):
        raise InputTypeError(f"expected a path or a Dataset, got {type(source).__name__}")
    folder = storage.fetch(source)
    if not (folder / "state.json").is_file():
        raise InputError(f"{source} is not a dataset that save_to_disk wrote: it has no state.json")
    data_files(source, str(folder))
    try:
        dataset = load_from_disk(str(folder))
    except IndexError as error:
        raise InputError(f"{source} holds no row") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise InputError(f"{source} cannot be read, a file of it may be cut short: {error}") from error
    check_dataset(dataset, source)
    return dataset
