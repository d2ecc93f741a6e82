"""What a file names is a file below its own folder: the one rule for manifests, indexes and records that are read."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

from .. import storage
from ..errors import InputError

_LONGEST, _LONGEST_PART = 1024, 255
_REFUSED = re.compile(r'[\\:*?"<>|]|%[0-9a-fA-F]{2}')  # other systems' separators, drives, schemes, patterns, escapes
_LIKE_SEPARATORS = frozenset("\u2044\u2215\u2216\u29f5\u29f8\u29f9\u2571\u2572\u3033\u1735")
_RULE = "a plain relative name below the folder is expected"


def check_name(name: Any, source: str) -> str:
    """The name that ``source`` (a file, as messages call it) gives, when it is a plain relative one: parts of ordinary
    characters between slashes. InputError for everything else."""
    if not isinstance(name, str):
        raise InputError(f"{source} names a {type(name).__name__} instead of a file; {_RULE}")
    if problem := _problem(name):
        raise InputError(f"{source} names the file {name[:200]!r}, which {problem}; {_RULE}")
    return name


def _problem(name: str) -> str | None:
    plain = unicodedata.normalize("NFKC", name)
    parts = name.split("/")
    if name == "" or len(name) > _LONGEST or any(len(part.encode(errors="replace")) > _LONGEST_PART for part in parts):
        return "is empty or too long"
    if name.startswith(("/", "~")) or ".." in parts:
        return "leads out of its folder"
    if any(unicodedata.category(character)[0] == "C" for character in name):
        return "has a control character in it"
    if (
        _REFUSED.search(name)
        or _LIKE_SEPARATORS & set(name)
        or len(re.findall(r"[/\\:.%~]", plain)) != len(re.findall(r"[/\\:.%~]", name))
    ):
        return "has a character in it that can be read as another one"
    if any(part in ("", ".") or part != part.strip(" ") or part.endswith(".") for part in parts):
        return "has a part that is empty or ends in a blank or a dot"
    return None


def member(folder: str, name: Any, source: str) -> str:
    """The URL of the file that ``source`` names in this folder; InputError as for `check_name`, and for a link that
    leads out of the folder."""
    url = storage.join(folder, *check_name(name, source).split("/"))
    if not storage.is_remote(folder):
        _check_link(storage.local_path(folder), storage.local_path(url), name, source)
    return url


def _check_link(folder: Path, path: Path, name: str, source: str) -> None:
    """Links may lead about in the folder. The cache of the Hugging Face hub keeps content in ``blobs`` beside it."""
    real, root = path.resolve(), folder.resolve()
    blobs = root.parent.parent / "blobs"
    if real.is_relative_to(root) or (root.parent.name == "snapshots" and real.is_relative_to(blobs)):
        return
    raise InputError(f"{source} names the file {name!r}, a link that leads out of its folder; copy what it leads to")
