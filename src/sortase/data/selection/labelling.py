"""What differs between labelling rows and labelling tokens while a dataset is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from ..arrow_lists import flat_tokens, lengths_of
from ..classmap import describe
from ..gene_classes import GeneClasses
from ..padding import MASK, TOKENS, inside, row_spans
from ..sequences import IGNORED
from .take import choose, choose_lists


class LabelColumn(Protocol):
    """A column that holds a label for each token."""

    @property
    def column(self) -> str:
        """Its name."""

    def names(self, batch: pa.RecordBatch) -> tuple[list[str | None], np.ndarray]:
        """The names in use, and for each token of the batch the place of its name; None stands for no label."""


@dataclass
class Tally:
    """Labels given so far: rows or tokens by class id, and which token ids had one (boolean by id)."""

    units: np.ndarray
    tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def add(self, other: Tally) -> None:
        self.units += other.units
        size = max(len(self.tokens), len(other.tokens))
        both = np.zeros((2, size), dtype=bool)
        both[0, : len(self.tokens)], both[1, : len(other.tokens)] = self.tokens, other.tokens
        self.tokens = both[0] | both[1]


@dataclass(frozen=True)
class RowLabels:
    """A column ``label``: the class id of the row's own class."""

    class_map: dict[str, int]
    column = "label"
    kind = pa.int64()

    @property
    def feature(self) -> dict[str, Any]:
        return {"names": sorted(self.class_map, key=self.class_map.__getitem__), "_type": "ClassLabel"}

    @property
    def description(self) -> str:
        return ""

    def label(
        self, batch: pa.RecordBatch, names: Sequence[str | None], codes: np.ndarray, tally: Tally
    ) -> tuple[pa.RecordBatch, np.ndarray, pa.Array]:
        """The rows that have a label (with their codes), and the labels."""
        ids = np.array([self.class_map.get(name or "", IGNORED) for name in names], dtype=np.int64)[codes]
        tally.units += np.bincount(ids, minlength=len(self.class_map))
        return batch, codes, pa.array(ids)


@dataclass(frozen=True)
class LabelLists:
    """A column ``labels``: a class id for each token, `IGNORED` without a class; rows without any are dropped."""

    class_map: dict[str, int]
    column = "labels"
    kind = pa.list_(pa.int32())

    @property
    def feature(self) -> dict[str, Any]:
        return {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"}

    @property
    def description(self) -> str:
        return describe(self.class_map)

    def ids(self, batch: pa.RecordBatch) -> np.ndarray:
        """Class id (int32) of each token of the rows, one row after another."""
        raise TypeError(f"{type(self).__name__} must say what the labels are")

    def seen(self, batch: pa.RecordBatch, labelled: np.ndarray) -> np.ndarray:
        """Which token ids have a label that is theirs everywhere (bool by id)."""
        return np.zeros(0, dtype=bool)

    def label(
        self, batch: pa.RecordBatch, names: Sequence[str | None], codes: np.ndarray, tally: Tally
    ) -> tuple[pa.RecordBatch, np.ndarray, pa.Array]:
        """The rows that have a label (with their codes), and the labels."""
        ids = self.ids(batch)
        labelled = ids != IGNORED
        tally.add(Tally(np.bincount(ids[labelled], minlength=len(self.class_map)), self.seen(batch, labelled)))
        some, column = self.labelled_rows(batch, ids)
        return choose(batch, some), codes[some], column

    def labelled_rows(self, batch: pa.RecordBatch, ids: np.ndarray) -> tuple[np.ndarray, pa.Array]:
        """Which rows have a label (bool), and the lists of labels of these."""
        offsets = np.concatenate([[0], np.cumsum(lengths_of(batch.column(TOKENS)))])
        some = np.zeros(batch.num_rows, dtype=bool)
        some[np.searchsorted(offsets, np.flatnonzero(ids != IGNORED), side="right") - 1] = True
        column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(ids))
        return some, column if some.all() else choose_lists(column, some)


@dataclass(frozen=True)
class TokenLabels(LabelLists):
    """The label of a token follows from which token it is."""

    genes: GeneClasses

    def ids(self, batch: pa.RecordBatch) -> np.ndarray:
        tokens = batch.column(TOKENS)
        ids = self.genes.labels(flat_tokens(tokens))
        if MASK in batch.schema.names:
            ids[~inside(row_spans(batch), lengths_of(tokens))] = IGNORED
        return ids

    def seen(self, batch: pa.RecordBatch, labelled: np.ndarray) -> np.ndarray:
        found = np.zeros(len(self.genes.table), dtype=bool)
        found[flat_tokens(batch.column(TOKENS))[labelled]] = True
        return found


@dataclass(frozen=True)
class TagLabels(LabelLists):
    """The label of a token is in the data."""

    tags: LabelColumn

    def ids(self, batch: pa.RecordBatch) -> np.ndarray:
        names, codes = self.tags.names(batch)
        return np.array([self.class_map.get(name or "", IGNORED) for name in names], dtype=np.int32)[codes]


Labelling = RowLabels | TokenLabels | TagLabels
