"""Which rows stay: filters, rare classes and caps, as thresholds on a seeded hash of a row's position.

A cap keeps the rows of smallest hash. The hash is a bijection of positions, so that a threshold meets a cap exactly,
and every unit of work can tell by itself which of its rows stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError
from ..source import Source, require_column, rows_of

BUCKET_BITS = 12
ALL = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class Filter:
    """A column must hold one of ``allowed`` (an Arrow array of the column's type, nulls allowed)."""

    column: str
    allowed: pa.Array

    def mask(self, batch: pa.RecordBatch) -> np.ndarray:
        return pc.is_in(batch.column(self.column), value_set=self.allowed).to_numpy(zero_copy_only=False)


def make_filters(filters: Mapping[str, Any] | None, source: Source) -> tuple[Filter, ...]:
    """Filters by column, each a value or a list of values; class names where the column is a ClassLabel."""
    return tuple(_make_filter(name, value, source) for name, value in (filters or {}).items())


def passing(source: Source, filters: Sequence[Filter]) -> np.ndarray:
    """For each row, bool ``[rows]``, whether it passes all of these."""
    parts = [np.ones(0, dtype=bool)]
    for unit in source.units if filters else ():
        for batch in source.read(unit, [condition.column for condition in filters]):
            parts.append(np.logical_and.reduce([condition.mask(batch) for condition in filters]))
    return np.concatenate(parts) if filters else np.ones(rows_of(source), dtype=bool)


def _make_filter(name: str, value: Any, source: Source) -> Filter:
    kind = require_column(source, name, "data.filter").type
    values = list(value) if isinstance(value, list | tuple | set | frozenset | np.ndarray | range) else [value]
    class_names = (source.features.get(name) or {}).get("names")
    if class_names:
        values = [class_names.index(v) if v in class_names else v for v in values]
    try:
        allowed = pa.array([_plain(v, kind) for v in values], type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        holds = f"the classes {class_names}" if class_names else f"values of type {kind}"
        hint = "; in run.yaml put text that looks like a number in quotes, as '010'" if pa.types.is_string(kind) else ""
        raise InputError(f"data.filter of column '{name}': {value!r} does not fit, it holds {holds}{hint}") from error
    return Filter(name, allowed)


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Arrow would take True for 1, and 1 for the text '1': neither is what a filter says."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) and not pa.types.is_boolean(kind):
        raise pa.ArrowTypeError(f"{value} is no {kind}")
    return value


def holdings(values: Iterable[Any], most: int = 10) -> str:
    """Distinct values of a column, for an error message."""
    shown = [repr(value) for value in values]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


@dataclass(frozen=True)
class Histogram:
    """How many rows of each class fall into each bucket of priorities (its first `BUCKET_BITS` bits).

    ``names`` are classes; ``cells`` are ``class * 2**BUCKET_BITS + bucket`` in ascending order with their ``counts``.
    """

    names: tuple[str | None, ...]
    cells: np.ndarray
    counts: np.ndarray


def histogram(names: Sequence[str | None], codes: np.ndarray, priority: np.ndarray) -> Histogram:
    cells = (codes.astype(np.int64) << BUCKET_BITS) | _bucket(priority)
    return Histogram(tuple(names), *np.unique(cells, return_counts=True))


def _bucket(priority: np.ndarray) -> np.ndarray:
    return (priority >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)


def add_up(parts: Iterable[Histogram], names: Sequence[str | None]) -> np.ndarray:
    """Rows ``[class, bucket]`` over all units, for these classes."""
    place = {name: i for i, name in enumerate(names)}
    total = np.zeros((len(names), 1 << BUCKET_BITS), dtype=np.int64)
    for part in parts:
        index = np.array([place.get(name, -1) for name in part.names], dtype=np.int64)
        rows, buckets = index[part.cells >> BUCKET_BITS], part.cells & ((1 << BUCKET_BITS) - 1)
        np.add.at(total, (rows[rows >= 0], buckets[rows >= 0]), part.counts[rows >= 0])
    return total


@dataclass(frozen=True)
class Boundaries:
    """The buckets in which the thresholds lie: one of all rows (or -1), and one for each class (or -1)."""

    names: tuple[str | None, ...]
    overall: int
    of_class: np.ndarray

    def wanted(self, names: Sequence[str | None], codes: np.ndarray, priority: np.ndarray) -> np.ndarray:
        """Mask of the rows whose exact priority decides."""
        place = {name: i for i, name in enumerate(self.names)}
        index = np.array([place.get(name, len(place)) for name in names], dtype=np.int64)[codes]
        bucket = _bucket(priority)
        of_row = np.append(self.of_class, -2)[index]
        return (index < len(place)) & ((bucket == self.overall) | (bucket == of_row))


def boundaries(
    names: Sequence[str | None], table: np.ndarray, overall: int | None, per_class: int | None
) -> Boundaries:
    """Where the ``overall``-th row of all and the ``per_class``-th of each class lie; -1 where a cap does not bind."""
    of_class = np.array([_place(row, per_class) for row in table], dtype=np.int64)
    return Boundaries(tuple(names), _place(table.sum(axis=0), overall), of_class)


def _place(counts: np.ndarray, cap: int | None) -> int:
    if cap is None or counts.sum() <= cap:
        return -1
    return int(np.searchsorted(np.cumsum(counts), cap, side="left"))


@dataclass(frozen=True)
class Thresholds:
    """Rows of priority at most ``overall`` pass the global cap, those at most ``of_class`` the cap of their class."""

    overall: np.uint64
    of_class: np.ndarray
    after_overall: np.ndarray
    after_both: np.ndarray


def thresholds(
    table: np.ndarray, where: Boundaries, exact: Sequence[np.ndarray], overall: int | None, per_class: int | None
) -> Thresholds:
    """Thresholds and the rows of each class that pass. ``exact``: by class, the priorities in the boundary buckets."""
    limit = _limit(table.sum(axis=0), where.overall, np.concatenate([*exact, np.empty(0, np.uint64)]), overall)
    pairs = zip(table, where.of_class, exact, strict=True)
    limits = np.array([_limit(row, bucket, values, per_class) for row, bucket, values in pairs], dtype=np.uint64)
    return Thresholds(
        limit,
        limits,
        np.array([_below(row, values, limit) for row, values in zip(table, exact, strict=True)], dtype=np.int64),
        np.array(
            [_below(row, values, min(limit, own)) for row, values, own in zip(table, exact, limits, strict=True)],
            dtype=np.int64,
        ),
    )


def _limit(counts: np.ndarray, bucket: int, exact: np.ndarray, cap: int | None) -> np.uint64:
    """The ``cap``-th smallest priority."""
    if bucket < 0 or cap is None:
        return ALL
    inside = np.sort(exact[_bucket(exact) == bucket])
    return np.uint64(inside[cap - int(counts[:bucket].sum()) - 1])


def _below(counts: np.ndarray, exact: np.ndarray, limit: np.uint64) -> int:
    if limit == ALL:
        return int(counts.sum())
    bucket = int(limit >> np.uint64(64 - BUCKET_BITS))
    inside = exact[_bucket(exact) == bucket]
    return int(counts[:bucket].sum() + (inside <= limit).sum())
