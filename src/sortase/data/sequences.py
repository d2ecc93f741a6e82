"""Token sequences of a dataset as flat memory-mapped arrays: rows are gathered into padded batches without copies
of the whole and without a Python object a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .. import storage
from ..errors import InputError, InputTypeError

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100


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
    ``hidden_tokens`` is a boolean table over token ids: labels of tokens it marks are not shown.
    """

    def __init__(self, dataset: Dataset, label_column: str | None = None):
        table = dataset.data.table if hasattr(dataset.data, "table") else dataset.data
        if "input_ids" not in table.column_names:
            raise InputError(f"the dataset has no column 'input_ids'; it has {sorted(table.column_names)}")
        self._table = table
        self._tokens = _Ragged(table.column("input_ids"), "input_ids")
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

    def _read_labels(self, name: str) -> Any:
        if name not in self._table.column_names:
            raise InputError(f"the dataset has no column '{name}'; it has {sorted(self._table.column_names)}")
        column = self._table.column(name)
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            labels = _Ragged(column, name)
            if not np.array_equal(labels.length, self._tokens.length):
                row = int(np.flatnonzero(labels.length != self._tokens.length)[0])
                raise InputError(
                    f"row {row} has {self._tokens.length[row]} tokens and {labels.length[row]} labels; "
                    f"'{name}' must be as long as 'input_ids'"
                )
            return labels
        if not pa.types.is_integer(column.type) or column.null_count:
            raise InputTypeError(f"column '{name}' holds {column.type}; expected a class id in every row")
        return column.to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> np.ndarray:
        return self._tokens.length[self._physical]

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

    @property
    def labelled(self) -> bool:
        return self._labels is not None

    def pad(self, indices: np.ndarray, max_length: int, pad_id: int) -> tuple[np.ndarray, np.ndarray]:
        """``input_ids`` and ``attention_mask`` of these rows, int64 ``[rows, longest]``, cut at ``max_length``."""
        rows = self._physical[indices]
        lengths = np.minimum(self._tokens.length[rows], max_length)
        ids = np.full((len(rows), int(lengths.max(initial=0))), pad_id, dtype=np.int64)
        for target, row, length in zip(ids, rows, lengths, strict=True):
            target[:length] = self._tokens.row(row)[:length]
        return ids, (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)

    def max_token(self) -> int:
        """The largest token id in the whole dataset, -1 when it has none."""
        return max((int(values.max()) for values in self._tokens.values if len(values)), default=-1)

    def windows(self, size: int = 4096) -> list[np.ndarray]:
        """Indices of this view in consecutive windows, for passes whose memory must not grow with the rows."""
        return [np.arange(start, min(start + size, len(self))) for start in range(0, len(self), size)]


def open_dataset(source: str | Dataset) -> Dataset:
    """Open what ``Dataset.save_to_disk`` wrote; a remote folder is copied to this node's cache once."""
    from datasets import Dataset, load_from_disk

    if isinstance(source, Dataset):
        return source
    if not isinstance(source, str):
        raise InputTypeError(f"expected a path or a Dataset, got {type(source).__name__}")
    folder = storage.fetch(source)
    if not (folder / "state.json").is_file():
        raise InputError(f"{source} is not a dataset that save_to_disk wrote: it has no state.json")
    try:
        return load_from_disk(str(folder))
    except IndexError as error:
        raise InputError(f"{source} holds no row") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{source} cannot be read, a file of it may be cut short: {error}") from error
