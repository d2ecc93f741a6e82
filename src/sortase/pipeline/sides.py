"""The sides of a split as views of one memory-mapped dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import storage
from ..data.sequences import IGNORED, Sequences
from ..errors import InputError
from ..model.task import Task


@dataclass(frozen=True)
class Sides:
    """``train`` and ``test`` always hold something; ``validation`` may be None. ``unit`` is what was split."""

    train: Sequences
    validation: Sequences | None
    test: Sequences
    unit: str


def read_sides(dataset: str, split: str, task: Task) -> Sides:
    """Views on a prepared dataset by the ``split.parquet`` made for it."""
    with storage.open_input(split) as file:
        table = pq.read_table(file)
    sequences = Sequences.open(dataset, task.label_column)
    unit = "token" if "token" in table.column_names else "row"
    cut = _by_token if unit == "token" else _by_row
    views = {side: cut(sequences, table, side) for side in ("train", "validation", "test")}
    for side in ("train", "test"):
        if not len(views[side]):
            raise InputError(f"{split} leaves no row for the {side} side")
    return Sides(views["train"], views["validation"] if len(views["validation"]) else None, views["test"], unit)


def _members(table: pa.Table, side: str, column: str) -> np.ndarray:
    chosen = np.asarray(table.column("side").to_pylist()) == side
    return table.column(column).to_numpy()[chosen]


def _by_row(sequences: Sequences, table: pa.Table, side: str) -> Sequences:
    if table.num_rows != len(sequences):
        raise InputError(f"the split speaks of {table.num_rows} rows, the dataset has {len(sequences)}")
    return sequences.view(np.sort(_members(table, side, "row")))


def _by_token(sequences: Sequences, table: pa.Table, side: str) -> Sequences:
    """All rows that still have a label when only this side's tokens show theirs."""
    shown = _members(table, side, "token")
    hidden = np.ones(1 + sequences.max_token(), dtype=bool)
    hidden[shown[shown < len(hidden)]] = False
    view = sequences.view(hidden_tokens=hidden)
    labelled = np.array([(view.labels_of(row) != IGNORED).any() for row in range(len(view))], dtype=bool)
    return view.view(np.flatnonzero(labelled))
