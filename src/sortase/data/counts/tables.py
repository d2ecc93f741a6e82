"""Counts of a table, cells x genes: text (csv, tsv, also compressed) or Parquet, read block by block.

A cell's id stands in the first column or a named one; other columns of text are metadata, all numbers are genes.
"""

from __future__ import annotations

import csv
import io
import re
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError
from ...text import encoding_of, stripped
from ..arrow_check import checked_batch
from ..damage import refused
from .counts import CELL, Asked, Counts, choose_columns
from .hdf5_guard import MULTIPLE
from .remote_path import ALWAYS, MOST, RemotePath, opened, size_of
from .spill import RowSpill

SAMPLED_ROWS = 5
_HEAD = 16 << 20  # bytes of a remote file that are looked at
_WORD = pa.dictionary(pa.int32(), pa.string())  # in memory each once
_UNNAMED = re.compile(r"^(|Unnamed: 0|__index_level_0__)$")


@dataclass(frozen=True)
class Layout:
    """Positions of a table's columns by what they are for; genes and metadata may share a name, not a position."""

    header: list[str]
    cell: int | None
    carried: list[int]
    genes: list[int]
    notes: list[str]


def read_table(asked: Asked) -> Counts:
    """Write the numbers by rows to ``scratch``; ids and metadata stay in memory."""
    asked.refuse("a table", "layer", "gene_column")
    is_parquet = asked.path.name.lower().endswith(".parquet")
    layout, batches = (_parquet if is_parquet else _text)(asked)
    spill = RowSpill(asked.scratch, np.float64)
    about: list[pa.RecordBatch] = []
    for batch in islice(batches, 1 if asked.head else None):
        numbers = batch.select(layout.genes).to_tensor(null_to_nan=True, row_major=True).to_numpy()
        spill.append(numbers)
        about.append(_metadata(batch, layout, sum(part.num_rows for part in about)))
    if not about:
        raise InputError(f"{asked.name} holds no cell: it has a header and no rows")
    table = pa.Table.from_batches(about).unify_dictionaries().combine_chunks()
    kept = (table.to_batches() or about)[0]

    def metadata(start: int, stop: int) -> pa.RecordBatch:
        arrays = [_spelt(column) for column in kept.slice(start, stop - start).columns]
        return pa.RecordBatch.from_arrays(arrays, kept.schema.names)

    indptr, columns, values = spill.arrays()
    return Counts(
        name=asked.name,
        genes=[layout.header[place] for place in layout.genes],
        indptr=indptr,
        columns=columns,
        values=values,
        schema=metadata(0, 0).schema,
        metadata=metadata,
        notes=layout.notes,
    )


def _metadata(batch: pa.RecordBatch, layout: Layout, before: int) -> pa.RecordBatch:
    if layout.cell is None:
        ids = pa.array([str(before + row) for row in range(batch.num_rows)], pa.string())
    else:
        ids = _spelt(batch.column(layout.cell)).cast(pa.string())
    names = [CELL, *(layout.header[place] for place in layout.carried)]
    arrays = [ids, *(batch.column(place) for place in layout.carried)]
    plain = [_plain(array, name, layout.notes) for array, name in zip(arrays, names, strict=True)]
    return pa.RecordBatch.from_arrays(plain, names)


def _plain(array: pa.Array, name: str, notes: list[str]) -> pa.Array:
    """Text without the blanks around it, which is noted once."""
    words = array.dictionary if pa.types.is_dictionary(array.type) else array
    if not _is_text(words.type):
        return array
    made = pc.utf8_trim_whitespace(words.cast(pa.string()))
    note = f"blanks around values of column '{name}' are left out"
    if note not in notes and not made.equals(words.cast(pa.string())):
        notes.append(note)
    return made if words is array else pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), made)


