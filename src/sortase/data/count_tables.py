"""Counts of a table, cells x genes: text (csv, tsv, also compressed) or Parquet, read block by block.

A cell's id stands in the first column or a named one; other columns of text are metadata, all numbers are genes.
"""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from ..config.tokenize import TokenizeSpec
from ..errors import InputError
from .count_spill import RowSpill
from .counts import CELL, Counts, choose_columns

SAMPLED_ROWS = 5
_UNNAMED = re.compile(r"^(|Unnamed: 0|__index_level_0__)$")


@dataclass(frozen=True)
class Layout:
    """Positions of a table's columns by what they are for; genes and metadata may share a name, not a position."""

    header: list[str]
    cell: int | None
    carried: list[int]
    genes: list[int]
    notes: list[str]


def read_table(path: Path, spec: TokenizeSpec, scratch: Path) -> Counts:
    """Write the numbers by rows to ``scratch``; ids and metadata stay in memory."""
    if spec.layer is not None or spec.gene_column is not None:
        raise InputError(f"tokenize.layer and tokenize.gene_column belong to .h5ad files; {spec.input} is a table")
    is_parquet = path.name.lower().endswith(".parquet")
    layout, batches = (_parquet if is_parquet else _text)(path, spec)
    spill = RowSpill(scratch, np.float64)
    about: list[pa.RecordBatch] = []
    for batch in batches:
        numbers = batch.select(layout.genes).to_tensor(null_to_nan=True, row_major=True).to_numpy()
        spill.append(numbers)
        about.append(_metadata(batch, layout, sum(part.num_rows for part in about)))
    if not about:
        raise InputError(f"{spec.input} holds no cell: it has a header and no rows")
    metadata = pa.Table.from_batches(about).combine_chunks().to_batches()[0]
    indptr, columns, values = spill.arrays()
    return Counts(
        name=spec.input,
        genes=[layout.header[place] for place in layout.genes],
        indptr=indptr,
        columns=columns,
        values=values,
        schema=metadata.schema,
        metadata=lambda start, stop: metadata.slice(start, stop - start),
        notes=layout.notes,
    )


def _metadata(batch: pa.RecordBatch, layout: Layout, before: int) -> pa.RecordBatch:
    if layout.cell is None:
        ids = pa.array([str(before + row) for row in range(batch.num_rows)], pa.string())
    else:
        ids = batch.column(layout.cell).cast(pa.string())
    arrays = [ids, *(_plain(batch.column(place)) for place in layout.carried)]
    return pa.RecordBatch.from_arrays(arrays, [CELL, *(layout.header[place] for place in layout.carried)])


def _plain(array: pa.Array) -> pa.Array:
    return array.cast(pa.string()) if pa.types.is_dictionary(array.type) else array


def plan(header: list[str], is_text: list[bool], spec: TokenizeSpec) -> Layout:
    """Which column is what. ``is_text`` says which ones cannot be counts."""
    cell = _cell_column(header, is_text, spec)
    texts = [place for place, text in enumerate(is_text) if text and place != cell]
    present = [name for place, name in enumerate(header) if place != cell]
    automatic = [header[place] for place in texts] if spec.columns is None else present
    names, notes = choose_columns(spec, present, automatic)
    carried = [header.index(name) for name in names]
    left = [header[place] for place in texts if place not in carried]
    if spec.columns is not None and left:
        notes.append(f"columns of text that tokenize.columns does not name are left out: {left[:10]}")
    taken = {cell, *texts, *carried}
    genes = [place for place in range(len(header)) if place not in taken]
    if not genes:
        raise InputError(f"{spec.input} has no column of numbers; expected a table of counts, cells x genes")
    return Layout(header, cell, carried, genes, notes)


def _cell_column(header: list[str], is_text: list[bool], spec: TokenizeSpec) -> int | None:
    if spec.cell_column is not None:
        if spec.cell_column not in header:
            raise InputError(f"unknown cell_column '{spec.cell_column}'; {spec.input} begins with {header[:10]}")
        return header.index(spec.cell_column)
    named = [place for place, name in enumerate(header) if _UNNAMED.match(name)]
    if named:
        return named[0]
    return 0 if is_text[0] and header[0] not in (spec.columns or []) else None


def _text(path: Path, spec: TokenizeSpec) -> tuple[Layout, Iterator[pa.RecordBatch]]:
    separator = _separator(path)
    header, sample = _head(path, separator, spec)
    is_text = [any(not _is_number(row[place]) for row in sample) for place in range(len(header))]
    layout = plan(header, is_text, spec)
    return layout, _text_batches(path, separator, layout, is_text, spec)


def _separator(path: Path) -> str:
    return "," if path.name.lower().removesuffix(".gz").endswith(".csv") else "\t"


def _head(path: Path, separator: str, spec: TokenizeSpec) -> tuple[list[str], list[list[str]]]:
    """The header and the first rows; R leaves the name of the first column out."""
    opener = gzip.open if path.name.lower().endswith(".gz") else open
    csv.field_size_limit(1 << 24)
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            header, *rows = islice(csv.reader(file, delimiter=separator), SAMPLED_ROWS + 1)
    except (ValueError, OSError, EOFError, csv.Error) as error:
        raise InputError(f"{spec.input} is not a readable table of text: {error}") from error
    if rows and len(rows[0]) == len(header) + 1:
        header = ["", *header]
    uneven = next((number for number, row in enumerate(rows) if len(row) != len(header)), None)
    if uneven is not None:
        raise InputError(f"{spec.input}: row {uneven} has {len(rows[uneven])} values, the header {len(header)} names")
    return header, rows


def _is_number(text: str) -> bool:
    if text.strip().lower() in ("", "na", "nan", "null"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text_batches(
    path: Path, separator: str, layout: Layout, is_text: list[bool], spec: TokenizeSpec
) -> Iterator[pa.RecordBatch]:
    """Types are given, not inferred: for 30,000 columns inference takes three times as long as reading."""
    from pyarrow import csv as arrow_csv

    places = [str(place) for place in range(len(layout.header))]
    types = {places[place]: pa.float64() for place in layout.genes}
    types |= {name: pa.string() for name, text in zip(places, is_text, strict=True) if text}
    if layout.cell is not None:
        types[places[layout.cell]] = pa.string()
    # Each block costs every column a fixed effort, so wide tables want large ones.
    block = min(64 << 20, max(8 << 20, 2048 * len(places)))
    try:
        yield from arrow_csv.open_csv(
            path,
            arrow_csv.ReadOptions(column_names=places, skip_rows=1, block_size=block),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(column_types=types),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{spec.input}: {_in_words(str(error), layout.header)}") from error


def _in_words(message: str, header: list[str]) -> str:
    found = re.search(r"column #(\d+)", message)
    return f"column '{header[int(found[1])]}': {message}" if found else message


def _parquet(path: Path, spec: TokenizeSpec) -> tuple[Layout, Iterator[pa.RecordBatch]]:
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{spec.input} is not a readable Parquet file: {error}") from error
    schema = file.schema_arrow
    index = [name for name in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
    if index and spec.cell_column is None:
        spec = spec.model_copy(update={"cell_column": index[0]})
    is_text = [not (pa.types.is_integer(t) or pa.types.is_floating(t)) for t in schema.types]
    rows = max(1, 16_000_000 // max(1, len(schema)))
    return plan(schema.names, is_text, spec), file.iter_batches(batch_size=rows)
