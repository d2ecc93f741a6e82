"""Predictions as an evaluation, or a prediction of unlabelled data, wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import pickles, storage
from ..errors import InputError, InputTypeError

_NEEDED = ("labels", "probabilities")


@dataclass(frozen=True)
class Predictions:
    """``probabilities [n, classes]`` and the class id ``[n]`` of each: its label (``of`` true), or its prediction."""

    classes: np.ndarray
    probabilities: np.ndarray
    of: str


def read_predictions(url: str, class_map: Mapping[str, int]) -> Predictions:
    """A .pkl or .parquet file; Parquet without labels gives the predicted classes instead."""
    if url.endswith(".parquet"):
        return _read_parquet(url, class_map)
    found = pickles.load(url)
    if not isinstance(found, dict) or any(name not in found for name in _NEEDED):
        raise InputTypeError(f"{url} is not what an evaluation writes: it has no 'labels' and 'probabilities'")
    if found["probabilities"] is None:
        raise InputError(f"{url} was too large to hold probabilities; use the .parquet file beside it")
    _same_classes(url, found.get("classes"), class_map)
    labels, probabilities = np.asarray(found["labels"]), np.asarray(found["probabilities"])
    if probabilities.shape != (len(labels), len(class_map)):
        raise InputError(
            f"{url} has probabilities of shape {probabilities.shape} for {len(labels)} labels and "
            f"{len(class_map)} classes"
        )
    return Predictions(labels, probabilities, "true")


def _same_classes(url: str, names: Any, class_map: Mapping[str, int]) -> None:
    ordered = _ordered(class_map)
    if names is not None and [str(name) for name in names] != ordered:
        raise InputError(f"{url} was made with the classes {list(names)}, the class map has {ordered}")


def _ordered(class_map: Mapping[str, int]) -> list[str]:
    return sorted(class_map, key=lambda name: class_map[name])


def _read_parquet(url: str, class_map: Mapping[str, int]) -> Predictions:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [f"p_{name}" for name in _ordered(class_map)]
    with storage.open_input(url) as file:
        try:
            opened = pq.ParquetFile(file)
            there = opened.schema_arrow.names
            by = "label" if "label" in there else "prediction"
            if missing := [name for name in (by, *columns) if name not in there]:
                raise InputError(
                    f"{url} has no column {missing[0]!r}; it has {there}. Beyond 100 classes probabilities are only in "
                    "the .pkl file beside it"
                )
            table = opened.read([by, *columns])
        except pa.ArrowInvalid as error:
            raise InputTypeError(f"{url} is not a whole Parquet file: {error}") from error
    classes = np.array([class_map.get(name, -100) for name in table.column(by).to_pylist()], dtype=np.int64)
    probabilities = np.column_stack([table.column(name).to_numpy() for name in columns])
    return Predictions(classes, probabilities, "true" if by == "label" else "predicted")
