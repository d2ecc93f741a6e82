"""Counts of a folder as Cell Ranger and STARsolo write it: matrix.mtx, barcodes.tsv, features.tsv or genes.tsv.

The matrix is in Matrix Market's coordinate format (https://math.nist.gov/MatrixMarket/formats.html), genes x cells;
each of the files may be compressed by gzip.
"""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ...text import decode
from ..damage import refused
from .counts import CELL, Asked, Counts, choose_columns
from .remote_path import RemotePath, opened
from .spill import BLOCK_VALUES, EntrySpill
from .tenx import of_expression

_MATRIX, _SUFFIX = "matrix.mtx", ".gz"
_BLOCK = 16 << 20
_LONGEST_LINE, _LONGEST_NAMES = 1 << 16, 1 << 30


def read_mtx(asked: Asked) -> Counts:
    """Ids are the genes' names, symbols may be chosen as ``gene_column: name``."""
    asked.refuse("a folder of matrix.mtx", "layer")
    matrix = _only_matrix(asked)
    prefix = matrix.name[: matrix.name.lower().rindex(_MATRIX)]
    barcodes = [row[0] for row in _rows(_beside(asked, prefix, "barcodes.tsv"), asked)]
    features = _rows(_beside(asked, prefix, "features.tsv", "genes.tsv"), asked)
    columns = {
        name: [row[place] for row in features] for place, name in enumerate(("id", "name")) if _has(features, place)
    }
    kept, notes = np.ones(len(features), bool), list[str]()
    if _has(features, 2):
        kept, notes = of_expression([row[2] for row in features], asked.name)
    chosen = asked.spec.gene_column or "id"
    if chosen not in columns:
        raise InputError(f"unknown gene_column '{chosen}'; features of {asked.name} have {sorted(columns)}")
    names = {name: [text for text, keep in zip(texts, kept, strict=True) if keep] for name, texts in columns.items()}
    indptr, places, values = _entries(matrix, (len(features), len(barcodes)), asked)
    _, left = choose_columns(asked, [], [])
    ids = pa.RecordBatch.from_arrays([pa.array(barcodes, pa.string())], [CELL])
    return Counts(
        name=asked.name,
        genes=names.pop(chosen),
        indptr=indptr,
        columns=places,
        values=values,
        schema=ids.schema,
        metadata=lambda start, stop: ids.slice(start, stop - start),
        other_names=lambda: names,
        gene_of=None if kept.all() else np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32),
        notes=notes + left,
    )


def _has(rows: list[list[str]], place: int) -> bool:
    return bool(rows) and all(len(row) > place for row in rows)


def _only_matrix(asked: Asked) -> Path | RemotePath:
    wanted = (path for path in asked.path.iterdir() if path.name.lower().endswith((_MATRIX, _MATRIX + _SUFFIX)))
    found = sorted(wanted, key=lambda path: path.name)
    if len(found) > 1:
        raise InputError(
            f"{asked.name} holds several matrices: {[path.name for path in found][:10]}; give each a folder of its "
            "own, with its barcodes and features"
        )
    return _inside(found[0], asked)


def _beside(asked: Asked, prefix: str, *names: str) -> Path | RemotePath:
    for name in (prefix + name + suffix for name in names for suffix in ("", _SUFFIX)):
        if (asked.path / name).is_file():
            return _inside(asked.path / name, asked)
    raise InputError(f"{asked.name} has no {prefix}{f' or {prefix}'.join(names)}, also not as .gz, beside its matrix")


def _inside(path: Path | RemotePath, asked: Asked) -> Path | RemotePath:
    """A link may lead to another file of the folder only: what it leads to is read and published."""
    if isinstance(path, RemotePath) or isinstance(asked.path, RemotePath):
        return path
    if not path.resolve().is_relative_to(asked.path.resolve()):
        raise InputError(f"{asked.name}: {path.name} is a link that leads out of its folder; copy what it leads to")
    return path


