"""The plotting functions of the public API: data in the shapes users have, PNG and SVG files out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import storage
from ..data import classmap
from ..errors import InputError, InputTypeError
from . import result_figures as figures
from .read_predictions import read_predictions
from .style import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(figure: Figure, directory: str, name: str) -> None:
    """Both files are drawn before the first is written."""
    drawn = {kind: render(figure, kind) for kind in ("png", "svg")}
    for kind, content in drawn.items():
        storage.write_bytes(storage.join(directory, f"{name}.{kind}"), content)


def plot_confusion_matrix(conf_mat: Any, output_directory: str, output_prefix: str, class_order: Sequence[str]) -> None:
    """Draw ``{output_prefix}_confusion_matrix.png`` and ``.svg``; see ``GenericClassifier.plot_confusion_matrix``."""
    order = checked_order(class_order)
    matrix, totals = ordered_matrix(conf_mat, order)
    save(figures.confusion_matrix(matrix, order, totals), output_directory, f"{output_prefix}_confusion_matrix")


def plot_predictions(
    predictions_file: str,
    id_class_dict_file: str,
    title: str,
    output_directory: str,
    output_prefix: str,
    class_order: Sequence[str],
) -> None:
    """Draw ``{output_prefix}_predictions.png`` and ``.svg``; see ``GenericClassifier.plot_predictions``."""
    order = checked_order(class_order)
    class_map = classmap.read(id_class_dict_file)
    _known(order, list(class_map), id_class_dict_file)
    found = read_predictions(predictions_file, class_map)
    by_class = {name: found.probabilities[found.classes == class_map[name], class_map[name]] for name in order}
    save(figures.confidence(by_class, title, found.of), output_directory, f"{output_prefix}_predictions")


def checked_order(class_order: Sequence[str]) -> list[str]:
    if isinstance(class_order, str) or not isinstance(class_order, Sequence | np.ndarray):
        raise InputTypeError(f"class_order must be a list of class names, got {class_order!r}")
    order = [str(name) for name in class_order]
    if not order or len(set(order)) != len(order):
        raise InputError(f"class_order must name each class once, got {order}")
    return order


def ordered_matrix(conf_mat: Any, order: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Counts of these classes in this order, and the totals of the true classes over all predicted ones."""
    if isinstance(conf_mat, Mapping):
        rows = _from_mapping(conf_mat, order)
    elif hasattr(conf_mat, "loc"):
        rows = _from_frame(conf_mat, order)
    else:
        rows = _numbers(conf_mat)
        if rows.shape != (len(order), len(order)):
            raise InputError(
                f"conf_mat has the shape {rows.shape}, class_order names {len(order)} classes; an array has no "
                "names, so class_order must name all of its rows (a DataFrame or a dict allows a part of them)"
            )
    if not (np.isfinite(rows) & (rows >= 0)).all():
        raise InputError("conf_mat must hold counts, or shares, of zero or more; it has negative or undefined ones")
    return rows[:, : len(order)], rows.sum(axis=1)


def _from_frame(conf_mat: Any, order: list[str]) -> np.ndarray:
    """Rows of the wanted classes; columns likewise, and then all others."""
    true, predicted = [str(n) for n in conf_mat.index], [str(n) for n in conf_mat.columns]
    for names, where in ((true, "the index of conf_mat"), (predicted, "the header of conf_mat")):
        _known(order, names, where)
        if twice := [name for name in names if names.count(name) > 1]:
            raise InputError(f"{where} holds {twice[0]!r} more than once")
    columns = order + [name for name in predicted if name not in order]
    return _numbers(conf_mat)[np.ix_([true.index(n) for n in order], [predicted.index(n) for n in columns])]


def _from_mapping(conf_mat: Mapping[Any, Any], order: list[str]) -> np.ndarray:
    """As from a frame; pairs that are not there count as zero."""
    if flat := [name for name, found in conf_mat.items() if not isinstance(found, Mapping)]:
        raise InputTypeError(f"conf_mat must be {{true: {{predicted: count}}}}, but {flat[0]!r} holds no dict")
    rows = {str(true): {str(p): count for p, count in found.items()} for true, found in conf_mat.items()}
    predicted = sorted({p for found in rows.values() for p in found})
    _known(order, sorted({*rows, *predicted}), "conf_mat")
    columns = order + [name for name in predicted if name not in order]
    return _numbers([[rows.get(true, {}).get(name, 0) for name in columns] for true in order])


def _numbers(values: Any) -> np.ndarray:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"conf_mat must hold numbers, in rows of equal length: {error}") from error


def _known(order: Sequence[str], there: Sequence[str], where: str) -> None:
    unknown = [name for name in order if name not in there]
    if unknown:
        raise InputError(f"class_order names {unknown}, which {where} does not have; it has {list(there)}")
