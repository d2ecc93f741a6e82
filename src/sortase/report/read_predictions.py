"""Predictions as an evaluation, stFormer, Geneformer or transformers' Trainer wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import storage
from ..errors import InputError, InputTypeError
from ..storage import pickles

IGNORED = -100
_FORMS = (
    "'labels' with 'probabilities' (an evaluation), 'y_true' with 'y_pred' (stFormer's notebook), 'label_ids' with "
    "'predictions' (Geneformer), or a pickled PredictionOutput of Trainer.predict"
)


@dataclass(frozen=True)
class Predictions:
    """The class id ``[n]`` of each unit: its label (``of`` true), or its prediction; and ``probabilities
    [n, classes]`` or, where only classes were kept, the ``predicted`` ids ``[n]``."""

    classes: np.ndarray
    probabilities: np.ndarray
    of: str = "true"
    predicted: np.ndarray | None = None


def read_predictions(url: str, class_map: Mapping[str, int]) -> Predictions:
    """A pickle or .parquet file; Parquet without labels gives the predicted classes instead.

    A pickle holds what an evaluation wrote, ``{"y_true", "y_pred"}`` of ids or names (stFormer's notebook),
    ``{"label_ids", "predictions"}`` of ids and logits (Geneformer), or what Trainer.predict returned (both packages'
    training). Shapes ``[rows, longest]`` and ``[rows, longest, classes]`` of tokens are fine; -100 has no label.
    """
    if url.endswith(".parquet"):
        return _read_parquet(url, class_map)
    found = pickles.load(url)
    if not isinstance(found, Mapping):
        raise InputTypeError(f"{url} holds a {type(found).__name__}; expected {_FORMS}")
    if "labels" in found and "probabilities" in found:
        return _read_own(url, found, class_map)
    for true, predicted in (("y_true", "y_pred"), ("label_ids", "predictions"), ("label_ids", "pred_ids")):
        if true in found and predicted in found:
            return _read_pair(url, (true, found[true]), (predicted, found[predicted]), class_map)
    raise InputTypeError(f"{url} has {sorted(map(str, found))[:10]}; expected {_FORMS}")


def _read_own(url: str, found: Mapping[str, Any], class_map: Mapping[str, int]) -> Predictions:
    if found["probabilities"] is None:
        raise InputError(f"{url} was too large to hold probabilities; use the .parquet file beside it")
    _same_classes(url, found.get("classes"), class_map)
    labels, probabilities = np.asarray(found["labels"]), np.asarray(found["probabilities"])
    if probabilities.shape != (len(labels), len(class_map)):
        raise InputError(
            f"{url} has probabilities of shape {probabilities.shape} for {len(labels)} labels and "
            f"{len(class_map)} classes"
        )
    return Predictions(labels, probabilities)


def _read_pair(
    url: str, true: tuple[str, Any], predicted: tuple[str, Any], class_map: Mapping[str, int]
) -> Predictions:
    """Labels, and beside them classes or, with one axis more, logits."""
    if true[1] is None:
        raise InputError(f"{url} has no labels ({true[0]} is None); predict a dataset that has them")
    truth, guess = _array(url, *true), _array(url, *predicted)
    scored = guess.ndim == truth.ndim + 1 and guess.dtype.kind in "fiu"
    if (guess.shape[:-1] if scored else guess.shape) != truth.shape:
        raise InputError(f"{url}: {true[0]} has the shape {truth.shape}, {predicted[0]} {guess.shape}")
    labelled = (truth != IGNORED) if truth.dtype.kind in "fiu" else np.ones(truth.shape, dtype=bool)
    if not labelled.any():
        raise InputError(f"{url} holds no label: {true[0]} has {truth.size} values")
    classes = _ids(url, true[0], truth[labelled], class_map)
    if not scored:
        none = np.empty((len(classes), 0))
        return Predictions(classes, none, predicted=_ids(url, predicted[0], guess[labelled], class_map))
    if guess.shape[-1] != len(class_map):
        raise InputError(
            f"{url}: {predicted[0]} has scores of {guess.shape[-1]} classes, the class map {len(class_map)}"
        )
    logits = guess[labelled].astype(float)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Predictions(classes, odds / odds.sum(axis=1, keepdims=True))


def _array(url: str, name: str, values: Any) -> np.ndarray:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{url}: the rows of {name} differ in length: {error}") from error
    if array.ndim == 0:
        raise InputTypeError(f"{url}: {name} must be a list or array, got {type(values).__name__}")
    return array


def _ids(url: str, name: str, values: np.ndarray, class_map: Mapping[str, int]) -> np.ndarray:
    """Ids of values that are ids or names of classes."""
    unique, places = np.unique(values.astype(str) if values.dtype.kind in "OSU" else values, return_inverse=True)
    known = set(class_map.values())
    numbered = values.dtype.kind in "fiu" or (values.dtype == object and all(isinstance(v, int) for v in values))
    found = [int(value) if numbered and float(value).is_integer() else class_map.get(str(value)) for value in unique]
    wrong = [value for value, i in zip(unique.tolist(), found, strict=True) if i not in known]
    if wrong:
        raise InputError(
            f"{url}: {name} holds {wrong[0]!r}, which the class map does not have; it has {dict(class_map)}"
        )
    return np.array(found, dtype=np.int64)[places]


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
        except (pa.ArrowException, OSError) as error:
            raise InputTypeError(f"{url} is not a whole Parquet file: {error}") from error
    classes = np.array([class_map.get(name, IGNORED) for name in table.column(by).to_pylist()], dtype=np.int64)
    probabilities = np.column_stack([table.column(name).to_numpy() for name in columns])
    return Predictions(classes, probabilities, "true" if by == "label" else "predicted")
