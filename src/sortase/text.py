"""Text as people save it: UTF-8 with and without a byte order mark, UTF-16, and what Windows wrote before these."""

from __future__ import annotations

import codecs
import warnings
from collections.abc import Iterable

from .errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # which begins like UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_UNUSED = b"\x81\x8d\x8f\x90\x9d"  # of Windows' code page 1252


def decode(data: bytes, name: str) -> str:
    """The text of a file. Warns where its encoding is a guess.

    Raises:
        InputError: it is not text.
    """
    encoding = encoding_of([data], name)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not text in {encoding.upper()}, as it begins: {error}") from error


def encoding_of(blocks: Iterable[bytes], name: str) -> str:
    """Python's name of the encoding of a file that is read block by block.

    A byte order mark decides. Without one it is UTF-8 if all of it is; else the code page 1252 of Windows, or Latin-1
    where bytes are in use that the former does not have. A warning says so.

    Raises:
        InputError: it has bytes that no text has.
    """
    utf8, is_utf8 = codecs.getincrementaldecoder("utf-8")(), True
    encoding, size, zeros, first = "cp1252", 0, 0, True
    line = 1
    for block in blocks:
        if first:
            marked = next((encoding for mark, encoding in _MARKS if block.startswith(mark)), None)
            if marked is not None:
                return marked
            first = False
        size, zeros = size + len(block), zeros + block.count(0)
        if is_utf8:
            try:
                utf8.decode(block)
            except UnicodeDecodeError as error:
                is_utf8, line = False, line + error.object[: error.start].count(b"\n")
            else:
                line += block.count(b"\n")
        if any(byte in block for byte in _UNUSED):
            encoding = "latin-1"
    if zeros:
        kind = "UTF-16 without a byte order mark" if zeros * 3 > size else "a binary file"
        raise InputError(f"{name} holds zero bytes and looks like {kind}; save it as text in UTF-8")
    if is_utf8 and not utf8.getstate()[0]:
        return "utf-8"
    warnings.warn(
        f"{name} is not UTF-8 (line {line}) and is read as {encoding}, an older encoding of Windows; save it as UTF-8 "
        "if names look wrong",
        stacklevel=2,
    )
    return encoding


def stripped(names: Iterable[str], what: str) -> list[str]:
    """Names without the blanks around them; a warning says which had any."""
    given = list(names)
    made = [name.strip() for name in given]
    changed = [name for name, plain in zip(given, made, strict=True) if name != plain]
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        warnings.warn(
            f"{what}: blanks around names are left out: {', '.join(map(repr, changed[:5]))}{more}", stacklevel=2
        )
    return made
