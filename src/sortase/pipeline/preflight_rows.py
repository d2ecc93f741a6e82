"""Before a run starts: rows that it would keep and that its model cannot read."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.run import Config
from ..data.labels import check_tokens
from ..data.padding import token_columns
from ..data.selection.filters import make_filters
from ..data.source import Source
from ..errors import InputError


def check_token_ids(source: Source, config: Config, size: int) -> None:
    """InputError for a row with a token id outside 0..size-1 that is certain to reach the model.

    Where something other than filters and missing labels decides which rows stay, or which of their tokens count,
    nothing is said here.
    """
    data, labels = config.data, config.labels
    decided = data.rare_threshold or data.max_examples or data.max_examples_per_class or labels.rename
    if decided or labels.task == "token" or token_columns(source.schema.names) != ["input_ids"]:
        return
    filters = make_filters(data.filter, source)
    wanted = ["input_ids", str(labels.column), *(condition.column for condition in filters)]
    for unit in source.units:
        start = unit.start
        for batch in source.read(unit, list(dict.fromkeys(wanted))):
            for row in _unreadable(batch.column("input_ids"), size):
                label = batch.column(str(labels.column))[int(row)].as_py()
                labelled = label is not None and label == label and str(label).strip()
                if labelled and all(condition.mask(batch)[row] for condition in filters):
                    ids = np.array(batch.column("input_ids")[int(row)].as_py())
                    raise InputError(
                        f"row {start + row} of {source.name} has token id {ids[(ids < 0) | (ids >= size)][0]}, but the "
                        f"model's vocabulary has {size} entries (ids 0 to {size - 1}); model and tokenizer do not "
                        "belong together"
                    )
            start += batch.num_rows


def check_predicted_ids(source: Source, size: int) -> None:
    """InputError for a row without a token, or with one outside 0..size-1, in a dataset that is to be labelled.

    Where padding is told by a column, nothing is said: it may hold any id.
    """
    if token_columns(source.schema.names) != ["input_ids"]:
        return
    for unit in source.units:
        start = unit.start
        for batch in source.read(unit, ["input_ids"]):
            rows = batch.column("input_ids")
            check_tokens(rows, start)
            if pc.any(pc.equal(pc.list_value_length(rows), 0)).as_py():
                row = pc.index(pc.list_value_length(rows), 0).as_py()
                raise InputError(f"row {start + row} of {source.name} has no token; empty rows have to be dropped")
            for row in _unreadable(rows, size)[:1]:
                ids = np.array(rows[int(row)].as_py())
                raise InputError(
                    f"row {start + row} of {source.name} has token id {ids[(ids < 0) | (ids >= size)][0]}, but the "
                    f"model's vocabulary has {size} entries (ids 0 to {size - 1}); it was made with another vocabulary"
                )
            start += batch.num_rows


def _unreadable(rows: pa.Array, size: int) -> np.ndarray:
    """Which rows hold an id that is too large, or negative."""
    span = pc.min_max(rows.flatten()).as_py()
    if span["max"] is None or (span["max"] < size and span["min"] >= 0):
        return np.empty(0, dtype=np.int64)
    values = rows.flatten().to_numpy(zero_copy_only=False)
    return np.unique(pc.list_parent_indices(rows).to_numpy()[(values < 0) | (values >= size)])
