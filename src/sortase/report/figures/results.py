"""Figures of how well a model does, each from plain data to a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...config.metrics import METRICS
from .data import MOST_CLASSES, WIDTH, by_class, legend_below
from .labels import compact, labels, plain, short
from .style import BLUE, GREY, INK, ORANGE, PALE, RED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ANNOTATED = 30
FEW = 30
_LINE = 0.15  # inches that a line of the smallest text takes
_LETTER = 0.09
_LARGEST = 28.0  # inches
COMPARED = ("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "mcc")


def confusion_matrix(
    matrix: Any, classes: Sequence[str], totals: Any = None, title: str = "Confusion matrix"
) -> Figure:
    """``matrix [classes, classes]``. Colours are shares of the true class (rows); numbers are counts, if they fit.

    ``totals [classes]`` are the sizes of the true classes where the matrix shows a part of the predicted ones.
    """
    counts = np.asarray(matrix, dtype=float)
    support = (counts.sum(axis=1) if totals is None else np.asarray(totals, dtype=float))[:, None]
    shares = np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    n = len(classes)
    side = n * _cell(n)
    with styled():
        # Compressed is the layout for axes of a fixed shape: no gap between the matrix and its scale.
        figure = new_figure(side + 3.4, side + 2.6, layout="compressed")
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        _ticks(axes, classes)
        if n <= MOST_ANNOTATED:
            _annotate(axes, counts, shares)
        axes.set(xlabel="predicted class", ylabel="true class", title=plain(short(title, 70)))
        bar = figure.colorbar(image, ax=axes, shrink=min(1.0, 3 / side), aspect=14, pad=0.02)
        bar.set_label("share of the true class")
    return figure


def _cell(n: int) -> float:
    """Inches of one cell: room for four digits, then for a line of text, at last what keeps the whole within bounds."""
    if n <= 3:
        return 0.8
    if n <= MOST_ANNOTATED:
        return 0.52 if n <= 12 else 0.38
    return min(0.22, _LARGEST / n)


def _ticks(axes: Axes, classes: Sequence[str]) -> None:
    n = len(classes)
    each = int(np.ceil(_LINE / _cell(n)))
    shown, places = labels(classes)[::each], range(0, n, each)
    size = 9 if n <= 12 else 8
    axes.set_yticks(places, shown, fontsize=size)
    if max(map(len, shown)) * _LETTER < _cell(n):
        turned: dict[str, Any] = {}
    else:
        turned = {"rotation": 90} if n > 3 else {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, shown, fontsize=size, **turned)


def _annotate(axes: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 9 if len(counts) <= 12 else 8
    for row, column in np.argwhere(counts > 0):
        colour = "white" if shares[row, column] > 0.55 else INK
        text = compact(counts[row, column])
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def per_class(rows: Sequence[Mapping[str, Any]], unit: str = "row") -> Figure:
    """F1 as bars, precision and recall as marks; the best class first. Undefined values are not drawn."""
    ordered = sorted(rows, key=lambda row: (_number(row["f1"], -1), row["support"]))
    cut = ""
    if len(ordered) > MOST_CLASSES:
        ordered, cut = ordered[:MOST_CLASSES], f", the {MOST_CLASSES} worst of {len(rows)}"
    names = [row["class"] for row in ordered]
    shown = [f"{name}  ({compact(row['support'])})" for name, row in zip(labels(names), ordered, strict=True)]
    y = np.arange(len(ordered))
    with styled():
        figure, axes = by_class(names, f"F1, precision and recall of each class{cut}", shown)
        axes.barh(y, [_number(row["f1"], 0) for row in ordered], color=BLUE, alpha=0.55, height=0.7, label="F1")
        look: dict[str, Any] = {"linestyle": "none", "clip_on": False, "zorder": 3}
        precision, recall = ([_number(row[name], np.nan) for row in ordered] for name in ("precision", "recall"))
        axes.plot(precision, y, marker="D", markersize=5, color=INK, label="precision", **look)
        axes.plot(recall, y, marker="o", markersize=6, color=ORANGE, markeredgecolor=INK, label="recall", **look)
        axes.set_xlim(0, 1)
        axes.set_xlabel(f"(in brackets: {unit}s of the class on the test side)")
        legend_below(figure, axes)
    return figure


def _number(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def reliability(diagram: Mapping[str, Sequence[Any]], ece: float | None, unit: str = "row") -> Figure:
    """Accuracy against confidence with 95 % intervals: below the diagonal the model is surer than it is right."""
    edges, counts = np.array(diagram["edges"], dtype=float), np.array(diagram["count"], dtype=int)
    filled = np.flatnonzero(counts)
    sure, right = (np.array(diagram[name], dtype=float) for name in ("confidence", "accuracy"))
    x, y = sure[filled], right[filled]
    with styled():
        figure = new_figure(5, 5)
        upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
        upper.errorbar(
            x, y, _wilson(y, counts[filled]), fmt="o", color=BLUE, ecolor="#7fb8d8", markersize=5, capsize=2,
            label="model, with 95 % interval", clip_on=False,
        )  # fmt: skip
        upper.set(ylim=(0, 1), xlim=(0, 1), ylabel="share that is right")
        upper.set_title("Reliability" + (f" (calibration error, ECE: {ece:.3f})" if ece is not None else ""))
        lower.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=GREY, edgecolor="white")
        lower.set(xlabel="probability of the predicted class", ylabel=f"{unit}s")
        legend_below(figure, upper)
    return figure


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> np.ndarray:
    """Distances ``[2, n]`` down and up to Wilson's interval of a share, which holds for small counts too."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.clip(np.stack([share - (middle - half), middle + half - share]), 0, None)


