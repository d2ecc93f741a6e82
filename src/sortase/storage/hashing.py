"""Hashes of files of this machine, each computed once for a version of the file."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

from ..stopping import check, in_threads
from .cache import cache_folder
from .local import naming_faults
from .written import BLOCK

RECENT = 2 * 10**9  # ns; within it a file could change again without another time
WORTH_KEEPING = 1 << 20  # bytes; less is hashed sooner than looked up
KEPT = 10_000  # hashes in the cache, those that were used last


class _Known:
    hashes: ClassVar[dict[tuple[str, tuple[int, ...]], str]] = {}
    trimmed: ClassVar[bool] = False


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content.

    It is kept, in memory and in this machine's cache, by path, size, inode and times: the time of a file's last change
    of any kind cannot be set back as that of its content can.
    """
    with naming_faults("read", path):
        key = _version(path)
        known = _Known.hashes.get((str(path), key)) or _kept(path, key)
        if known is None:
            known = _computed(path)
            if _version(path) != key or time.time_ns() - max(key[-2:]) < RECENT:
                return known
            _keep(path, key, known)
    _Known.hashes[str(path), key] = known
    return known


def _computed(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            check()
            found.update(block)
    return found.hexdigest()


def sha256_of_all(paths: Sequence[Path]) -> list[str]:
    """Several at a time: hashing leaves the interpreter to others."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1), thread_name_prefix="hash") as pool:
        return list(pool.map(in_threads(sha256_of), paths))


def _version(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns


def _place(path: Path) -> Path:
    return cache_folder() / "hashes" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:24]}.json"


def _kept(path: Path, key: tuple[int, ...]) -> str | None:
    if key[0] < WORTH_KEEPING:
        return None
    place = _place(path)
    try:
        told = json.loads(place.read_bytes())
        found = str(told["sha256"]) if told["version"] == list(key) else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or not one of ours: it is computed
        return None
    with suppress(OSError):  # a cache that can only be read
        os.utime(place)
    return found


def _keep(path: Path, key: tuple[int, ...], found: str) -> None:
    """What is cut short on the way is no JSON, so none."""
    if key[0] < WORTH_KEEPING:
        return
    place = _place(path)
    with suppress(OSError):  # a cache that cannot be written costs only time
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps({"version": key, "sha256": found}))
        if not _Known.trimmed:
            _Known.trimmed = True
            _trim(place.parent)


def _trim(folder: Path) -> None:
    """What an earlier release left when it was killed goes too."""
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)[KEPT:]:
        path.unlink()
