"""Figures of a sweep: which hyperparameters went with which result, and how the best result came about."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .style import BLUE, GREY, INK, ORANGE, PALE, RED, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
MOST_AXES = 12
LOOKS = {"done": (BLUE, "o", "to the end"), "pruned": (ORANGE, "v", "ended early"), "failed": (RED, "x", "failed")}


def parallel(rows: Sequence[Row], metric: str, best: str) -> Figure:
    """A line for each trial through its hyperparameters to its result, the best one in ink."""
    names = list(dict.fromkeys(name for row in rows for name in row["parameters"]))[:MOST_AXES]
    rated = [row for row in rows if row["metric"] is not None]
    scales = [_scale([row["parameters"].get(name) for row in rated]) for name in names]
    scales.append(_scale([row["metric"] for row in rated]))
    with styled():
        figure = new_figure(max(5.0, 1.6 + 1.7 * len(names)), 3.6)
        axes = figure.add_subplot()
        for row in sorted(rated, key=lambda row: row["name"] == best):
            values = [*(row["parameters"].get(name) for name in names), row["metric"]]
            heights = [place(value) for (place, _), value in zip(scales, values, strict=True)]
            chosen = row["name"] == best
            colour = INK if chosen else LOOKS.get(row["status"], (GREY, "", ""))[0]
            axes.plot(heights, color=colour, lw=2.5 if chosen else 1, alpha=1 if chosen else 0.55)
        for x, (_, ticks) in enumerate(scales):
            axes.axvline(x, color=PALE, zorder=0)
            for height, words in ticks:
                axes.annotate(words, (x, height), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xticks(range(len(scales)), [*names, metric])
        axes.set(yticks=[], xlim=(-0.1, len(scales) - 0.45), ylim=(-0.06, 1.06), title="Hyperparameters and result")
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        for status, (colour, _, words) in LOOKS.items():
            if any(row["status"] == status for row in rated):
                axes.plot([], [], color=colour, label=words)
        axes.plot([], [], color=INK, lw=2.5, label="the best")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _scale(values: Sequence[Any]) -> tuple[Any, list[tuple[float, str]]]:
    """A function from a value to its height between 0 and 1, and the ticks; logarithmic over decades."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known) and known:
        low, high = min(known), max(known)
        log = low > 0 and high >= 10 * low
        ends = (math.log(low), math.log(high)) if log else (low, high)
        span = ends[1] - ends[0] or 1.0

        def height(value: Any) -> float:
            if value is None:
                return math.nan
            return ((math.log(value) if log else value) - ends[0]) / span if high > low else 0.5

        middle = math.exp(sum(ends) / 2) if log else sum(ends) / 2
        ticks = [low, middle, high] if high > low else [low]
        return height, [(height(value), f"{value:.3g}") for value in ticks]
    names = sorted({str(value) for value in values})
    heights = {name: i / max(1, len(names) - 1) if len(names) > 1 else 0.5 for i, name in enumerate(names)}
    return lambda value: heights[str(value)], [(height, _short(name)) for name, height in heights.items()]


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"


def best_so_far(rows: Sequence[Row], metric: str, lower: bool) -> Figure:
    """Results of the trials in the order in which they ended, and the best of the finished ones until then."""
    ended = sorted((row for row in rows if row.get("finished")), key=lambda row: row["finished"])
    with styled():
        figure = new_figure(7.5, 3.0)
        axes = figure.add_subplot()
        for status, (colour, marker, words) in LOOKS.items():
            points = [(i + 1, row["metric"]) for i, row in enumerate(ended) if row["status"] == status]
            points = [point for point in points if point[1] is not None]
            if points:
                x, y = zip(*points, strict=True)
                axes.scatter(x, y, color=colour, marker=marker, s=26, label=words, zorder=3)
        _steps(axes, ended, lower)
        axes.set(xlabel="trials that have ended", ylabel=metric, title="Best result so far")
        axes.set_xlim(0.5, len(ended) + 0.5)
        axes.set_xticks(range(1, len(ended) + 1, max(1, len(ended) // 8)))
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def _steps(axes: Axes, ended: Sequence[Row], lower: bool) -> None:
    better = min if lower else max
    points: list[tuple[int, float]] = []
    for number, row in enumerate(ended, 1):
        values = [row["metric"]] if row["status"] == "done" and row["metric"] is not None else []
        values += [points[-1][1]] if points else []
        if values:
            points.append((number, better(values)))
    if points:
        axes.step(*zip(*points, strict=True), where="post", color=INK, label="best so far")
