"""Confusion matrices in the shapes that users have them, as counts in the order of the wanted classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import storage
from ..arguments import naming
from ..errors import InputError, InputTypeError

# Under these names stFormer, Geneformer and an evaluation.json keep the matrix among other figures.
KEYS = ("conf_mat", "conf_matrix", "confusion_matrix")


@dataclass(frozen=True)
class Matrix:
    """``counts [classes, classes]`` and ``totals [classes]`` of the true classes over all predicted ones."""

    classes: list[str]
    counts: np.ndarray
    totals: np.ndarray


def named_matrices(conf_mat: Any, class_order: Any) -> dict[str, Matrix]:
    """The matrix of each model by its name; a single matrix without a name has the empty one.

    ``conf_mat`` may be the path of an evaluation.json.
    """
    if isinstance(conf_mat, str | os.PathLike):
        with naming("conf_mat"):
            conf_mat = storage.read_json(str(conf_mat))
    if isinstance(conf_mat, Mapping):
        if key := next((key for key in KEYS if key in conf_mat), None):
            inner, classes = conf_mat[key], conf_mat.get("classes")
            if isinstance(classes, list) and _is_square(inner, len(classes)):
                inner = {true: dict(zip(classes, row, strict=True)) for true, row in zip(classes, inner, strict=True)}
            return named_matrices(inner, class_order)
        models = [name for name, value in conf_mat.items() if _is_matrix(value)]
        if models and len(models) == len(conf_mat):
            return {str(name): ordered(value, class_order, f"conf_mat[{name!r}]") for name, value in conf_mat.items()}
    return {"": ordered(conf_mat, class_order, "conf_mat")}


def _is_square(rows: Any, side: int) -> bool:
    return isinstance(rows, list) and len(rows) == side and all(isinstance(r, list) and len(r) == side for r in rows)


def _is_matrix(value: Any) -> bool:
    """Whether it has two dimensions, as an entry of a matrix never has."""
    if isinstance(value, Mapping):
        return bool(value) and all(isinstance(inner, Mapping) for inner in value.values())
    if hasattr(value, "ndim"):
        return bool(value.ndim == 2)
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(row, list | tuple) for row in value)


def ordered(conf_mat: Any, class_order: Any, name: str) -> Matrix:
    """The classes of ``class_order``, or without it all that the matrix names."""
    if isinstance(conf_mat, Mapping):
        rows, order = _from_mapping(conf_mat, class_order, name)
    elif hasattr(conf_mat, "loc") and hasattr(conf_mat, "columns") and not _is_numbered(conf_mat):
        rows, order = _from_frame(conf_mat, class_order, name)
    else:
        rows, order = _numbers(conf_mat, name), checked_order(class_order, ())
        if rows.shape != (len(order), len(order)):
            raise InputError(
                f"{name} has the shape {rows.shape}, class_order names {len(order)} classes; an array has no "
                "names, so class_order must name all of its rows (a DataFrame or a dict allows a part of them)"
            )
    if not (np.isfinite(rows) & (rows >= 0)).all():
        raise InputError(f"{name} must hold counts, or shares, of zero or more; it has negative or undefined ones")
    return Matrix(order, rows[:, : len(order)], rows.sum(axis=1))


def checked_order(class_order: Any, own: Sequence[str]) -> list[str]:
    """The wanted classes as text, each once; None stands for a matrix's ``own``, where it has names."""
    if class_order is None and own:
        return list(own)
    if isinstance(class_order, str) or not isinstance(class_order, Sequence | np.ndarray):
        raise InputTypeError(f"class_order must be a list of class names, got {class_order!r}")
    order = [str(name) for name in class_order]
    if not order or len(set(order)) != len(order):
        raise InputError(f"class_order must name each class once, got {order}")
    return order


def check_known(order: Sequence[str], there: Sequence[str], where: str) -> None:
    unknown = [name for name in order if name not in there]
    if unknown:
        raise InputError(f"class_order names {unknown}, which {where} does not have; it has {list(there)}")


def _is_numbered(frame: Any) -> bool:
    """A DataFrame made of an array alone has row numbers for names."""
    return all(list(names) == list(range(len(names))) for names in (frame.index, frame.columns))


def _from_frame(frame: Any, class_order: Any, name: str) -> tuple[np.ndarray, list[str]]:
    """A class that only the index or only the header has, as a crosstab's, counts as zero in the other."""
    true, predicted = [str(n) for n in frame.index], [str(n) for n in frame.columns]
    for names, where in ((true, f"the index of {name}"), (predicted, f"the header of {name}")):
        if twice := [n for n in names if names.count(n) > 1]:
            raise InputError(f"{where} holds {twice[0]!r} more than once")
    values = _numbers(frame, name)
    cells = {t: dict(zip(predicted, row, strict=True)) for t, row in zip(true, values, strict=True)}
    return _by_name(cells, list(dict.fromkeys([*true, *predicted])), class_order, name)


def _from_mapping(conf_mat: Mapping[Any, Any], class_order: Any, name: str) -> tuple[np.ndarray, list[str]]:
    """As from a frame; pairs that are not there count as zero."""
    if flat := [key for key, found in conf_mat.items() if not isinstance(found, Mapping)]:
        raise InputTypeError(
            f"{name} must be {{true: {{predicted: count}}}} or {{name of a model: matrix}}, but {flat[0]!r} holds "
            f"{type(conf_mat[flat[0]]).__name__}"
        )
    cells = {str(true): {str(p): count for p, count in found.items()} for true, found in conf_mat.items()}
    return _by_name(cells, sorted({*cells, *(p for row in cells.values() for p in row)}), class_order, name)


def _by_name(
    cells: Mapping[str, Mapping[str, Any]], names: list[str], class_order: Any, name: str
) -> tuple[np.ndarray, list[str]]:
    """Rows of the wanted classes; columns likewise, and then all others."""
    order = checked_order(class_order, names)
    check_known(order, names, name)
    columns = order + [other for other in names if other not in order]
    return _numbers([[cells.get(true, {}).get(column, 0) for column in columns] for true in order], name), order


def _numbers(values: Any, name: str) -> np.ndarray:
    if hasattr(values, "detach"):  # a tensor, perhaps on a GPU
        values = values.detach().cpu()
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputTypeError(f"{name} must hold numbers, in rows of equal length: {error}") from error
