"""One look for all figures: colours that colour-blind readers tell apart, and files that are the same every time."""

from __future__ import annotations

import io
from typing import Any

BLUE, ORANGE, GREEN, GREY, RED = "#0072B2", "#E69F00", "#009E73", "#8a8f98", "#D55E00"
SIDES = {"train": BLUE, "validation": ORANGE, "test": GREEN}
SETTINGS: Any = {
    "font.size": 9.5,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "sortase",
}


def new_figure(width: float, height: float) -> Any:
    """A figure that belongs to no global state; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def styled() -> Any:
    from matplotlib import rc_context

    return rc_context(SETTINGS)


def render(figure: Any, kind: str) -> bytes:
    """The bytes of a PNG or SVG; no date in it, so that the same figure gives the same file."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with styled():
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
    return buffer.getvalue()


def short(name: str, most: int = 28) -> str:
    """A long name with its middle left out: both ends tell classes apart."""
    if len(name) <= most:
        return name
    tail = most // 3
    return f"{name[: most - tail - 1]}…{name[-tail:]}"


def plain(text: str) -> str:
    """Matplotlib takes text between dollar signs for formulas."""
    return text.replace("$", r"\$")


def label(name: str, most: int = 28) -> str:
    return plain(short(name, most))