def comparison(models: Mapping[str, Mapping[str, Any]]) -> Figure:
    """``models[name]`` has ``metrics`` and ``intervals``; points with their 95 % intervals, a group a metric."""
    looks = ((BLUE, "o"), (ORANGE, "s"), (GREY, "D"))
    with styled():
        figure = new_figure(WIDTH, 3.4)
        axes = figure.add_subplot()
        for place, ((name, values), (colour, mark)) in enumerate(zip(models.items(), looks, strict=False)):
            x = np.arange(len(COMPARED)) + (place - (len(models) - 1) / 2) * 0.2
            y = np.array([_number(values["metrics"].get(metric), np.nan) for metric in COMPARED])
            intervals = values.get("intervals") or {}
            bounds = [intervals.get(metric) or [v, v] for metric, v in zip(COMPARED, y, strict=True)]
            spread = np.clip(np.abs(np.array(bounds, dtype=float).T - y), 0, None)
            axes.errorbar(x, y, spread, fmt=mark, color=colour, capsize=3, markersize=5, label=name)
        axes.axhline(0, color=PALE, linewidth=1, zorder=0)
        axes.set_xticks(range(len(COMPARED)), [METRICS[name].short.replace(" ", "\n") for name in COMPARED])
        axes.grid(axis="x", visible=False)
        axes.set_ylim(min(0, axes.get_ylim()[0]), 1.02)
        axes.set_title("Transformer and baselines, with 95 % intervals")
        legend_below(figure, axes)
    return figure


def confidence(by_name: Mapping[str, np.ndarray], title: str, of: str = "true") -> Figure:
    """Probabilities given to the ``of`` class of each unit: a box of the middle half for each class, whiskers 5–95 %.

    The first class is drawn at the top; single units are dots where there are few.
    """
    names = list(by_name)[::-1]
    shown = [f"{name}  ({compact(len(by_name[n]))})" for n, name in zip(names, labels(names), strict=True)]
    filled = [place for place, name in enumerate(names) if len(by_name[name])]
    with styled():
        figure, axes = by_class(names, plain(short(title, 70)), shown)
        if filled:
            axes.boxplot(
                [by_name[names[place]] for place in filled],
                positions=filled,
                orientation="horizontal",
                widths=0.6,
                whis=(5, 95),
                showfliers=False,
                patch_artist=True,
                manage_ticks=False,
                boxprops={"facecolor": "#a8cfe6", "edgecolor": BLUE},
                medianprops={"color": RED, "linewidth": 2},
            )
        for place in filled:
            values = by_name[names[place]]
            if len(values) <= FEW:
                axes.plot(values, np.full(len(values), place), ".", color=INK, markersize=4, clip_on=False)
        axes.set(xlim=(0, 1), xlabel=f"probability given to the {of} class (line: median; box: middle half)")
    return figure
