"""The labels and tokens of a dataset's columns, without Python code for a row or a token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, InputTypeError
from .arrow_lists import lengths_of


def row_classes(column: pa.Array, class_names: Sequence[str] | None = None) -> tuple[list[str | None], np.ndarray]:
    """Names of the classes in a column, and for each row the place of its name (int64); a missing label is ``None``.

    Text, integers (decimal text), booleans and ClassLabels (``class_names``) can be labels. Missing are null, NaN,
    text without a visible character, and -1 of a ClassLabel.
    """
    encoded = pc.dictionary_encode(column)
    names = [_name(value, class_names) for value in encoded.dictionary.to_pylist()]
    unique = list(dict.fromkeys([*names, None]))
    place = {name: i for i, name in enumerate(unique)}
    table = np.array([*(place[name] for name in names), place[None]], dtype=np.int64)
    return unique, table[pc.fill_null(encoded.indices.cast(pa.int64()), len(names)).to_numpy(zero_copy_only=False)]


def _name(value: Any, class_names: Sequence[str] | None) -> str | None:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if class_names is not None:
        return class_names[value] if 0 <= value < len(class_names) else None
    if isinstance(value, float):
        if not value.is_integer():
            raise InputError(f"a label is {value!r}; labels are text, integers or booleans, not measurements")
        return str(int(value))
    return str(value)


def check_label_column(field: pa.Field) -> None:
    kind = field.type
    simple = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if not any(fits(kind) for fits in simple) and not pa.types.is_floating(kind) and not pa.types.is_null(kind):
        raise InputTypeError(f"column '{field.name}' holds {kind}; labels are text, integers or booleans")


def check_tokens_column(field: pa.Field) -> None:
    kind = field.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(kind.value_type):
        raise InputTypeError(f"column 'input_ids' holds {kind}; expected lists of integer token ids")


def check_tokens(tokens: pa.Array, start: int) -> None:
    """Refuse missing lists and missing token ids in rows from ``start`` on."""
    if tokens.null_count:
        row = start + int(np.argmax(tokens.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(f"row {row} has no 'input_ids' (null); drop such rows before preparing")
    if tokens.values.null_count and tokens.flatten().null_count:
        place = int(np.argmax(tokens.flatten().is_null().to_numpy(zero_copy_only=False)))
        row = start + int(np.searchsorted(np.cumsum(lengths_of(tokens)), place, side="right"))
        raise InputError(f"row {row} has a missing token id (null) in 'input_ids'")
