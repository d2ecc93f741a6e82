"""Names of classes as labels in a figure: short, distinct, and never taken for formulas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

MOST = 28
_WIDER = 6
_ROUNDS = 4


def short(name: str, most: int = MOST) -> str:
    """A long name with its middle left out: both ends tell classes apart."""
    if len(name) <= most:
        return name
    tail = 2 * most // 5
    return f"{name[: most - tail - 1]}…{name[-tail:]}"


def plain(text: str) -> str:
    """On one line, printable, and with dollar signs that matplotlib does not take for the ends of a formula."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line.replace("$", r"\$")


def labels(names: Sequence[str], most: int = MOST) -> list[str]:
    """Short forms that still differ where the names do: longer where two would be the same, at last numbered."""
    widths = dict.fromkeys(names, most)
    for _ in range(_ROUNDS):
        for name in _alike(widths):
            widths[name] += _WIDER
    numbers = {name: f" #{number}" for number, name in enumerate(_alike(widths), 1)}
    return [plain(short(name, widths[name]) + numbers.get(name, "")) for name in names]


def _alike(widths: dict[str, int]) -> list[str]:
    """Names whose short form another name has too."""
    taken = Counter(short(name, width) for name, width in widths.items())
    return [name for name, width in widths.items() if taken[short(name, width)] > 1]


def compact(value: float) -> str:
    """At most five characters: 9999, 12k, 1.2M; shares with two digits."""
    if value != round(value):
        return f"{value:.2f}"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            scaled = value / {"G": 1e9, "M": 1e6, "k": 1e3}[unit]
            return f"{scaled:.0f}{unit}" if scaled >= 10 else f"{scaled:.1f}{unit}"
    return f"{value:.0f}"