def _rows(path: Path | RemotePath, asked: Asked) -> list[list[str]]:
    """Lines of a table without a header, blanks around texts left out."""
    with _refused(f"{asked.name}: {path.name}"), opened(path) as file:
        data = file.read(_LONGEST_NAMES + 1)
    if len(data) > _LONGEST_NAMES:
        raise InputError(f"{asked.name}: {path.name} is too large for a list of names")
    lines = csv.reader(
        io.StringIO(decode(data, f"{asked.name}/{path.name}"), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE
    )
    rows = [[text.strip() for text in line] for line in lines]
    while rows and not any(rows[-1]):
        rows.pop()
    blank = next((number for number, row in enumerate(rows, 1) if not row or not row[0]), None)
    if blank is not None:
        raise InputError(f"{asked.name}: line {blank} of {path.name} is empty")
    return rows


def _entries(
    path: Path | RemotePath, shape: tuple[int, int], asked: Asked
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrix by cells. What its header says is held against the names beside it, and against its entries."""
    name = f"{asked.name}: {path.name}"
    with _refused(name), opened(path) as file:
        dtype, stated = _header(file, name)
        genes, cells, entries = stated
        if (genes, cells) != shape:
            turned = "; it is cells x genes, transpose it" if (cells, genes) == shape else ""
            raise InputError(
                f"{name} is of {genes:,} genes and {cells:,} cells, the files beside it name {shape[0]:,} and "
                f"{shape[1]:,}{turned}"
            )
        spill, read = EntrySpill(asked.scratch, dtype, cells), 0
        for block in _blocks(file, dtype, name):
            rows, columns = block[0].to_numpy() - 1, block[1].to_numpy() - 1
            read += len(rows)
            if read > entries:
                break
            for numbers, limit, what in ((rows, genes, "gene"), (columns, cells, "cell")):
                if len(numbers) and not 0 <= numbers.min() <= numbers.max() < limit:
                    wrong = numbers.min() if numbers.min() < 0 else numbers.max()
                    raise InputError(f"{name} has a value for {what} number {wrong + 1}, but only {limit} of them")
            spill.append(columns, rows, block[2].to_numpy())
            if asked.head and read >= BLOCK_VALUES:
                return spill.first()
    if read != entries:
        raise InputError(f"{name} says it has {entries:,} values, it has {'more' if read > entries else f'{read:,}'}")
    return spill.arrays()


def _refused(name: str) -> AbstractContextManager[None]:
    return refused(lambda error: f"{name} cannot be read: {error}", OSError, EOFError, zlib.error)


def _header(file: BinaryIO, name: str) -> tuple[Any, tuple[int, int, int]]:
    first = file.readline(_LONGEST_LINE).decode("latin-1").lower().split()
    kind = {"integer": np.int64, "real": np.float64}.get(first[3]) if len(first) == 5 else None
    if first[:3] != ["%%matrixmarket", "matrix", "coordinate"] or kind is None or first[4] != "general":
        raise InputError(
            f"{name} begins with {' '.join(first)[:80]!r}; expected '%%MatrixMarket matrix coordinate', integer or "
            "real, general"
        )
    line = b"%"
    while line.lstrip().startswith(b"%") or line.isspace():
        line = file.readline(_LONGEST_LINE)
    sizes = line.split()
    if len(sizes) != 3 or not all(size.isdigit() and len(size) < 19 for size in sizes):
        raise InputError(
            f"{name}: its line of sizes is {line.decode('latin-1').strip()[:80]!r}; expected three numbers"
        )
    return kind, (int(sizes[0]), int(sizes[1]), int(sizes[2]))


def _blocks(file: BinaryIO, dtype: Any, name: str) -> Iterator[pa.Table]:
    """Entries, in tables of three columns without names."""
    from pyarrow import csv as arrow_csv

    columns = ["gene", "cell", "value"]
    types = dict(zip(columns, (pa.int64(), pa.int64(), pa.from_numpy_dtype(dtype)), strict=True))
    rest = b""
    while True:
        block = file.read(_BLOCK)
        whole, end, rest = (rest + block).rpartition(b"\n") if block else (rest, b"", b"")
        if len(rest) > _LONGEST_LINE:
            raise InputError(f"{name} has a line of more than {_LONGEST_LINE:,} characters")
        if (whole + end).strip():
            try:
                yield arrow_csv.read_csv(
                    io.BytesIO(_single_blanks(whole)),
                    arrow_csv.ReadOptions(column_names=columns),
                    arrow_csv.ParseOptions(delimiter=" "),
                    arrow_csv.ConvertOptions(column_types=types, null_values=[]),
                )
            except pa.ArrowInvalid as error:
                raise InputError(f"{name}: {error}; expected lines of gene, cell and value") from error
        if not block:
            return


def _single_blanks(lines: bytes) -> bytes:
    """Any blanks may stand between the numbers; nearly always it is one."""
    if b"\t" not in lines and b"  " not in lines and b"\n " not in lines and b" \n" not in lines and lines[:1] != b" ":
        return lines
    return b"\n".join(b" ".join(line.split()) for line in lines.split(b"\n"))
