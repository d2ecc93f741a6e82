"""What is shown holds names from data, which may be made to steer a terminal or a CI system: they are spelt out."""

from __future__ import annotations

import re
import sys
import unicodedata

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# GitHub takes ## and a bracket anywhere in a line for a command, two colons at its beginning; others do alike.
_COMMAND = re.compile(r"(##(?=\w*\[))")
_LINE_COMMAND = re.compile(r"(?m)^(\s*)::")


def plain(text: str) -> str:
    """The text without colours; control characters, and those that turn the direction of writing, as ``\\uXXXX``; lines
    that begin like a command of a CI system begin with a backslash."""
    text = _COLOUR.sub("", text.replace("\r\n", "\n"))
    if not text.isprintable():
        text = "".join(_spelt(character) for character in text)
    return _LINE_COMMAND.sub(r"\1\\::", _COMMAND.sub(r"#\\#", text))


def _spelt(character: str) -> str:
    if character in "\n\t" or character.isprintable() or unicodedata.category(character) in ("Zs", "Cn", "Co"):
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def show(text: str, *, end: str = "\n", errors: bool = False) -> None:
    """Print to stdout, or to stderr."""
    stream = sys.stderr if errors else sys.stdout
    stream.write(plain(text) + end)
    stream.flush()
