"""Predictions as files: Parquet while they stream by, and the pickle of plain arrays that older tools read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .. import storage
from ..data.sequences import Sequences
from ..errors import InputError
from ..model.scores import Scores, log_probabilities
from ..storage import pickles

UNKNOWN = "unknown"
MOST_CLASS_COLUMNS = 100
MOST_PICKLED = 50_000_000


class PredictionTable:
    """Turns scores into Arrow tables.

    Columns: ``row``; where tokens are labelled ``position`` (among the row's tokens, without padding) and ``token``;
    the carried columns; ``label`` where there is one; ``prediction`` and its ``probability``; with ``top_k`` above 1
    ``prediction_2``, ``probability_2``, …; and ``p_<class>`` for up to 100 classes. Below ``threshold`` the prediction
    is ``unknown``. A carried column that has the name of one of these is an InputError.
    """

    def __init__(
        self,
        classes: list[str],
        *,
        tokens: bool,
        labels: bool,
        top_k: int = 1,
        threshold: float | None = None,
        columns: list[str] | None = None,
    ):
        self.classes = np.array(classes, dtype=object)
        self.tokens, self.labels = tokens, labels
        self.top_k = min(top_k, len(classes))
        self.threshold = threshold
        self.columns = columns or []
        if taken := sorted(set(self.columns) & set(self._own_names())):
            raise InputError(
                f"column {taken[0]!r} cannot be carried along: predictions have a column of that name; "
                "rename it in the dataset, or leave it out"
            )

    def _own_names(self) -> list[str]:
        endings = ["", *(f"_{k + 1}" for k in range(1, self.top_k))]
        ranked = [f"{name}{ending}" for ending in endings for name in ("prediction", "probability")]
        return ["row", *(["position", "token"] if self.tokens else []), "label", *ranked, *self._shares()]

    def _shares(self) -> list[str]:
        return [f"p_{name}" for name in self.classes] if len(self.classes) <= MOST_CLASS_COLUMNS else []

    def of(self, scores: Scores, sequences: Sequences) -> pa.Table:
        probabilities = np.exp(log_probabilities(scores.logits))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.top_k]
        ranked = np.take_along_axis(probabilities, best, axis=1)
        parts: dict[str, Any] = {"row": pa.array(scores.rows)}
        if self.tokens:
            parts |= {"position": pa.array(scores.positions), "token": pa.array(scores.tokens)}
        parts |= {name: self._carried(sequences, name, scores.rows) for name in self.columns}
        if self.labels:
            named = self.classes[np.maximum(scores.labels, 0)]
            parts["label"] = pa.array(np.where(scores.labels >= 0, named, None), pa.string())
        for k in range(self.top_k):
            ending = "" if k == 0 else f"_{k + 1}"
            parts[f"prediction{ending}"] = pa.array(self._named(best[:, k], ranked[:, k], k), pa.string())
            parts[f"probability{ending}"] = pa.array(ranked[:, k].astype(np.float32))
        parts |= {n: pa.array(probabilities[:, i].astype(np.float32)) for i, n in enumerate(self._shares())}
        return pa.table(parts)

    def _named(self, winners: np.ndarray, probabilities: np.ndarray, k: int) -> np.ndarray:
        named = self.classes[winners]
        if k == 0 and self.threshold is not None:
            named = np.where(probabilities < self.threshold, UNKNOWN, named)
        return named

    def _carried(self, sequences: Sequences, name: str, rows: np.ndarray) -> pa.Array:
        inside = np.searchsorted(sequences.rows, rows)
        return sequences.view(inside).column(name).combine_chunks()


@contextmanager
def parquet_writer(url: str) -> Iterator[Any]:
    """A function that appends a table; the file appears under ``url`` once the block has ended well."""
    with storage.open_output(url) as file:
        writers: list[pq.ParquetWriter] = []

        def append(table: pa.Table) -> None:
            if not writers:
                writers.append(pq.ParquetWriter(file, table.schema, compression="zstd"))
            writers[0].write_table(table)

        try:
            yield append
        finally:  # also after a failure: a writer left open complains once its file is gone
            for writer in writers:
                writer.close()


def copy_tables(url: str, append: Callable[[pa.Table], None]) -> None:
    """Hand on what ``parquet_writer`` wrote, piece by piece."""
    with storage.open_input(url) as file, pq.ParquetFile(file) as parquet:
        for group in range(parquet.num_row_groups):
            append(parquet.read_row_group(group))


class PickledPredictions:
    """``{"rows", "positions", "labels", "predictions", "probabilities", "classes"}`` of arrays, and ``y_true`` and
    ``y_pred``: labels and predictions by the names that stFormer's plots read.

    Beyond 50 million probabilities they are left out (None): that much belongs into the Parquet file alone. The rest
    takes 20 bytes a unit.
    """

    def __init__(self, classes: list[str]):
        self.classes = classes
        self._parts: dict[str, list[np.ndarray]] = {name: [] for name in ("rows", "positions", "labels", "predictions")}
        self._probabilities: list[np.ndarray] | None = []
        self._count = 0

    def update(self, scores: Scores) -> None:
        self._parts["rows"].append(scores.rows)
        self._parts["positions"].append(scores.positions)
        self._parts["labels"].append(scores.labels.astype(np.int32))
        self._parts["predictions"].append(scores.logits.argmax(axis=1).astype(np.int32))
        self._count += scores.logits.size
        if self._count > MOST_PICKLED:
            self._probabilities = None
        if self._probabilities is not None:
            self._probabilities.append(np.exp(log_probabilities(scores.logits)).astype(np.float32))

    def extend(self, url: str) -> None:
        """Add what another one has written."""
        found = pickles.load(url)
        for name, parts in self._parts.items():
            parts.append(found[name])
        self._count += len(found["rows"]) * len(self.classes)
        if self._count > MOST_PICKLED:
            self._probabilities = None
        if self._probabilities is not None:
            self._probabilities.append(found["probabilities"])

    def write(self, url: str) -> None:
        arrays: dict[str, Any] = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        arrays["probabilities"] = None if self._probabilities is None else np.concatenate(self._probabilities)
        names = {"y_true": arrays["labels"], "y_pred": arrays["predictions"]}  # a pickle holds an array once
        pickles.dump(url, arrays | names | {"classes": self.classes})
