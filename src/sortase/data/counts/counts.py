"""Counts of genes per cell as one kind of thing: a sparse matrix by rows that is read chunk by chunk, with names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ...config.tokenize import TokenizeSpec
from ...errors import InputError
from ...stopping import check
from ..damage import DAMAGE, refused
from .remote_path import RemotePath

CELL = "cell_id"
RESERVED = ("input_ids", "length", "n_counts", CELL)
# Arrays of so many values stay in the processor's cache: a third less time than with eight times as many.
CHUNK_VALUES = 500_000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a reader is asked for: a file or folder at ``path``, which messages call ``name``.

    ``head``: it takes no time, and the matrix has the first cells at most, or none; names and columns are complete.
    Only then ``path`` may be remote.
    ``among``: others are read with it, which may have the columns that it lacks.
    """

    path: Path | RemotePath
    name: str
    spec: TokenizeSpec
    scratch: Path
    head: bool = False
    among: bool = False

    def refuse(self, what: str, *settings: str) -> None:
        """InputError for settings that mean nothing to files of this kind."""
        given = [f"tokenize.{name}" for name in settings if getattr(self.spec, name) is not None]
        if given:
            raise InputError(f"{' and '.join(given)} cannot be used here: {self.name} is {what}")


def naming(asked: Asked) -> AbstractContextManager[None]:
    """What a library makes of a file that is not as its format says."""
    kind = "loom" if asked.path.name.lower().endswith(".loom") else "AnnData"
    return refused(lambda error: f"{asked.name} is not a readable {kind} file: {error}", *DAMAGE)


@dataclass(frozen=True)
class Chunk:
    """Cells ``start`` to ``stop``: ``indptr`` int64[cells + 1] from 0, ``columns`` and ``values`` [n].

    No column occurs twice in a cell.
    """

    start: int
    stop: int
    indptr: np.ndarray
    columns: np.ndarray
    values: np.ndarray

    def cell_of_values(self) -> np.ndarray:
        """int64[n], the cell of each value, from 0 within the chunk."""
        return np.repeat(np.arange(self.stop - self.start), np.diff(self.indptr))


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A matrix of cells x genes in the layout of compressed sparse rows.

    ``columns`` and ``values`` are sliced, never read whole: arrays of an HDF5 file, or memory maps.
    ``schema`` and ``metadata(start, stop)`` give the cells' ids and the columns that are carried along.
    ``other_names`` gives other columns of gene names, to suggest when none of ``genes`` is known.
    ``log_base`` is the base of the logarithm that the file records for its values, None where it records none.
    ``gene_of`` int32[columns of the matrix] is the place in ``genes`` of each column, -1 for one that is no gene and is
    left out; None where the columns are the genes.
    """

    name: str
    genes: list[str]
    indptr: np.ndarray
    columns: Any
    values: Any
    schema: pa.Schema
    metadata: Callable[[int, int], pa.RecordBatch]
    other_names: Callable[[], dict[str, list[str]]] = dict
    has_raw: bool = False
    log_base: float | None = None
    gene_of: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def cells(self) -> int:
        return len(self.indptr) - 1

    @property
    def parts(self) -> Sequence[Counts]:
        """The matrices of single files."""
        return (self,)

    def said(self) -> list[str]:
        """Notes; more may come while rows are read."""
        return self.notes

    def place_of(self, cell: int) -> tuple[str, int]:
        """The file that a cell is of, and its row there."""
        return self.name, cell

    def chunks(self, cells: int, values: int | None = None, start: int = 0, end: int | None = None) -> Iterator[Chunk]:
        """Cells from ``start`` to ``end``: so many at most, fewer where they hold more than ``values`` (500,000)."""
        values = values or CHUNK_VALUES
        end = self.cells if end is None else min(end, self.cells)
        while start < end:
            fitting = int(np.searchsorted(self.indptr, self.indptr[start] + values, side="right")) - 1
            stop = min(max(fitting, start + 1), start + cells, end)
            check()
            yield self.chunk(start, stop)
            start = stop

    def chunk(self, start: int, stop: int) -> Chunk:
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        with refused(lambda error: f"{self.name}: cells {start} to {stop - 1} cannot be read: {error}", *DAMAGE):
            columns, values = np.asarray(self.columns[first:last]), np.asarray(self.values[first:last])
        if len(columns) != last - first or len(values) != last - first:
            raise InputError(f"{self.name} ends before cell {stop - 1}; the file is truncated")
        width = len(self.genes if self.gene_of is None else self.gene_of)
        if len(columns) and not 0 <= columns.min() <= columns.max() < width:
            raise InputError(f"{self.name} has values for gene number {columns.max()}, but only {width} genes")
        chunk = Chunk(start, stop, self.indptr[start : stop + 1] - first, columns, values)
        return _summed(chunk if self.gene_of is None else _chosen(chunk, self.gene_of), len(self.genes))

    def cell_name(self, cell: int) -> str:
        return str(self.metadata(cell, cell + 1).column(CELL)[0].as_py())


def _chosen(chunk: Chunk, gene_of: np.ndarray) -> Chunk:
    columns = gene_of[chunk.columns]
    kept = columns >= 0
    indptr = np.concatenate(([0], np.cumsum(kept, dtype=np.int64)))[chunk.indptr]
    return Chunk(chunk.start, chunk.stop, indptr, columns[kept], chunk.values[kept])


def _summed(chunk: Chunk, genes: int) -> Chunk:
    """Entries of one gene in one cell added up: SciPy's formats allow several, and they mean their sum."""
    ascending = chunk.columns[1:] > chunk.columns[:-1]
    between = chunk.indptr[1:-1] - 1  # from the last value of a cell to the first of the next
    ascending[between[(between >= 0) & (between < len(ascending))]] = True
    if ascending.all():
        return chunk
    from scipy.sparse import csr_matrix

    # float64, because small integers overflow when they are added.
    parts = (chunk.values.astype(np.float64), chunk.columns.astype(np.int64), chunk.indptr)
    matrix = csr_matrix(parts, (chunk.stop - chunk.start, genes), copy=True)
    matrix.sum_duplicates()
    return Chunk(chunk.start, chunk.stop, matrix.indptr.astype(np.int64), matrix.indices, matrix.data)


def choose_columns(asked: Asked, present: Sequence[str], automatic: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metadata columns to carry: those named, or all that can be; and notes on what was left out."""
    named = asked.spec.columns
    if named is None:
        taken = [name for name in automatic if name in RESERVED]
        notes = [f"column '{name}' is not carried along: the result has its own" for name in taken]
        return [name for name in automatic if name not in RESERVED], notes
    for name in named:
        if name in RESERVED:
            raise InputError(f"column '{name}' cannot be carried along: the result has its own; rename it")
        if name not in present and not asked.among:
            raise unknown_column(name, asked.name, present)
        if name in present and name not in automatic:
            raise InputError(f"column '{name}' of {asked.name} holds neither text nor numbers and cannot be carried")
    return [name for name in named if name in present], []


def unknown_column(name: str, where: str, present: Sequence[str]) -> InputError:
    return InputError(f"unknown column '{name}' in tokenize.columns; {where} has {sorted(present)[:20]}")
