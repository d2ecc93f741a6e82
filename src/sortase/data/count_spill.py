"""Matrices that do not lie by rows, written by rows to temporary files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import StorageError

BLOCK_VALUES = 4_000_000


def write_array(path: Path, array: np.ndarray) -> None:
    """Append to a temporary file; a full disk is said with path and free space."""
    try:
        with path.open("ab") as file:
            file.write(np.ascontiguousarray(array).data.cast("B"))
    except OSError as error:
        raise _full(path, error) from error


def map_array(path: Path, dtype: Any, mode: Any = "r", length: int | None = None) -> np.ndarray:
    """A file as an array of one dimension; an empty file cannot be mapped and is an empty array."""
    size = length if length is not None else path.stat().st_size // np.dtype(dtype).itemsize
    if size == 0:
        return np.empty(0, dtype)
    try:
        return np.memmap(path, dtype, mode, shape=(size,))
    except OSError as error:
        raise _full(path, error) from error


def _full(path: Path, error: OSError) -> StorageError:
    free = shutil.disk_usage(path.parent).free
    return StorageError(f"cannot write temporary counts to {path}: {error} ({free:,} bytes free); set TMPDIR")


class RowSpill:
    """Rows appended as dense blocks; ``arrays()`` gives them back as indptr, columns and values."""

    def __init__(self, folder: Path, dtype: Any):
        self._columns, self._values = folder / "columns", folder / "values"
        self._columns.touch()
        self._values.touch()
        self._dtype = np.dtype(dtype)
        self._lengths = [np.zeros(1, np.int64)]

    def append(self, dense: np.ndarray) -> None:
        """Not-a-number is kept, so that it can be refused by name."""
        rows, columns = np.nonzero(dense)
        write_array(self._columns, columns.astype(np.int32))
        write_array(self._values, dense[rows, columns].astype(self._dtype))
        self._lengths.append(np.bincount(rows, minlength=len(dense)))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        indptr = np.cumsum(np.concatenate(self._lengths), dtype=np.int64)
        return indptr, map_array(self._columns, np.int32), map_array(self._values, self._dtype)


def transpose(indptr: np.ndarray, rows: Any, values: Any, cells: int, folder: Path) -> tuple[np.ndarray, ...]:
    """Compressed sparse columns as compressed sparse rows, in two passes over blocks of columns.

    ``rows`` and ``values`` are sliced; memory is bounded by a block, the result is memory-mapped.
    """
    lengths = np.zeros(cells, np.int64)
    for _, _, part in _blocks(indptr):
        lengths += np.bincount(rows[part], minlength=cells)
    out_indptr = np.concatenate(([0], np.cumsum(lengths)))
    columns = map_array(folder / "columns", np.int32, "w+", int(out_indptr[-1]))
    out_values = map_array(folder / "values", values.dtype, "w+", int(out_indptr[-1]))
    cursor = out_indptr[:-1].copy()
    for first, last, part in _blocks(indptr):
        cells_of = np.asarray(rows[part])
        order = np.argsort(cells_of, kind="stable")
        counts = np.bincount(cells_of, minlength=cells)
        before = np.concatenate(([0], np.cumsum(counts)[:-1]))
        place = np.arange(len(order)) + (cursor - before)[cells_of[order]]
        columns[place] = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))[order]
        out_values[place] = np.asarray(values[part])[order]
        cursor += counts
    return out_indptr, columns, out_values


def _blocks(indptr: np.ndarray) -> Iterator[tuple[int, int, slice]]:
    """Runs of columns (first, last, their values) of about BLOCK_VALUES values."""
    first = 0
    while first < len(indptr) - 1:
        fitting = int(np.searchsorted(indptr, indptr[first] + BLOCK_VALUES, side="right")) - 1
        last = min(max(fitting, first + 1), len(indptr) - 1)
        yield first, last, slice(int(indptr[first]), int(indptr[last]))
        first = last