def _spelt(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def plan(header: list[str], is_text: list[bool], asked: Asked) -> Layout:
    """Which column is what. ``is_text`` says which ones cannot be counts."""
    cell = _cell_column(header, is_text, asked)
    texts = [place for place, text in enumerate(is_text) if text and place != cell]
    present = [name for place, name in enumerate(header) if place != cell]
    automatic = [header[place] for place in texts] if asked.spec.columns is None else present
    names, notes = choose_columns(asked, present, automatic)
    carried = [header.index(name) for name in names]
    left = [header[place] for place in texts if place not in carried]
    if asked.spec.columns is not None and left:
        notes.append(f"columns of text that tokenize.columns does not name are left out: {left[:10]}")
    taken = {cell, *texts, *carried}
    genes = [place for place in range(len(header)) if place not in taken]
    if not genes:
        raise InputError(f"{asked.name} has no column of numbers; expected a table of counts, cells x genes")
    return Layout(header, cell, carried, genes, notes)


def _cell_column(header: list[str], is_text: list[bool], asked: Asked) -> int | None:
    if asked.spec.cell_column is not None:
        if asked.spec.cell_column not in header:
            raise InputError(f"unknown cell_column '{asked.spec.cell_column}'; {asked.name} begins with {header[:10]}")
        return header.index(asked.spec.cell_column)
    named = [place for place, name in enumerate(header) if _UNNAMED.match(name)]
    if named:
        return named[0]
    return 0 if is_text[0] and header[0] not in (asked.spec.columns or []) else None


def _text(asked: Asked) -> tuple[Layout, Iterator[pa.RecordBatch]]:
    separator = _separator(asked.path)
    blocks = _blocks(asked)
    encoding = encoding_of(blocks, asked.name)
    deque(blocks, 0)  # all of it can be unpacked
    header, sample = _head(asked, separator, encoding)
    is_text = [any(not _is_number(row[place]) for row in sample) for place in range(len(header))]
    layout = plan(header, is_text, asked)
    return layout, _text_batches(asked, separator, encoding, layout, is_text)


def _separator(path: Path | RemotePath) -> str:
    return "," if path.name.lower().removesuffix(".gz").endswith(".csv") else "\t"


def _blocks(asked: Asked) -> Iterator[bytes]:
    """All of a file, or whole lines at the beginning of one that is remote."""
    with _no_text(asked), opened(asked.path) as file:
        if isinstance(asked.path, RemotePath):
            head = file.read(_HEAD)
            yield head if len(head) < _HEAD else head[: head.rfind(b"\n") + 1]
            return
        while block := file.read(1 << 20):
            yield block


def _no_text(asked: Asked) -> AbstractContextManager[None]:
    kinds = (ValueError, OSError, EOFError, zlib.error, csv.Error)
    return refused(lambda error: f"{asked.name} is not a readable table of text: {error}", *kinds)


def _head(asked: Asked, separator: str, encoding: str) -> tuple[list[str], list[list[str]]]:
    """The header and the first rows; R leaves the name of the first column out."""
    csv.field_size_limit(1 << 24)
    with (
        _no_text(asked),
        opened(asked.path) as binary,
        io.TextIOWrapper(binary, encoding=encoding, newline="") as file,
    ):
        header, *rows = islice(csv.reader(file, delimiter=separator), SAMPLED_ROWS + 1)
    header = stripped(header, asked.name)
    if rows and len(rows[0]) == len(header) + 1:
        header = ["", *header]
    uneven = next((number for number, row in enumerate(rows) if len(row) != len(header)), None)
    if uneven is not None:
        raise InputError(f"{asked.name}: row {uneven} has {len(rows[uneven])} values, the header {len(header)} names")
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
    asked: Asked, separator: str, encoding: str, layout: Layout, is_text: list[bool]
) -> Iterator[pa.RecordBatch]:
    """Types are given, not inferred: for 30,000 columns inference takes three times as long as reading."""
    from pyarrow import csv as arrow_csv

    places = [str(place) for place in range(len(layout.header))]
    types = {places[place]: pa.float64() for place in layout.genes}
    types |= {name: _WORD for name, text in zip(places, is_text, strict=True) if text}
    if layout.cell is not None:
        types[places[layout.cell]] = pa.string()
    # Each block costs every column a fixed effort, so wide tables want large ones.
    block = min(64 << 20, max(8 << 20, 2048 * len(places)))
    source = pa.py_buffer(next(_blocks(asked))) if isinstance(asked.path, RemotePath) else asked.path
    kinds = (pa.ArrowException, OSError, UnicodeDecodeError)
    with refused(lambda error: f"{asked.name}: {_in_words(str(error), layout.header)}", *kinds):
        yield from arrow_csv.open_csv(
            source,
            arrow_csv.ReadOptions(
                column_names=places, skip_rows=1, block_size=block, encoding=encoding.removesuffix("-sig")
            ),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(column_types=types),
        )


