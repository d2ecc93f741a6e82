"""Several matrices as one: their cells one file after the other, their genes by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ...errors import InputError
from .counts import CELL, RESERVED, Asked, Chunk, Counts, unknown_column


@dataclass(frozen=True, kw_only=True)
class Joined(Counts):
    """``files`` are the matrices, ``labels`` their names, ``starts`` int64[files + 1] where their cells begin,
    ``places`` for each of them int32[its genes], the place of each in ``genes``. A gene that a file lacks is 0 there.
    """

    files: Sequence[Counts] = field(repr=False)
    labels: Sequence[str]
    starts: np.ndarray
    places: Sequence[np.ndarray] = field(repr=False)

    @property
    def parts(self) -> Sequence[Counts]:
        return self.files

    def place_of(self, cell: int) -> tuple[str, int]:
        number = int(np.searchsorted(self.starts, cell, side="right")) - 1
        return self.files[number].name, cell - int(self.starts[number])

    def chunk(self, start: int, stop: int) -> Chunk:
        lengths, columns, values = [np.zeros(1, np.int64)], [], []
        for number, first, last in _cut(self.starts, start, stop):
            piece = self.files[number].chunk(first, last)
            lengths.append(np.diff(piece.indptr))
            columns.append(self.places[number][piece.columns])
            values.append(piece.values)
        indptr = np.cumsum(np.concatenate(lengths), dtype=np.int64)
        return Chunk(start, stop, indptr, np.concatenate(columns), np.concatenate(values))

    def said(self) -> list[str]:
        """What each file's reader noted, once, with the files it is said of."""
        said: dict[str, list[str]] = {}
        for counts, label in zip(self.files, self.labels, strict=True):
            for note in counts.said():
                said.setdefault(note, []).append(label)
        return [*(f"{_few(of)}: {note}" for note, of in said.items()), *self.notes]


def _cut(starts: np.ndarray, start: int, stop: int) -> list[tuple[int, int, int]]:
    """(file, first, last) of the cells from ``start`` to ``stop``, rows counted within each file."""
    found = []
    for number in range(int(np.searchsorted(starts, start, side="right")) - 1, len(starts) - 1):
        first, last = max(start, int(starts[number])), min(stop, int(starts[number + 1]))
        if first < last:
            found.append((number, first - int(starts[number]), last - int(starts[number])))
    return found


def join(files: Sequence[Counts], labels: Sequence[str], column: str, asked: Asked) -> Counts:
    """``column`` holds the label of the file that a cell is from. Columns that a file lacks are empty for its cells.

    Raises InputError for columns that none of the files has, or that are named as ``column`` is.
    """
    genes, places = _united([counts.genes for counts in files])
    starts = np.concatenate(([0], np.cumsum([counts.cells for counts in files], dtype=np.int64)))
    ends = np.concatenate(([0], np.cumsum([int(counts.indptr[-1]) for counts in files], dtype=np.int64)))
    indptr = [counts.indptr[1:] + end for counts, end in zip(files, ends, strict=False)]
    schema, notes = _schema(files, labels, column, asked)

    def metadata(start: int, stop: int) -> pa.RecordBatch:
        pieces = [
            _fitted(files[number].metadata(first, last), schema, column, labels[number])
            for number, first, last in _cut(starts, start, stop)
            if first < last
        ]
        return pa.concat_batches(pieces or [pa.RecordBatch.from_pylist([], schema)])

    return Joined(
        name=f"{labels[0]} and {len(files) - 1} more",
        genes=genes,
        indptr=np.concatenate([np.zeros(1, np.int64), *indptr]),
        columns=np.empty(0, np.int32),
        values=np.empty(0),
        schema=schema,
        metadata=metadata,
        other_names=lambda: _common_names(files, places, len(genes)),
        has_raw=any(counts.has_raw for counts in files),
        notes=notes,
        files=files,
        labels=labels,
        starts=starts,
        places=places,
    )


def _united(several: Sequence[list[str]]) -> tuple[list[str], list[np.ndarray]]:
    """The genes of all files in the order in which they are first met; the second of one name in a file is a gene of
    its own, as it is where there is one file."""
    numbers: dict[tuple[str, int], int] = {}
    places = []
    for genes in several:
        met: Counter[str] = Counter()
        place = np.empty(len(genes), np.int32)
        for column, gene in enumerate(genes):
            place[column] = numbers.setdefault((gene, met[gene]), len(numbers))
            met[gene] += 1
        places.append(place)
    return [gene for gene, _ in numbers], places


def _common_names(files: Sequence[Counts], places: Sequence[np.ndarray], genes: int) -> dict[str, list[str]]:
    """Columns of other names that all files have, and in which they name no gene differently."""
    others = [counts.other_names() for counts in files]
    found = {}
    for column in others[0]:
        if not all(column in names for names in others):
            continue
        united: list[str | None] = [None] * genes
        agree = True
        for names, place in zip(others, places, strict=True):
            for gene, name in zip(place.tolist(), names[column], strict=True):
                agree &= united[gene] in (None, name)
                united[gene] = name
        if agree:
            found[column] = [str(name) for name in united]
    return found


def _schema(files: Sequence[Counts], labels: Sequence[str], column: str, asked: Asked) -> tuple[pa.Schema, list[str]]:
    kinds: dict[str, list[pa.DataType]] = {}
    for counts in files:
        for item in counts.schema:
            kinds.setdefault(item.name, []).append(item.type)
    named = asked.spec.columns
    for name in named or []:
        if name not in kinds:
            raise unknown_column(name, f"none of {len(files)} files has it; together they have", list(kinds))
    if column in kinds or column in RESERVED:
        raise InputError(
            f"a column '{column}' is in the data already; set tokenize.file_column to another name for the column that "
            "says which file a row is from"
        )
    order = [CELL, *(named if named is not None else [name for name in kinds if name != CELL])]
    fields = [pa.field(name, _united_type(kinds[name])) for name in order]
    notes = []
    for name in order:
        lacking = [label for label, counts in zip(labels, files, strict=True) if name not in counts.schema.names]
        if lacking:
            notes.append(f"column '{name}' is empty for the cells of {_few(lacking)}, which lack it")
        if len(set(kinds[name])) > 1 and pa.types.is_string(_united_type(kinds[name])):
            notes.append(f"column '{name}' is text in some files and not in others, and is carried as text")
    return pa.schema([fields[0], pa.field(column, pa.string()), *fields[1:]]), notes


def _united_type(kinds: Sequence[pa.DataType]) -> pa.DataType:
    different = [kind for kind in dict.fromkeys(kinds) if not pa.types.is_null(kind)] or [kinds[0]]
    if len(different) == 1:
        return different[0]
    if all(pa.types.is_integer(kind) for kind in different):
        return pa.int64()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in different):
        return pa.float64()
    return pa.string()


def _fitted(batch: pa.RecordBatch, schema: pa.Schema, column: str, label: str) -> pa.RecordBatch:
    arrays = []
    for item in schema:
        if item.name == column:
            arrays.append(pa.array([label] * batch.num_rows, pa.string()))
        elif item.name in batch.schema.names:
            arrays.append(batch.column(item.name).cast(item.type, safe=False))
        else:
            arrays.append(pa.nulls(batch.num_rows, item.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _few(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{labels[0]} and {len(labels) - 1} more"
