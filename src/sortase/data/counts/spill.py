"""Matrices that do not lie by rows, written by rows to temporary files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, StorageError
from ...stopping import check

BLOCK_VALUES = 4_000_000


def write_array(path: Path, array: np.ndarray) -> None:
    """Append to a temporary file; a full disk is said with path and free space."""
    check()
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


class EntrySpill:
    """Entries (cell, gene, value) in any order, appended; ``arrays()`` gives them back by cells."""

    def __init__(self, folder: Path, dtype: Any, cells: int):
        self._folder, self._dtype = folder, np.dtype(dtype)
        self._lengths, self._last, self._sorted = np.zeros(cells, np.int64), -1, True
        for name in ("cells", "columns", "values"):
            (folder / name).touch()

    def append(self, cells: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        """``cells`` are numbers of cells that there are."""
        if not len(cells):
            return
        self._sorted &= bool(cells[0] >= self._last and (np.diff(cells) >= 0).all())
        self._last = int(cells[-1])
        self._lengths += np.bincount(cells, minlength=len(self._lengths))
        write_array(self._folder / "cells", cells.astype(np.int64))
        write_array(self._folder / "columns", columns.astype(np.int32))
        write_array(self._folder / "values", values.astype(self._dtype))

    def first(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cells that are complete while more entries may come."""
        columns, values = map_array(self._folder / "columns", np.int32), map_array(self._folder / "values", self._dtype)
        whole = self._lengths[: self._last if self._sorted else 0]
        return np.concatenate(([0], np.cumsum(whole, dtype=np.int64))).astype(np.int64), columns, values

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        indptr = np.concatenate(([0], np.cumsum(self._lengths)))
        columns, values = map_array(self._folder / "columns", np.int32), map_array(self._folder / "values", self._dtype)
        if self._sorted:
            return indptr, columns, values
        cells = map_array(self._folder / "cells", np.int64)
        placed = Placed(self._folder, indptr, self._dtype)
        for start in range(0, len(cells), BLOCK_VALUES):
            part = slice(start, start + BLOCK_VALUES)
            placed.add(np.asarray(cells[part]), np.asarray(columns[part]), np.asarray(values[part]))
        return indptr, placed.columns, placed.values


class Placed:
    """Entries put where their cells lie, block by block; ``indptr`` says where. Those of a cell keep their order."""

    def __init__(self, folder: Path, indptr: np.ndarray, dtype: Any):
        self.columns = map_array(folder / "placed_columns", np.int32, "w+", int(indptr[-1]))
        self.values = map_array(folder / "placed_values", dtype, "w+", int(indptr[-1]))
        self._cursor = indptr[:-1].copy()

    def add(self, cells: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        check()
        order = np.argsort(cells, kind="stable")
        counts = np.bincount(cells, minlength=len(self._cursor))
        before = np.concatenate(([0], np.cumsum(counts)[:-1]))
        place = np.arange(len(order)) + (self._cursor - before)[cells[order]]
        self.columns[place], self.values[place] = columns[order], values[order]
        self._cursor += counts


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
        check()
        numbers = np.asarray(rows[part])
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < cells:
            raise InputError(f"the matrix has values for cell number {numbers.max()}, but only {cells} cells")
        lengths += np.bincount(numbers.astype(np.int64), minlength=cells)
    out_indptr = np.concatenate(([0], np.cumsum(lengths)))
    placed = Placed(folder, out_indptr, values.dtype)
    for first, last, part in _blocks(indptr):
        columns = np.repeat(np.arange(first, last), np.diff(indptr[first : last + 1]))
        placed.add(np.asarray(rows[part]), columns, np.asarray(values[part]))
    return out_indptr, placed.columns, placed.values


def _blocks(indptr: np.ndarray) -> Iterator[tuple[int, int, slice]]:
    """Runs of columns (first, last, their values) of about BLOCK_VALUES values."""
    first = 0
    while first < len(indptr) - 1:
        fitting = int(np.searchsorted(indptr, indptr[first] + BLOCK_VALUES, side="right")) - 1
        last = min(max(fitting, first + 1), len(indptr) - 1)
        yield first, last, slice(int(indptr[first]), int(indptr[last]))
        first = last