def _in_words(message: str, header: list[str]) -> str:
    found = re.search(r"column #(\d+)", message)
    return f"column '{header[int(found[1])]}': {message}" if found else message


def _parquet(asked: Asked) -> tuple[Layout, Iterator[pa.RecordBatch]]:
    from pyarrow import parquet

    kinds = (pa.ArrowException, OSError, ValueError, AttributeError, TypeError)
    with refused(lambda error: f"{asked.name} is not a readable Parquet file: {error}", *kinds):
        source = asked.path.open("rb") if isinstance(asked.path, RemotePath) else asked.path
        file = parquet.ParquetFile(source)
        schema = file.schema_arrow
        texts = [item.name for item in schema if _is_text(item.type)]
        file = parquet.ParquetFile(source, metadata=file.metadata, read_dictionary=texts)
        index = [name for name in (schema.pandas_metadata or {}).get("index_columns", []) if isinstance(name, str)]
    claimed, size = 8 * file.metadata.num_rows * len(schema), size_of(asked.path)
    if claimed > ALWAYS + MULTIPLE * size:
        raise InputError(
            f"{asked.name} is broken: it claims {file.metadata.num_rows:,} rows of {len(schema):,} columns in {size:,} "
            "bytes"
        )
    if index and asked.spec.cell_column is None:
        asked = replace(asked, spec=asked.spec.model_copy(update={"cell_column": index[0]}))
    is_text = [not (pa.types.is_integer(t) or pa.types.is_floating(t)) for t in schema.types]
    return plan(schema.names, is_text, asked), _parquet_batches(asked, file)


def _parquet_batches(asked: Asked, file: Any) -> Iterator[pa.RecordBatch]:
    """Text that is stored once may be that of every row."""
    rows = max(1, 16_000_000 // max(1, len(file.schema_arrow)))
    first, left = 0, ALWAYS + MOST * size_of(asked.path)
    if isinstance(asked.path, RemotePath) and file.num_row_groups and _first_group(file) > _HEAD:
        yield pa.RecordBatch.from_pylist([], file.schema_arrow)
        return
    with refused(lambda error: _broken(asked, file, error), pa.ArrowException, OSError, UnicodeDecodeError):
        for batch in file.iter_batches(batch_size=rows):
            checked_batch(batch, asked.name, first)
            left -= sum(_length(column) for column in batch.columns)
            if left < 0:
                raise InputError(f"{asked.name} is broken: its text is far longer than the file")
            yield batch
            first += batch.num_rows


def _length(column: pa.Array) -> int:
    """Bytes of text, spelt out."""
    if not pa.types.is_dictionary(column.type):
        return 0 if pa.types.is_primitive(column.type) else int(column.nbytes)
    return pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0


def _broken(asked: Asked, file: Any, error: Exception) -> str:
    what = " ".join(str(error).split())
    return f"{asked.name} is a broken Parquet file{_broken_column(file)}: {what}; copy the file again"


def _first_group(file: Any) -> int:
    group = file.metadata.row_group(0)
    return sum(group.column(place).total_compressed_size for place in range(group.num_columns))


def _broken_column(file: Any) -> str:
    """Words for the first column that cannot be read by itself; none where each can."""
    for place in range(file.metadata.num_columns):
        path = file.metadata.schema.column(place).path
        try:
            for _ in file.iter_batches(columns=[path]):
                pass
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            return f" in column '{path}'"
    return ""
