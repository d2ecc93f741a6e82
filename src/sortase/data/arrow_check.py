"""Arrow files are data from outside: their offsets are read as they lie there, so a wrong one reads foreign memory.

Each batch is validated in full where it is read, before anything looks at a value of it.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError
from ..stopping import check

_REMEDY = "copy the dataset again"


def checked_batch(batch: pa.RecordBatch, source: str, first: int) -> pa.RecordBatch:
    """The batch, whose first row is row ``first`` of ``source``; InputError names file, column and row."""
    try:
        batch.validate()
    except pa.ArrowException as error:
        _check_columns(batch, source, first)
        raise InputError(f"{source} is damaged at row {first}: {error}; {_REMEDY}") from error
    _check_columns(batch, source, first)
    return batch


def check_dataset(dataset: Any, source: str) -> None:
    """The same for all batches of a ``datasets.Dataset``."""
    table = getattr(dataset.data, "table", dataset.data)
    for name in table.column_names:
        first = 0
        for chunk in table.column(name).chunks:
            check()
            _check(chunk, source, name, first)
            first += len(chunk)


def _check_columns(batch: pa.RecordBatch, source: str, first: int) -> None:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        _check(column, source, name, first)


def _check(column: pa.Array, source: str, name: str, first: int) -> None:
    if (error := _problem(column)) is None:
        return
    row = _first_wrong(column)
    raise InputError(f"{source} is damaged in column '{name}' at row {first + row}: {error}; {_REMEDY}")


def _problem(column: pa.Array) -> pa.ArrowException | None:
    try:
        column.validate(full=True)
    except pa.ArrowException as error:
        return error
    return None


def _first_wrong(column: pa.Array) -> int:
    """The first row without which the rows before it are whole; 0 where the damage is not of a row."""
    if pa.types.is_dictionary(column.type) and _problem(column.dictionary):
        return max(0, pc.index(column.indices, _first_wrong(column.dictionary)).as_py())
    whole, broken = 0, len(column)
    while broken - whole > 1:
        middle = (whole + broken) // 2
        whole, broken = (whole, middle) if _problem(column.slice(0, middle)) else (middle, broken)
    return whole
