"""Markdown (GitHub's, which the Hugging Face hub shows too) in which texts of users and data stay texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..page.parts import Right, written

_MARKS = re.compile(r"[\\`*\[\]<>|~$&]")
_OUTER_UNDERSCORE = re.compile(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_BLOCK = re.compile(r"^(\d{1,9}(?=[.)](?:\s|$)))?([-+#=]|(?<=\d)[.)])")


class Code(str):
    """Text that a table shows as code."""


def one_line(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))


def escaped(text: str) -> str:
    """On one line, and read as it is written wherever a sentence or a cell of a table may stand."""
    line = _MARKS.sub(r"\\\g<0>", one_line(text))
    line = _OUTER_UNDERSCORE.sub(r"\\_", line)
    return _BLOCK.sub(lambda found: f"{found[1] or ''}\\{found[2]}", line)


def code(text: str) -> str:
    """A code span; its fence is longer than any in the text."""
    line = one_line(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    room = " " if line[:1] == "`" or line[-1:] == "`" else ""
    return f"{fence}{room}{line}{room}{fence}"


def cell(value: Any) -> str:
    return code(value).replace("|", r"\|") if isinstance(value, Code) else escaped(written(value))


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns of numbers are set right."""
    rules = [":--" if any(_is_text(row[i]) for row in rows) else "--:" for i in range(len(heads))]
    lines = [[cell(head) for head in heads], rules, *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Right)


def bullets(lines: Sequence[str]) -> str:
    """``lines`` are Markdown already."""
    return "\n".join(f"- {line}" for line in lines)


def quoted(names: Sequence[str], most: int = 8) -> str:
    """``'a', 'b' and 3 more``, escaped."""
    shown = ", ".join(f"'{escaped(name)}'" for name in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def classes(count: int) -> str:
    return "one class" if count == 1 else f"{count:,} classes"
