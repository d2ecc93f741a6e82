"""Text and Parquet tables of cells x genes. A first column without a name, or of text, names the cells."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..errors import InputError
from .ranking import CHUNK

_BLOCK = 64 << 20


def _split(header: list[str], columns: list[str], cell_column: str | None, name: str) -> list[str]:
    """The columns that are genes."""
    for column in columns:
        if column not in header:
            raise InputError(f"{name} has no column {column!r}; it starts with {header[:8]}")
    genes = [column for column in header if column not in columns and column != cell_column]
    if not genes:
        raise InputError(f"{name} has no gene columns besides {header}")
    return genes


def _chunk(table: pa.Table, genes: list[str], columns: list[str], cell: str | None, start: int, name: str) -> Any:
    from scipy.sparse import csr_matrix

    dense = np.empty((table.num_rows, len(genes)), dtype=np.float32)
    for place, gene in enumerate(genes):
        column = table.column(gene)
        if column.null_count:
            row = start + int(np.argmax(column.is_null().to_numpy()))
            raise InputError(f"{name} has no value for gene {gene!r} in row {row}; counts are finite and not negative")
        dense[:, place] = column.to_numpy()
    names = table.column(cell).cast(pa.string()).to_pylist() if cell else [str(start + i) for i in range(len(dense))]
    return csr_matrix(dense), table.select(columns), names


class TextCounts:
    """Comma or tab separated text, plain or gzipped, read in blocks."""

    cells: int | None = None

    def __init__(self, url: str, path: Path, columns: list[str], delimiter: str):
        self.name, self._path, self._columns, self._delimiter = url, path, columns, delimiter
        opener = gzip.open if url.lower().endswith(".gz") else open
        with opener(path, "rt", newline="") as file:
            lines = csv.reader(file, delimiter=delimiter)
            header, first = next(lines, []), next(lines, [])
        if not header or not first:
            raise InputError(f"{url} has no rows")
        self._cell = header[0] if header[0] not in columns and (not header[0] or not _is_number(first[0])) else None
        self.genes = _split(header, columns, self._cell, url)

    def _blocks(self) -> Iterator[pa.Table]:
        from pyarrow import csv as arrow_csv

        types: dict[str, pa.DataType] = dict.fromkeys(self.genes, pa.float32())
        if self._cell is not None:
            types[self._cell] = pa.string()
        try:
            reader = arrow_csv.open_csv(
                self._path,
                read_options=arrow_csv.ReadOptions(block_size=_BLOCK),
                parse_options=arrow_csv.ParseOptions(delimiter=self._delimiter),
                convert_options=arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=True),
            )
            for batch in reader:
                yield pa.Table.from_batches([batch])
        except pa.ArrowInvalid as error:
            raise InputError(f"{self.name} is not a table of numbers: {error}") from error

    def chunks(self) -> Iterator[tuple[Any, pa.Table, Sequence[str]]]:
        start = 0
        for table in rebatched(self._blocks()):
            yield _chunk(table, self.genes, self._columns, self._cell, start, self.name)
            start += table.num_rows


class ParquetCounts:
    """A Parquet table, read by batches of rows."""

    def __init__(self, url: str, path: Path, columns: list[str]):
        import pyarrow.parquet as pq

        try:
            self._file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise InputError(f"{url} cannot be read as Parquet: {error}") from error
        self.name, self._columns = url, columns
        schema = self._file.schema_arrow
        text = [f.name for f in schema if not (pa.types.is_integer(f.type) or pa.types.is_floating(f.type))]
        self._cell = schema.names[0] if schema.names[0] in text and schema.names[0] not in columns else None
        self.genes = _split(schema.names, columns, self._cell, url)
        strange = [column for column in self.genes if column in text]
        if strange:
            raise InputError(f"{url}: column {strange[0]!r} is not numeric; name metadata in tokenize.columns")
        self.cells: int | None = self._file.metadata.num_rows

    def chunks(self) -> Iterator[tuple[Any, pa.Table, Sequence[str]]]:
        start = 0
        batches = (pa.Table.from_batches([batch]) for batch in self._file.iter_batches(batch_size=CHUNK))
        for table in rebatched(batches):
            yield _chunk(table, self.genes, self._columns, self._cell, start, self.name)
            start += table.num_rows


def rebatched(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows, ``CHUNK`` at a time: what is made of them must not depend on how a file happens to be cut."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        while rows >= CHUNK:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, CHUNK)
            waiting, rows = [joined.slice(CHUNK)], rows - CHUNK
    if rows:
        yield pa.concat_tables(waiting)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
