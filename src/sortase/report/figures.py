"""Figures of a run, each from plain data to a matplotlib Figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import BLUE, GREEN, GREY, ORANGE, RED, SIDES, label, new_figure, styled

MOST_ANNOTATED = 30


def class_balance(sides: Mapping[str, Mapping[str, int]], unit: str) -> Any:
    """``sides[side][class]``: how many units of each class are on each side, the largest class first."""
    totals: dict[str, int] = {}
    for counts in sides.values():
        for name, count in counts.items():
            totals[name] = totals.get(name, 0) + count
    names = sorted(totals, key=lambda name: (totals[name], name))
    with styled():
        figure = new_figure(7.5, 1.3 + 0.26 * max(2, len(names)))
        axes = figure.add_subplot()
        left = np.zeros(len(names))
        for side, counts in sides.items():
            values = np.array([counts.get(name, 0) for name in names])
            axes.barh(range(len(names)), values, left=left, color=SIDES.get(side, GREY), label=side, height=0.75)
            left += values
        _names(axes.yaxis, names)
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.set(xlabel=f"{unit}s", title=f"{unit.capitalize()}s of each class on each side")
        axes.legend(loc="lower right")
    return figure


def lengths(histogram: Mapping[str, Sequence[float]], limit: int | None) -> Any:
    with styled():
        figure = new_figure(7.5, 2.6)
        axes = figure.add_subplot()
        edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"])
        axes.bar(edges[:-1], counts, width=np.diff(edges), align="edge", color=BLUE, edgecolor="white", linewidth=0.5)
        if limit is not None and limit < edges[-1]:
            axes.axvline(limit, color=RED, linestyle="--", label=f"cut at {limit:,} tokens")
            axes.legend()
        axes.set(xlabel="tokens in a sequence", ylabel="sequences", title="Lengths of the sequences")
    return figure


def learning_curves(events: Sequence[Mapping[str, Any]], best_step: int | None) -> Any:
    """Losses, and beside them the metrics on the validation side, against optimizer steps."""
    logged = [event for event in events if "loss" in event]
    evaluated = [event for event in events if any(name.startswith("eval_") for name in event)]
    with styled():
        figure = new_figure(9, 3.2)
        left, right = figure.subplots(1, 2)
        _curve(left, logged, "loss", "training", GREY, "")
        _curve(left, evaluated, "eval_loss", "validation", ORANGE, "o")
        for (name, words), colour in zip(
            {"eval_macro_f1": "macro F1", "eval_accuracy": "accuracy"}.items(), (BLUE, GREEN), strict=True
        ):
            _curve(right, evaluated, name, words, colour, "o")
        for axes in (left, right):
            if best_step:
                axes.axvline(best_step, color=RED, linestyle="--", linewidth=1, label=f"chosen, step {best_step:,}")
            axes.set_xlabel("optimizer step")
            if axes.get_legend_handles_labels()[0]:
                axes.legend(fontsize=8.5)
        left.set_title("Loss")
        right.set_title("On the validation side")
        right.set_ylim(0, 1.02)
    return figure


def _curve(axes: Any, events: Sequence[Mapping[str, Any]], name: str, words: str, colour: str, marker: str) -> None:
    points = [(event["step"], event[name]) for event in events if event.get(name) is not None]
    if points:
        x, y = zip(*points, strict=True)
        axes.plot(x, y, color=colour, marker=marker or None, markersize=4, label=words)


def confusion_matrix(matrix: Any, classes: Sequence[str]) -> Any:
    """``matrix [classes, classes]``. Colours are shares of the true class (rows); numbers are counts, if they fit."""
    counts = np.asarray(matrix, dtype=float)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros_like(counts), where=support > 0)
    n = len(classes)
    cell = 0.52 if n <= 12 else 0.34 if n <= 30 else 0.24
    with styled():
        figure = new_figure(3.2 + cell * n, 2.6 + cell * n)
        axes = figure.add_subplot()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            _names(axis, classes)
        axes.tick_params(axis="x", rotation=90 if n > 6 else 35)
        if n <= MOST_ANNOTATED:
            _annotate(axes, counts, shares, small=n > 12)
        axes.set(xlabel="predicted", ylabel="true", title="Confusion matrix")
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
    return figure


def _annotate(axes: Any, counts: np.ndarray, shares: np.ndarray, small: bool) -> None:
    for row, column in np.argwhere(counts > 0):
        colour = "white" if shares[row, column] > 0.55 else "#222"
        text = f"{counts[row, column]:,.0f}" if counts[row, column] < 1e5 else f"{counts[row, column]:.0e}"
        axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8 if small else 9)


def per_class(rows: Sequence[Mapping[str, Any]]) -> Any:
    """F1 as bars, precision and recall as marks; the best class first."""
    ordered = sorted(rows, key=lambda row: (row["f1"], row["support"]))
    with styled():
        figure = new_figure(7.5, 1.4 + 0.28 * max(2, len(rows)))
        axes = figure.add_subplot()
        y = np.arange(len(ordered))
        axes.barh(y, [row["f1"] for row in ordered], color=BLUE, alpha=0.75, height=0.7, label="F1")
        axes.plot([row["precision"] for row in ordered], y, "|", color="#222", markersize=10, label="precision")
        axes.plot([row["recall"] for row in ordered], y, ".", color=ORANGE, markersize=8, label="recall")
        _names(axes.yaxis, [f"{label(row['class'])}  ({row['support']:,})" for row in ordered], most=60)
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(0, 1.02), title="Each class (units on the test side)")
        axes.set_ylim(-0.6, len(ordered) - 0.4)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower right", ncols=3)
    return figure


def reliability(diagram: Mapping[str, Sequence[Any]], ece: float | None) -> Any:
    """Accuracy against confidence: below the diagonal the model is surer than it is right."""
    edges = np.array(diagram["edges"])
    filled = [i for i, count in enumerate(diagram["count"]) if count]
    with styled():
        figure = new_figure(4.6, 4.6)
        upper, lower = figure.subplots(2, 1, height_ratios=[3, 1], sharex=True)
        upper.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="perfectly calibrated")
        x = [diagram["confidence"][i] for i in filled]
        y = [diagram["accuracy"][i] for i in filled]
        upper.plot(x, y, color=BLUE, marker="o", markersize=5, label="model")
        upper.set(ylim=(0, 1.02), xlim=(0, 1), ylabel="share that is right")
        upper.set_title("Reliability" + (f" (ECE {ece:.3f})" if ece is not None else ""))
        upper.legend(loc="upper left")
        lower.bar(edges[:-1], diagram["count"], width=np.diff(edges), align="edge", color=GREY, edgecolor="white")
        lower.set(xlabel="probability of the predicted class", ylabel="units")
    return figure


def comparison(models: Mapping[str, Mapping[str, Any]]) -> Any:
    """``models[name]`` has ``metrics`` and ``intervals``; points with their 95 % intervals, a group a metric."""
    shown = {
        "accuracy": "accuracy",
        "balanced_accuracy": "balanced\naccuracy",
        "macro_f1": "macro F1",
        "weighted_f1": "weighted\nF1",
        "mcc": "MCC",
    }
    colours = [BLUE, ORANGE, GREY]
    with styled():
        figure = new_figure(7.5, 3.2)
        axes = figure.add_subplot()
        for place, (name, values) in enumerate(models.items()):
            x = np.arange(len(shown)) + (place - (len(models) - 1) / 2) * 0.22
            y = np.array([values["metrics"][metric] for metric in shown])
            bounds = np.array([values["intervals"].get(metric, [v, v]) for metric, v in zip(shown, y, strict=True)]).T
            spread = np.clip([y - bounds[0], bounds[1] - y], 0, None)
            axes.errorbar(x, y, spread, fmt="o", color=colours[place], capsize=3, markersize=5, label=name)
        axes.set_xticks(range(len(shown)), shown.values())
        axes.grid(axis="x", visible=False)
        axes.set_ylim(min(0, axes.get_ylim()[0]), 1.02)
        axes.set_title("Beside the baselines (bars: 95 % intervals)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def confidence(by_class: Mapping[str, np.ndarray], title: str) -> Any:
    """Distribution of the predicted probability of the true class, one box a class."""
    names = list(by_class)[::-1]
    with styled():
        figure = new_figure(7.5, 1.4 + 0.3 * max(2, len(names)))
        axes = figure.add_subplot()
        values = [by_class[name] if len(by_class[name]) else np.array([np.nan]) for name in names]
        axes.boxplot(
            values,
            orientation="horizontal",
            widths=0.6,
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": BLUE, "alpha": 0.35},
            medianprops={"color": RED},
        )
        labels = [f"{label(name)}  ({len(by_class[name]):,})" for name in names]
        axes.set_yticks(range(1, len(names) + 1), labels)
        axes.grid(axis="y", visible=False)
        axes.set(xlim=(-0.02, 1.02), xlabel="probability given to the true class", title=label(title, 80))
    return figure


def _names(axis: Any, names: Sequence[str], most: int = 28) -> None:
    axis.set_ticks(range(len(names)), [name if most > 28 else label(name, most) for name in names])
    axis.set_tick_params(labelsize=8 if len(names) > 20 else 9)
