"""What differs between labelling rows and labelling tokens while a dataset is prepared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from .classmap import describe
from .labels import IGNORED, GeneClasses, flat_tokens
from .rows import choose, choose_lists


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
class TokenLabels:
    """A column ``labels``: a class id for each token, `IGNORED` without a class; rows without any are dropped."""

    class_map: dict[str, int]
    genes: GeneClasses
    column = "labels"
    kind = pa.list_(pa.int32())

    @property
    def feature(self) -> dict[str, Any]:
        return {"feature": {"dtype": "int32", "_type": "Value"}, "_type": "List"}

    @property
    def description(self) -> str:
        return describe(self.class_map)

    def label(
        self, batch: pa.RecordBatch, names: Sequence[str | None], codes: np.ndarray, tally: Tally
    ) -> tuple[pa.RecordBatch, np.ndarray, pa.Array]:
        """The rows that have a label (with their codes), and the labels."""
        chosen, codes, labels, found = self.labelled_rows(batch, codes)
        tally.units += np.bincount(self.genes.table[found], minlength=len(self.class_map))
        seen = np.zeros(len(self.genes.table), dtype=bool)
        seen[found] = True
        tally.add(Tally(np.zeros_like(tally.units), seen))
        return chosen, codes, labels

    def labelled_rows(
        self, batch: pa.RecordBatch, codes: np.ndarray
    ) -> tuple[pa.RecordBatch, np.ndarray, pa.Array, np.ndarray]:
        """The rows that have a labelled token, with their codes and labels; and all labelled token ids."""
        tokens = batch.column("input_ids")
        offsets = tokens.offsets.to_numpy()
        offsets = offsets - offsets[0]
        flat = flat_tokens(tokens)
        labels = self.genes.labels(flat)
        places = np.flatnonzero(labels != IGNORED)
        some = np.zeros(batch.num_rows, dtype=bool)
        some[np.searchsorted(offsets, places, side="right") - 1] = True
        column = pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), pa.array(labels))
        if some.all():
            return batch, codes, column, flat[places]
        return choose(batch, some), codes[some], choose_lists(column, some), flat[places]


Labelling = RowLabels | TokenLabels
