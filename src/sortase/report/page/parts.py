"""The pieces a report page is made of, and how numbers are written in it."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from ...stopping import check
from ..figures.style import DPI, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Part = dict[str, Any]
Files = dict[str, bytes]
MOST_SVG = 300_000
_PAGE = 940  # CSS pixels; a wider figure reaches beyond the text, and scrolls if the window is narrower
_SHRINK = 0.75
_LONG = 24  # letters
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_WIDTH = re.compile(r'width="([\d.]+)pt"')


def text(words: str) -> Part:
    return {"kind": "text", "text": joined(words)}


def joined(words: str) -> str:
    """Numbers keep their percent sign on their line."""
    return words.replace(" %", "\u00a0%")


def notes(lines: Sequence[str]) -> Part:
    return {"kind": "notes", "notes": list(lines)}


def pre(words: str) -> Part:
    return {"kind": "pre", "text": words}


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> Part:
    """Columns of numbers (or of what ``percent`` and ``bounds`` write) are set right, those of long texts stay wide."""
    cells = [[written(value) for value in row] for row in rows]
    kinds = ["n" if all(_is_number(row[i]) for row in rows) and rows else "" for i in range(len(heads))]
    for i, kind in enumerate(kinds):
        if not kind and any(len(row[i]) > _LONG for row in cells):
            kinds[i] = "long"
    return {"kind": "table", "heads": heads, "rows": cells, "kinds": kinds, "caption": caption}


def figure(drawn: Figure, name: str, says: str, caption: str, files: Files) -> Part:
    """A figure for the page, inline; its PNG and SVG are added to ``files``. A huge drawing goes in as a picture.

    ``says`` stands for it where pictures are not seen.
    """
    check()
    svg, png = render(drawn, "svg"), render(drawn, "png")
    files[f"{name}.svg"], files[f"{name}.png"] = svg, png
    width = 96 * drawn.get_figwidth()
    if len(svg) > MOST_SVG:
        width = 96 * int.from_bytes(png[16:20], "big") / DPI
        source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
        inline = f'<img alt="{escape(says)}" src="{source}" {_size(width)}>'
    else:
        body = svg.decode()
        if found := _WIDTH.search(body):
            width = float(found[1]) * 96 / 72
        inline = _own(body, name).replace("<svg ", f'<svg role="img" aria-label="{escape(says)}" {_size(width)} ', 1)
    return {"kind": "figure", "svg": inline, "caption": caption, "wide": round(width) if width > _PAGE else None}


def _size(width: float) -> str:
    """Figures shrink on small screens as far as they stay readable, then they scroll."""
    least = width if width > _PAGE else width * _SHRINK
    return f'style="width: {width:.0f}px; min-width: {least:.0f}px"'


def _own(svg: str, name: str) -> str:
    """Several drawings share one page: the ids of each get its name, and the XML preamble goes."""
    body = _METADATA.sub("", svg[svg.index("<svg") :])
    return _TAG.sub(lambda tag: _named(tag[0], name), body)


def _named(tag: str, name: str) -> str:
    for before, after in ((' id="', f' id="{name}-'), ("url(#", f"url(#{name}-"), ('href="#', f'href="#{name}-')):
        tag = tag.replace(before, after)
    return tag


class Right(str):
    """Text that stands for a number and is set right like one."""


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, Right) or (isinstance(value, int | float) and not isinstance(value, bool))


def written(value: Any) -> str:
    """A number with three digits or more, thousands apart; nothing as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    digits = 0 if isinstance(value, int) or abs(value) >= 100 else 1 if abs(value) >= 10 else 3
    return f"{value:,.{digits}f}".replace("-", "−")


def percent(part: float | None, whole: float = 1.0) -> Right:
    """Never 100 % or 0 % of what is not all or nothing."""
    if part is None or not whole:
        return Right("–")
    share = part / whole
    for near, words in ((share > 0.9995 and share < 1, "> 99.9 %"), (0 < share < 0.0005, "< 0.1 %")):
        if near:
            return Right(words)
    return Right(f"{100 * share:.{0 if share in (0, 1) else 1}f} %")


def bounds(interval: Sequence[float] | None) -> Right:
    return Right(f"{written(float(interval[0]))} to {written(float(interval[1]))}" if interval else "–")


def duration(seconds: float | None) -> Right:
    """``4.2 s``, ``3 min 08 s``, ``2 h 05 min``."""
    if seconds is None:
        return Right("–")
    if seconds < 59.95:
        return Right(f"{seconds:.1f} s" if seconds >= 0.05 or not seconds else "< 0.1 s")
    minutes, rest = divmod(round(seconds), 60)
    hours, left = divmod(minutes, 60)
    return Right(f"{hours} h {left:02d} min" if hours else f"{minutes} min {rest:02d} s")


def several(count: int, unit: str) -> str:
    return f"{count:,} {unit}" + ("" if count == 1 else "s")
