"""One look for all figures: colours that colour-blind readers tell apart, and files that are the same every time."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe, Ito 2008; they also differ in lightness, for print.
BLUE, ORANGE, GREEN, GREY, RED = "#0072B2", "#E69F00", "#009E73", "#8a8f98", "#D55E00"
PALE, INK = "#d3d8de", "#222222"
SIDES = {"train": BLUE, "validation": ORANGE, "test": GREEN}
DPI = 150
SETTINGS: dict[str, Any] = {
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
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "svg.hashsalt": "sortase",
}


def new_figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    """A figure that belongs to no global state; sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def styled() -> Any:
    """Matplotlib's own defaults, not those of the user's matplotlibrc, and these settings."""
    from matplotlib import style

    return style.context(["default", SETTINGS])


def render(figure: Figure, kind: str) -> bytes:
    """The bytes of a PNG or SVG; no date in it, so that the same figure gives the same file."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with styled(), warnings.catch_warnings():
        # The font of the PNG lacks some scripts; the SVG keeps the text itself.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        if figure.get_layout_engine() is not None:  # laid out once, for all kinds
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=metadata)
    return buffer.getvalue()
