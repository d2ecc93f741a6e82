"""The two passes over a source: count what every decision needs, then select, label and write.

Each pass is a picklable function of one unit, so that threads, processes or a cluster can run it; what it returns are
counts and file names, never rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ...errors import InputError
from ..hashing import priorities
from ..labels import check_tokens, row_classes
from ..padding import row_spans, token_columns
from ..shards import Shard, with_features, write_shard
from ..source import Source, Unit
from .filters import ALL, Boundaries, Filter, Histogram, histogram
from .labelling import Labelling, Tally
from .take import choose

MAX_CLASSES = 20_000
Classes = Counter[str | None]


@dataclass(frozen=True)
class Rows:
    """Which rows are candidates, and of which class each is. ``column`` None: all of one class without a name.

    ``required``: rows without a label are no candidates. ``rename``: what a label counts as, None to drop its rows.
    """

    source: Source
    filters: tuple[Filter, ...]
    column: str | None
    required: bool
    seed: int
    rename: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def class_names(self) -> Sequence[str] | None:
        feature: Any = self.source.features.get(self.column or "") or {}
        return feature.get("names") if isinstance(feature, dict) else None

    @property
    def columns(self) -> list[str]:
        """What counting has to read."""
        named = [*(f.column for f in self.filters), *([self.column] if self.column else [])]
        return list(dict.fromkeys([*named, *token_columns(self.source.schema.names)]))

    def classes(self, batch: pa.RecordBatch) -> tuple[list[str | None], np.ndarray]:
        return self.renamed(*self.labels(batch))

    def labels(self, batch: pa.RecordBatch) -> tuple[list[str | None], np.ndarray]:
        """What the column says, before any rule."""
        if self.column is None:
            return [None], np.zeros(batch.num_rows, dtype=np.int64)
        return row_classes(batch.column(self.column), self.class_names)

    def renamed(self, names: list[str | None], codes: np.ndarray) -> tuple[list[str | None], np.ndarray]:
        """Labels as the classes that they count as; those to be dropped keep their names, so that they are told."""
        if not self.rename:
            return names, codes
        meant = [(self.rename.get(name) or name) if name is not None else None for name in names]
        unique = list(dict.fromkeys(meant))
        place = {name: i for i, name in enumerate(unique)}
        return unique, np.array([place[name] for name in meant], dtype=np.int64)[codes]

    def passing(self, batch: pa.RecordBatch) -> np.ndarray:
        mask = np.ones(batch.num_rows, dtype=bool)
        for condition in self.filters:
            mask &= condition.mask(batch)
        return mask


@dataclass(frozen=True)
class UnitCounts:
    """Rows of each class: all, past the filters, of these with tokens; the latter's priorities when caps need them.

    ``ruled``: rows with tokens of each label that `Rows.rename` names.
    """

    input: Classes
    filtered: Classes
    filled: Classes
    ruled: Classes
    buckets: Histogram | None


@dataclass(frozen=True)
class UnitRows:
    """Per row of a unit: place of its class in ``names``, whether it passes the filters, whether it has tokens.

    ``labels`` and ``label_codes`` are the same before any rule.
    """

    names: list[str | None]
    codes: np.ndarray
    labels: list[str | None]
    label_codes: np.ndarray
    passing: np.ndarray
    filled: np.ndarray
    priority: np.ndarray


def read_rows(rows: Rows, unit: Unit) -> UnitRows:
    place: dict[str | None, int] = {}
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    start = unit.start
    for batch in rows.source.read(unit, rows.columns):
        check_tokens(batch.column("input_ids"), start)
        names, codes = rows.labels(batch)
        table = np.array([place.setdefault(name, len(place)) for name in names], dtype=np.int64)
        if len(place) > MAX_CLASSES:
            raise InputError(
                f"column '{rows.column}' has more than {MAX_CLASSES} distinct values; is it an identifier, not a label?"
            )
        parts.append((table[codes], rows.passing(batch), row_spans(batch, start).length > 0))
        start += batch.num_rows
    codes, passing, filled = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    labels = list(place)
    names, places = rows.renamed(labels, np.arange(len(labels)))
    return UnitRows(names, places[codes], labels, codes, passing, filled, priorities(unit.start, unit.rows, rows.seed))


@dataclass(frozen=True)
class CountUnit:
    rows: Rows
    capped: bool

    def __call__(self, unit: Unit) -> UnitCounts:
        read = read_rows(self.rows, unit)
        masks = (np.ones_like(read.passing), read.passing, read.passing & read.filled)
        everything, filtered, filled = (_count(read.names, read.codes[mask]) for mask in masks)
        kept = masks[2]
        labels = _count(read.labels, read.label_codes[kept]) if self.rows.rename else Counter()
        ruled: Classes = Counter({name: labels[name] for name in self.rows.rename})
        buckets = histogram(read.names, read.codes[kept], read.priority[kept]) if self.capped else None
        return UnitCounts(everything, filtered, filled, ruled, buckets)


def _count(names: Sequence[str | None], codes: np.ndarray) -> Classes:
    return Counter({name: int(n) for name, n in zip(names, np.bincount(codes, minlength=len(names)), strict=True) if n})


@dataclass(frozen=True)
class ExactUnit:
    """The priorities, by class, of the rows in the buckets where thresholds lie."""

    rows: Rows
    where: Boundaries

    def __call__(self, unit: Unit) -> dict[str | None, np.ndarray]:
        read = read_rows(self.rows, unit)
        wanted = read.passing & read.filled & self.where.wanted(read.names, read.codes, read.priority)
        codes, priority = read.codes[wanted], read.priority[wanted]
        return {read.names[code]: priority[codes == code] for code in np.unique(codes)}


@dataclass(frozen=True)
class Quotas:
    """The largest priority of each class that stays; a class that is not named does not stay."""

    limits: dict[str | None, int]

    def mask(self, names: Sequence[str | None], codes: np.ndarray, priority: np.ndarray) -> np.ndarray:
        table = np.array([self.limits.get(name, 0) for name in names], dtype=np.uint64)
        known = np.array([name in self.limits for name in names], dtype=bool)
        return known[codes] & (priority <= table[codes])

    @classmethod
    def unlimited(cls, names: Sequence[str | None]) -> Quotas:
        return cls({name: int(ALL) for name in names})


@dataclass
class Written:
    """What a unit put into its shard."""

    shard: Shard | None
    classes: Classes
    tally: Tally
    lengths: Counter[int]
    other_lengths: int = 0
    rows: int = field(default=0)


@dataclass(frozen=True)
class WriteUnit:
    """``schema``, its ``features`` and ``renamed`` (output column to input column) describe the rows to write."""

    rows: Rows
    quotas: Quotas
    labelling: Labelling
    url: str
    schema: pa.Schema
    features: dict[str, Any]
    renamed: dict[str, str]

    def __call__(self, unit: Unit) -> Written:
        done = Written(None, Counter(), Tally(np.zeros(len(self.labelling.class_map), np.int64)), Counter())
        done.shard = write_shard(
            self.url, unit.number, with_features(self.schema, self.features), self._batches(unit, done)
        )
        done.rows = unit.rows
        return done

    def _batches(self, unit: Unit, done: Written) -> Iterator[pa.RecordBatch]:
        start = unit.start
        for batch in self.rows.source.read(unit):
            priority = priorities(start, batch.num_rows, self.rows.seed)
            start += batch.num_rows
            names, codes = self.rows.classes(batch)
            mask = self.rows.passing(batch) & (row_spans(batch).length > 0)
            mask &= self.quotas.mask(names, codes, priority)
            if not mask.any():
                continue
            chosen, codes, labels = self.labelling.label(choose(batch, mask), names, codes[mask], done.tally)
            if chosen.num_rows:
                done.classes.update(_count(names, codes))
                yield self._output(chosen, labels, done)

    def _output(self, batch: pa.RecordBatch, labels: pa.Array, done: Written) -> pa.RecordBatch:
        lengths = row_spans(batch).length
        values, counts = np.unique(lengths, return_counts=True)
        done.lengths.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        if "length" in batch.schema.names:
            before = np.asarray(batch.column("length").to_numpy(zero_copy_only=False))
            done.other_lengths += int((before != lengths).sum())
        made = {self.labelling.column: labels, "length": pa.array(lengths)}
        columns = [made[name] if name in made else batch.column(self.renamed[name]) for name in self.schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def output_schema(
    source: Source, labelling: Labelling, column: str | None
) -> tuple[pa.Schema, dict[str, Any], dict[str, str]]:
    """Schema, features, and output column to input column: all that came in, the labels, and `length`.

    A column that has the name of the labels but does not hold the classes stays, as `input_label(s)`. ``column`` is
    the one that holds them as they are, None where there is none.
    """
    length = (pa.int64(), {"dtype": "int64", "_type": "Value"})
    made = {labelling.column: (labelling.kind, labelling.feature), "length": length}
    fields, features, renamed = [], {}, {}
    for old in source.schema:
        name = old.name
        if name == "length" or (name == labelling.column and name == column):
            continue
        if name == labelling.column:
            name = f"input_{name}"
            if name in source.schema.names:
                raise InputError(f"the dataset has both '{old.name}' and '{name}'; rename or remove one of them")
        fields.append(old.with_name(name))
        features[name] = source.features.get(old.name)
        renamed[name] = old.name
    for name, (kind, feature) in made.items():
        fields.append(pa.field(name, kind))
        features[name] = feature
    return pa.schema(fields), features, renamed
