"""Which values a training argument takes. Enumerations count by their values, NumPy's numbers as Python's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any


@dataclass(frozen=True)
class Values:
    """``words`` complete "must be ...". ``whole``: numbers are read as integers. ``choices`` help with spelling."""

    words: str
    accepts: Callable[[Any], bool]
    whole: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()

    def check(self, value: Any) -> str | None:
        """What is wrong with the value; None when nothing is."""
        if (value is None and self.optional) or (value is not None and self.accepts(value)):
            return None
        near = get_close_matches(value, self.choices, n=1) if isinstance(value, str) else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"must be {self.words}{' or None' if self.optional else ''}, got {value!r}{hint}"

    @property
    def annotation(self) -> Any:
        """The types of plain values among these; None where text is not."""
        if not (self.choices or self.accepts("text")):
            return None
        return str if not any(map(self.accepts, (True, 1, 0.5))) else None

    def read(self, value: Any) -> Any:
        """A checked value as plain data."""
        return int(value) if self.whole and value is not None else value


def plain(value: Any) -> Any:
    """Enumerations by their value, numbers of NumPy as Python's, paths as text; containers are copied."""
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value).__module__.partition(".")[0] == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    return value


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def number(low: float | None = None, *, above: float | None = None, below: float | None = None) -> Values:
    """A finite number from ``low`` on, above ``above``, below ``below``."""
    limits = [("of {:g} or more", low), ("above {:g}", above), ("below {:g}", below)]
    words = " and ".join(text.format(limit) for text, limit in limits if limit is not None)

    def accepts(value: Any) -> bool:
        return (
            is_number(value)
            and (low is None or value >= low)
            and (above is None or value > above)
            and (below is None or value < below)
        )

    return Values(f"a number {words}".strip(), accepts)


def whole(low: int, high: int | None = None) -> Values:
    """An integer from ``low`` on, up to ``high``; 12.0 is one too."""

    def accepts(value: Any) -> bool:
        return is_number(value) and value == int(value) and value >= low and (high is None or value <= high)

    words = f"a whole number of {low} or more" if high is None else f"a whole number from {low} to {high}"
    return Values(words, accepts, whole=True)


def steps() -> Values:
    """An interval as Trainer takes it: so many steps, or a share of all of them; 0 and -1 mean never."""
    return Values(
        "a whole number of steps, or a share of all steps between 0 and 1",
        lambda value: is_number(value) and (value == int(value) >= -1 or 0 < value < 1),
    )


def choice(*names: str) -> Values:
    listed = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return Values(f"one of {listed}", lambda value: isinstance(value, str) and value in names, choices=names)


def optional(values: Values) -> Values:
    return Values(values.words, values.accepts, values.whole, True, values.choices)


def either(*kinds: Values) -> Values:
    words = ", or ".join(kind.words for kind in kinds)
    return Values(words, lambda value: any(kind.accepts(value) for kind in kinds))


TRUTH = Values("True or False", lambda value: isinstance(value, bool))
TEXT = Values("text", lambda value: isinstance(value, str))
NAMES = Values(
    "a name or a list of names",
    lambda value: isinstance(value, str) or (isinstance(value, list) and all(isinstance(name, str) for name in value)),
)
SETTINGS = Values("a dictionary, or the path of a JSON file", lambda value: isinstance(value, dict | str))
ANYTHING = Values("anything", lambda value: True)
