"""The sides of a split as views of one memory-mapped dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from .. import storage
from ..data.sequences import IGNORED, Sequences
from ..data.split.split import SIDES
from ..errors import InputError
from ..model.task import Task

Unit = Literal["row", "token"]


@dataclass(frozen=True)
class Splits:
    """``validation`` may be None; ``unit`` is what was divided, rows or labelled tokens."""

    train: Sequences
    validation: Sequences | None
    test: Sequences
    unit: Unit


def read_splits(dataset: str, split: str, task: Task) -> Splits:
    """Views on a prepared dataset by the ``split.parquet`` made for it."""
    with storage.open_input(split) as file:
        table = pq.read_table(file)
    unit: Unit = "token" if "token" in table.column_names else "row"
    names = np.asarray(table.column("side").to_pylist())
    codes = np.select([names == side for side in SIDES], range(len(SIDES)), default=-1)
    return divide(Sequences.open(dataset, task.label_column), unit, table.column(unit).to_numpy(), codes)


def divide(sequences: Sequences, unit: Unit, members: np.ndarray, sides: np.ndarray) -> Splits:
    """``sides[i]`` is the place in ``SIDES`` of ``members[i]``, a row or a token id."""
    if unit == "row" and len(members) != len(sequences):
        raise InputError(f"the split speaks of {len(members)} rows, the dataset has {len(sequences)}")
    cut = _by_token if unit == "token" else _by_row
    train, validation, test = (cut(sequences, members[sides == code]) for code in range(len(SIDES)))
    if not len(train):
        raise InputError("the split leaves no row to train on")
    return Splits(train, validation if len(validation) else None, test, unit)


def _by_row(sequences: Sequences, rows: np.ndarray) -> Sequences:
    return sequences.view(np.sort(rows))


def _by_token(sequences: Sequences, tokens: np.ndarray) -> Sequences:
    """All rows that still have a label when only these tokens show theirs."""
    hidden = np.ones(1 + sequences.max_token(), dtype=bool)
    hidden[tokens[tokens < len(hidden)]] = False
    view = sequences.view(hidden_tokens=hidden)
    labelled = np.array([(view.labels_of(row) != IGNORED).any() for row in range(len(view))], dtype=bool)
    return view.view(np.flatnonzero(labelled))
