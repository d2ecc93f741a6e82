"""The plotting functions of the public API: data in the shapes users have, PNG and SVG files out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import pickles, storage
from ..data import classmap
from ..errors import InputError, InputTypeError
from . import figures
from .style import render


def save(figure: Any, directory: str, name: str) -> None:
    for kind in ("png", "svg"):
        storage.write_bytes(storage.join(directory, f"{name}.{kind}"), render(figure, kind))


def plot_confusion_matrix(conf_mat: Any, output_directory: str, output_prefix: str, class_order: Sequence[str]) -> None:
    """Draw ``{output_prefix}_confusion_matrix.png`` and ``.svg``; see ``GenericClassifier.plot_confusion_matrix``."""
    matrix = ordered_matrix(conf_mat, list(class_order))
    save(figures.confusion_matrix(matrix, list(class_order)), output_directory, f"{output_prefix}_confusion_matrix")


def ordered_matrix(conf_mat: Any, order: list[str]) -> np.ndarray:
    """Counts of these classes in this order, from an array, a DataFrame or a nested dict."""
    if not order or len(set(order)) != len(order):
        raise InputError(f"class_order must name each class once, got {order}")
    if isinstance(conf_mat, Mapping):
        return _from_mapping(conf_mat, order)
    if hasattr(conf_mat, "loc"):
        rows, columns = [str(n) for n in conf_mat.index], [str(n) for n in conf_mat.columns]
        _known(order, rows, "the rows")
        _known(order, columns, "the columns")
        values = np.asarray(conf_mat, dtype=float)
        return values[np.ix_([rows.index(n) for n in order], [columns.index(n) for n in order])]
    matrix = np.asarray(conf_mat, dtype=float)
    if matrix.shape != (len(order), len(order)):
        raise InputError(
            f"conf_mat has the shape {matrix.shape}, class_order names {len(order)} classes; an array has no names, "
            "so class_order must name all of its rows"
        )
    return matrix


def _from_mapping(conf_mat: Mapping[Any, Any], order: list[str]) -> np.ndarray:
    rows = {str(true): {str(p): count for p, count in found.items()} for true, found in conf_mat.items()}
    _known(order, sorted({*rows, *(p for found in rows.values() for p in found)}), "conf_mat")
    return np.array([[rows.get(true, {}).get(predicted, 0) for predicted in order] for true in order], dtype=float)


def _known(order: Sequence[str], there: Sequence[str], where: str) -> None:
    unknown = [name for name in order if name not in there]
    if unknown:
        raise InputError(f"class_order names {unknown}, which {where} of the data do not have; there are {list(there)}")


def plot_predictions(
    predictions_file: str,
    id_class_dict_file: str,
    title: str,
    output_directory: str,
    output_prefix: str,
    class_order: Sequence[str],
) -> None:
    """Draw ``{output_prefix}_predictions.png`` and ``.svg``; see ``GenericClassifier.plot_predictions``."""
    class_map = classmap.read(id_class_dict_file)
    _known(class_order, list(class_map), id_class_dict_file)
    labels, probabilities = read_predictions(predictions_file, class_map)
    by_class = {name: probabilities[labels == class_map[name], class_map[name]] for name in class_order}
    save(figures.confidence(by_class, title), output_directory, f"{output_prefix}_predictions")


def read_predictions(url: str, class_map: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Labels ``[n]`` and probabilities ``[n, classes]`` from an evaluation's .pkl or .parquet."""
    if url.endswith(".parquet"):
        return _read_parquet(url, class_map)
    found = pickles.load(url)
    if not isinstance(found, dict) or not {"labels", "probabilities"} <= found.keys():
        raise InputTypeError(f"{url} is not what an evaluation writes: it has no 'labels' and 'probabilities'")
    if found["probabilities"] is None:
        raise InputError(f"{url} was too large to hold probabilities; use the .parquet file beside it")
    probabilities = np.asarray(found["probabilities"])
    if probabilities.ndim != 2 or probabilities.shape[1] != len(class_map):
        raise InputError(f"{url} has probabilities of shape {probabilities.shape} for {len(class_map)} classes")
    return np.asarray(found["labels"]), probabilities


def _read_parquet(url: str, class_map: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    import pyarrow.parquet as pq

    columns = [f"p_{name}" for name in sorted(class_map, key=lambda name: class_map[name])]
    with storage.open_input(url) as file:
        table = pq.read_table(file)
    missing = [name for name in ("label", *columns) if name not in table.column_names]
    if missing:
        raise InputError(f"{url} has no column {missing[0]!r}; there are {table.column_names}")
    labels = np.array([class_map.get(name, -100) for name in table.column("label").to_pylist()])
    return labels, np.column_stack([table.column(name).to_numpy() for name in columns])
