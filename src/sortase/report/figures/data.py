"""Figures of the data and of the training, each from plain data to a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...config.metrics import METRICS
from .labels import compact, labels
from .style import BLUE, GREEN, GREY, INK, ORANGE, PALE, RED, SIDES, new_figure, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_CLASSES = 100
WIDTH = 7.5


def class_balance(sides: Mapping[str, Mapping[str, int]], unit: str) -> Figure:
    """``sides[side][class]``: how many units of each class are on each side, the largest class first."""
    totals: dict[str, int] = {}
    for counts in sides.values():
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    names, cut = largest(totals)
    with styled():
        figure, axes = by_class(names, f"{unit.capitalize()}s of each class on each side{cut}")
        left = np.zeros(len(names))
        for side, counts in sides.items():
            values = np.array([counts.get(name, 0) for name in names])
            axes.barh(
                range(len(names)), values, left=left, color=SIDES.get(side, GREY), label=side, edgecolor="white", lw=0.5
            )
            left += values
        _totals(axes, left)
        axes.set_xlabel(f"{unit}s")
        legend_below(figure, axes)
    return figure


def before_after(before: Mapping[str, int], after: Mapping[str, int], unit: str = "row") -> Figure:
    """Units of each class that came in, and those that were kept."""
    names, cut = largest({name: max(before.get(name, 0), after.get(name, 0)) for name in {**before, **after}})
    with styled():
        figure, axes = by_class(names, f"{unit.capitalize()}s of each class before and after{cut}")
        for counts, colour, height, words in ((before, PALE, 0.8, "in the input"), (after, BLUE, 0.45, "kept")):
            axes.barh(range(len(names)), [counts.get(n, 0) for n in names], height, color=colour, label=words)
        _totals(axes, np.array([before.get(n, 0) for n in names]), np.array([after.get(n, 0) for n in names]))
        axes.set_xlabel(f"{unit}s")
        legend_below(figure, axes)
    return figure


def largest(totals: Mapping[str, float]) -> tuple[list[str], str]:
    """Names from the smallest (drawn lowest) to the largest, and words for the title when some had to be left out."""
    names = sorted(totals, key=lambda name: (totals[name], name))
    cut = f" ({MOST_CLASSES} of {len(names)})" if len(names) > MOST_CLASSES else ""
    return names[-MOST_CLASSES:], cut


def by_class(names: Sequence[str], title: str, shown: Sequence[str] | None = None) -> tuple[Figure, Axes]:
    """A figure with a line for each class, the first at the bottom."""
    figure = new_figure(WIDTH, 1.4 + 0.27 * max(2, len(names)))
    axes = figure.add_subplot()
    axes.set_yticks(range(len(names)), list(shown) if shown is not None else labels(names))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", labelsize=8.5 if len(names) > 20 else 9)
    axes.grid(axis="y", visible=False)
    axes.set_title(title)
    return figure, axes


def legend_below(figure: Figure, axes: Axes) -> None:
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _totals(axes: Axes, ends: np.ndarray, written: np.ndarray | None = None) -> None:
    """Numbers at the ends of the bars: small classes beside large ones are too thin to be seen."""
    for place, end in enumerate(ends):
        number = compact(end)
        if written is not None and written[place] != end:
            number = f"{compact(written[place])} of {number}"
        axes.annotate(number, (end, place), (3, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
    axes.set_xlim(0, max(1, ends.max(initial=1)) * 1.12)


def lengths(histogram: Mapping[str, Sequence[float]], limit: int | None = None) -> Figure:
    """``histogram`` has ``edges [n + 1]`` in tokens and ``counts [n]``; ``limit`` marks where sequences are cut."""
    with styled():
        figure = new_figure(WIDTH, 2.6)
        axes = figure.add_subplot()
        edges, counts = np.array(histogram["edges"], dtype=float), np.array(histogram["counts"])
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
        if limit is not None and limit < edges[-1]:
            axes.axvline(limit, color=RED, linestyle="--", label=f"cut at {limit:,} tokens")
            legend_below(figure, axes)
        axes.set(xlabel="tokens in a sequence", ylabel="sequences", title="Lengths of the sequences")
    return figure


def learning_curves(
    events: Sequence[Mapping[str, Any]], best_step: int | None = None, metric: str | None = None
) -> Figure:
    """Losses, and beside them metrics on the validation side, against optimizer steps.

    ``metric`` is the one by which the checkpoint was chosen; macro F1 and accuracy are always drawn.
    """
    wanted = [name for name in ("macro_f1", "accuracy", metric) if name in METRICS]
    shown = {name: METRICS[name].short for name in wanted if METRICS[name].curve}
    with styled():
        figure = new_figure(9, 3.3)
        left, right = figure.subplots(1, 2, sharex=True)
        _curve(left, events, "loss", "training", color=GREY)
        _curve(left, events, "eval_loss", "validation", color=ORANGE, marker="o")
        for (name, words), colour, marker in zip(shown.items(), (BLUE, GREEN, INK), "os^", strict=False):
            _curve(right, events, f"eval_{name}", words, color=colour, marker=marker)
        for axes, title in ((left, "Loss"), (right, "Metrics on the validation side")):
            if best_step:
                axes.axvline(best_step, color=RED, linestyle="--", linewidth=1, label=f"kept: step {best_step:,}")
            axes.set(xlabel="optimizer step", title=title)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=4)
        left.set_ylim(bottom=0)
        right.set_ylim(min(0.0, right.get_ylim()[0]), 1.02)
        if not right.lines:
            right.text(0.5, 0.5, "there is no validation side", ha="center", transform=right.transAxes, color=GREY)
    return figure


def _curve(axes: Axes, events: Sequence[Mapping[str, Any]], name: str, words: str, **look: Any) -> None:
    points = [(event["step"], event[name]) for event in events if event.get(name) is not None and "step" in event]
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, markersize=4, label=words, **look)
