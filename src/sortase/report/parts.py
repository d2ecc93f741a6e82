"""The pieces a report page is made of, and how numbers are written in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

from .style import render

MOST_SVG = 300_000
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)


def text(words: str) -> dict[str, Any]:
    return {"kind": "text", "text": words}


def notes(lines: Sequence[str]) -> dict[str, Any]:
    return {"kind": "notes", "notes": list(lines)}


def pre(words: str) -> dict[str, Any]:
    return {"kind": "pre", "text": words}


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> dict[str, Any]:
    """Columns whose every cell is a number are set right."""
    cells = [[written(value) for value in row] for row in rows]
    numeric = [i for i in range(len(heads)) if rows and all(_is_number(row[i]) for row in rows)]
    return {"kind": "table", "heads": heads, "rows": cells, "numeric": numeric, "caption": caption}


def figure(drawn: Any, name: str, caption: str, files: dict[str, bytes]) -> dict[str, Any]:
    """A figure for the page, inline; its PNG and SVG are added to ``files``. A huge drawing goes in as a picture."""
    svg, png = render(drawn, "svg"), render(drawn, "png")
    files[f"{name}.svg"], files[f"{name}.png"] = svg, png
    if len(svg) > MOST_SVG:
        inline = f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'
    else:
        inline = _unique(svg.decode(), name)
    return {"kind": "figure", "svg": inline, "caption": caption}


def _unique(svg: str, name: str) -> str:
    """Several drawings share one page: the ids of each get its name, and the XML preamble goes."""
    body = _METADATA.sub("", svg[svg.index("<svg") :])
    for before, after in ((' id="', f' id="{name}-'), ("url(#", f"url(#{name}-"), ('href="#', f'href="#{name}-')):
        body = body.replace(before, after)
    return body


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def written(value: Any) -> str:
    """A number with three digits behind the point, thousands apart; nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "–"


def bounds(interval: Sequence[float] | None) -> str:
    return f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else ""
