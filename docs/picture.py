"""Draws docs/images/report.png, the picture of the README, from the figures of a run that is finished:

sortase demo --only sequence --output demo && python docs/picture.py demo/blood-cell-types
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

TARGET = Path(__file__).parent / "images" / "report.png"
WIDTH, MARGIN, HEAD = 1500, 24, 150
COLOURS = 256  # enough for figures, and a third of the bytes


def picture(run: Path) -> Image.Image:
    """Name and verdict, then three of the report's figures on white."""
    name = json.loads((run / "run.json").read_text())["name"]
    verdict = json.loads((run / "evaluation.json").read_text())["baseline"]["verdict"]
    left, right = 0.53 * (WIDTH - 3 * MARGIN), 0.47 * (WIDTH - 3 * MARGIN)
    beside = [_figure(run, "baseline", left), _figure(run, "learning_curves", left)]
    matrix = _figure(run, "confusion_matrix", right)
    height = HEAD + max(sum(each.height + MARGIN for each in beside), matrix.height + MARGIN)
    page = Image.new("RGB", (WIDTH, height), "white")
    draw = ImageDraw.Draw(page)
    draw.text((MARGIN, MARGIN), f"Report of {name}", font=_font(32, "bold"), fill="#111827")
    draw.multiline_text((MARGIN, 78), textwrap.fill(verdict, 108), font=_font(22), fill="#374151", spacing=8)
    top = HEAD
    for each in beside:
        page.paste(each, (MARGIN, top))
        top += each.height + MARGIN
    page.paste(matrix, (round(2 * MARGIN + left), HEAD))
    draw.rectangle((0, 0, WIDTH - 1, height - 1), outline="#d1d5db", width=2)
    return page.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)


def _figure(run: Path, name: str, width: float) -> Image.Image:
    figure = Image.open(run / "figures" / f"{name}.png").convert("RGB")
    return figure.resize((round(width), round(figure.height * width / figure.width)), Image.Resampling.LANCZOS)


def _font(size: int, weight: str = "normal") -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont(FontProperties(family="DejaVu Sans", weight=weight)), size)


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    picture(Path(sys.argv[1])).save(TARGET, optimize=True)
