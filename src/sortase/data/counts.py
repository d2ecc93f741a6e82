"""Counts of genes per cell as one kind of thing: a sparse matrix by rows that is read chunk by chunk, with names."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import storage
from ..config.tokenize import TokenizeSpec
from ..errors import InputError

CELL = "cell_id"
RESERVED = ("input_ids", "length", "n_counts", CELL)
# Arrays of so many values stay in the processor's cache: a third less time than with eight times as many.
CHUNK_VALUES = 500_000
TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".txt", ".txt.gz", ".parquet")


@dataclass(frozen=True)
class Chunk:
    """Cells ``start`` to ``stop``: ``indptr`` int64[cells + 1] from 0, ``columns`` and ``values`` [n]."""

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
    notes: list[str] = field(default_factory=list)

    @property
    def cells(self) -> int:
        return len(self.indptr) - 1

    def chunks(self, cells: int, values: int | None = None, start: int = 0, end: int | None = None) -> Iterator[Chunk]:
        """Cells from ``start`` to ``end``: so many at most, fewer where they hold more than ``values`` (500,000)."""
        values = values or CHUNK_VALUES
        end = self.cells if end is None else min(end, self.cells)
        while start < end:
            fitting = int(np.searchsorted(self.indptr, self.indptr[start] + values, side="right")) - 1
            stop = min(max(fitting, start + 1), start + cells, end)
            yield self.chunk(start, stop)
            start = stop

    def chunk(self, start: int, stop: int) -> Chunk:
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        try:
            columns, values = np.asarray(self.columns[first:last]), np.asarray(self.values[first:last])
        except (OSError, RuntimeError) as error:
            raise InputError(f"{self.name}: cells {start} to {stop - 1} cannot be read: {error}") from error
        if len(columns) != last - first or len(values) != last - first:
            raise InputError(f"{self.name} ends before cell {stop - 1}; the file is truncated")
        if len(columns) and not 0 <= columns.min() <= columns.max() < len(self.genes):
            raise InputError(
                f"{self.name} has values for gene number {columns.max()}, but only {len(self.genes)} genes"
            )
        return Chunk(start, stop, self.indptr[start : stop + 1] - first, columns, values)

    def cell_name(self, cell: int) -> str:
        return str(self.metadata(cell, cell + 1).column(CELL)[0].as_py())


@contextmanager
def open_counts(spec: TokenizeSpec) -> Iterator[Counts]:
    """Open an AnnData file or a table; what does not lie by rows is laid out so in a temporary folder first.

    Raises MissingInputError, InputError for files of another kind, MissingExtraError for .h5ad without h5py.
    """
    path = storage.fetch(spec.input)
    kind = path.name.lower()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sortase-counts-")))
        if kind.endswith((".h5ad", ".h5", ".hdf5")):
            from .count_h5ad import open_h5ad

            yield stack.enter_context(open_h5ad(path, spec, scratch))
        elif kind.endswith(TABLES):
            from .count_tables import read_table

            yield read_table(path, spec, scratch)
        else:
            raise InputError(f"{spec.input} is neither an AnnData file (.h5ad) nor a table ({', '.join(TABLES)})")


def choose_columns(spec: TokenizeSpec, present: Sequence[str], automatic: Sequence[str]) -> tuple[list[str], list[str]]:
    """The metadata columns to carry: those named, or all that can be; and notes on what was left out."""
    if spec.columns is None:
        taken = [name for name in automatic if name in RESERVED]
        notes = [f"column '{name}' is not carried along: the result has its own" for name in taken]
        return [name for name in automatic if name not in RESERVED], notes
    for name in spec.columns:
        if name in RESERVED:
            raise InputError(f"column '{name}' cannot be carried along: the result has its own; rename it")
        if name not in present:
            shown = sorted(present)[:20]
            raise InputError(f"unknown column '{name}' in tokenize.columns; {spec.input} has {shown}")
        if name not in automatic:
            raise InputError(f"column '{name}' of {spec.input} holds neither text nor numbers and cannot be carried")
    return list(spec.columns), []
