"""Labels that the data have for each token themselves: a column of lists, as long as ``input_ids``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import InputError, InputTypeError
from ..arrow_lists import lengths_of
from ..padding import TOKENS, check_same_length, inside, row_spans
from ..sequences import IGNORED
from ..source import Unit
from .passes import MAX_CLASSES, Rows


def tag_names(features: Mapping[str, Any], column: str) -> Sequence[str] | None:
    """The names of the classes where the column holds lists of ClassLabels."""
    feature = features.get(column)
    for key in ("feature", None):
        if isinstance(feature, list) and feature:
            feature = feature[0]
        elif isinstance(feature, dict) and key in feature:
            feature = feature[key]
    return feature.get("names") if isinstance(feature, dict) else None


def holds_tags(field: pa.Field) -> bool:
    kind = field.type
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def check_tags_column(field: pa.Field) -> None:
    kind = field.type
    if not holds_tags(field):
        raise InputTypeError(
            f"column '{field.name}' holds {kind}; the labels of tokens are lists of names or ids, one for each token "
            "(or give gene_class_dict, the tokens of each class)"
        )
    kind = kind.value_type
    fitting = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean, pa.types.is_null)
    if not any(fits(kind) for fits in fitting) and not pa.types.is_floating(kind):
        raise InputTypeError(f"column '{field.name}' holds lists of {kind}; labels are text, integers or booleans")


@dataclass(frozen=True)
class Tags:
    """A column of lists. ``class_names`` are those of its ClassLabel, None where it has none."""

    column: str
    class_names: Sequence[str] | None

    def names(self, batch: pa.RecordBatch, start: int | None = None) -> tuple[list[str | None], np.ndarray]:
        """Names, and for each position of the rows the place of its name; None: no label, as for all padding.

        ``start`` is the number of the first row, where lengths are to be checked.
        """
        lists, lengths = batch.column(self.column), lengths_of(batch.column(TOKENS))
        given = pc.is_valid(lists).to_numpy(zero_copy_only=False)
        found = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        if start is not None:
            check_same_length(lengths, np.where(given, found, lengths), start, self.column)
        encoded = pc.dictionary_encode(lists.flatten())
        known = [self._name(value) for value in encoded.dictionary.to_pylist()]
        unique: list[str | None] = list(dict.fromkeys([None, *known]))
        place = {name: i for i, name in enumerate(unique)}
        table = np.array([*(place[name] for name in known), 0], dtype=np.int64)
        codes = np.zeros(int(lengths.sum()), dtype=np.int64)
        places = pc.fill_null(encoded.indices.cast(pa.int64()), len(known)).to_numpy(zero_copy_only=False)
        codes[np.repeat(given, lengths)] = table[places]
        codes[~inside(row_spans(batch), lengths)] = 0
        return unique, codes

    def _name(self, value: Any) -> str | None:
        if value is None or value != value or value == IGNORED or (isinstance(value, str) and not value.strip()):
            return None
        if self.class_names is not None:
            if value == -1:
                return None
            if not 0 <= value < len(self.class_names):
                raise InputError(
                    f"column '{self.column}' holds the label {value}, but its ClassLabel has {len(self.class_names)} "
                    f"names (ids 0 to {len(self.class_names) - 1}; -1 or {IGNORED} for none)"
                )
            return str(self.class_names[value])
        if isinstance(value, float):
            if not value.is_integer():
                raise InputError(
                    f"column '{self.column}' holds the label {value!r}; labels are text, integers or booleans"
                )
            value = int(value)
        return str(value)


@dataclass(frozen=True)
class CountTags:
    """How many tokens of the candidate rows of a unit have each name."""

    rows: Rows
    tags: Tags

    def __call__(self, unit: Unit) -> Counter[str]:
        total: Counter[str] = Counter()
        names = self.rows.source.schema.names
        start = unit.start
        columns = [*self.rows.columns, self.tags.column]
        for batch in self.rows.source.read(unit, [name for name in dict.fromkeys(columns) if name in names]):
            unique, codes = self.tags.names(batch, start)
            lengths = lengths_of(batch.column(TOKENS))
            counts = np.bincount(codes[np.repeat(self.rows.passing(batch), lengths)], minlength=len(unique))
            for name, count in zip(unique, counts.tolist(), strict=True):
                if name is not None and count:
                    total[name] += count
            if len(total) > MAX_CLASSES:
                raise InputError(f"column '{self.tags.column}' has more than {MAX_CLASSES} distinct labels")
            start += batch.num_rows
        return total
