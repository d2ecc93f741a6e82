"""The plotting functions of the public API: data in the shapes users have, PNG and SVG files out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import storage
from ..arguments import naming
from ..data import classmap
from ..report.figures import results as figures
from ..report.figures.style import render
from ..report.matrices import Matrix, check_known, checked_order, named_matrices
from ..report.read_predictions import read_predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save(drawn: dict[str, Figure], directory: str) -> None:
    """Write each figure as PNG and SVG. All files are drawn before the first is written."""
    files = {f"{name}.{kind}": render(figure, kind) for name, figure in drawn.items() for kind in ("png", "svg")}
    for name, content in files.items():
        storage.write_bytes(storage.join(directory, name), content)


def plot_confusion_matrix(
    conf_mat: Any, output_directory: str, output_prefix: str, class_order: Sequence[str] | None
) -> None:
    """Draw ``{output_prefix}_confusion_matrix.png`` and ``.svg``; see ``GenericClassifier.plot_confusion_matrix``."""
    matrices = named_matrices(conf_mat, class_order)
    middle = file_names(matrices) if len(matrices) > 1 else dict.fromkeys(matrices, "")
    save(
        {f"{output_prefix}{middle[model]}_confusion_matrix": _drawn(m, model) for model, m in matrices.items()},
        output_directory,
    )


def _drawn(matrix: Matrix, model: str) -> Figure:
    title = f"Confusion matrix: {model}" if model else "Confusion matrix"
    return figures.confusion_matrix(matrix.counts, matrix.classes, matrix.totals, title)


def file_names(models: Iterable[str]) -> dict[str, str]:
    """Parts of file names that tell models apart: letters, digits, ``_.-``, and a number where two are alike."""
    found: dict[str, str] = {}
    for model in models:
        base = "_" + (re.sub(r"[^\w.-]+", "_", model).strip("._")[:80] or "model")
        taken = {name.lower() for name in found.values()}
        number = next(n for n in range(1, len(found) + 2) if (base + f"_{n}" * (n > 1)).lower() not in taken)
        found[model] = base + f"_{number}" * (number > 1)
    return found


def plot_predictions(
    predictions_file: str,
    id_class_dict_file: str,
    title: str,
    output_directory: str,
    output_prefix: str,
    class_order: Sequence[str] | None,
) -> None:
    """Draw ``{output_prefix}_predictions.png`` and ``.svg``; see ``GenericClassifier.plot_predictions``."""
    with naming("id_class_dict_file"):
        class_map = classmap.read(id_class_dict_file)
    order = checked_order(class_order, sorted(class_map, key=lambda name: class_map[name]))
    check_known(order, list(class_map), id_class_dict_file)
    with naming("predictions_file"):
        found = read_predictions(predictions_file, class_map)
    ids = [class_map[name] for name in order]
    if found.predicted is not None:
        figure = _counted(found.classes, found.predicted, order, ids, title, len(class_map))
    else:
        by_class = {name: found.probabilities[found.classes == i, i] for name, i in zip(order, ids, strict=True)}
        figure = figures.confidence(by_class, title, found.of)
    save({f"{output_prefix}_predictions": figure}, output_directory)


def _counted(
    true: np.ndarray, predicted: np.ndarray, order: list[str], ids: list[int], title: str, classes: int
) -> Figure:
    """Predictions without probabilities as a confusion matrix."""
    counts = np.zeros((classes, classes))
    np.add.at(counts, (true, predicted), 1)
    return figures.confusion_matrix(counts[np.ix_(ids, ids)], order, counts.sum(axis=1)[ids], title)
