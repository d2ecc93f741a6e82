"""What a process writes to storage, file by file, with the hash of what it meant to write.

Another process may write over a file at any time; only the hash of one's own bytes tells afterwards whose lie there.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

S3_PART = 50 * 2**20  # s3fs sends files of two parts and more in parts of this size
BLOCK = 2**20


@dataclass(frozen=True)
class Written:
    """A file's bytes; ``etag`` is what S3 says of them when it does not encrypt them with a key of its own."""

    size: int
    sha256: str
    etag: str

    @classmethod
    def of(cls, file: BinaryIO) -> Written:
        """Of the rest of an open file."""
        whole, single = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
        parts: list[bytes] = []
        part, filled, size = hashlib.md5(usedforsecurity=False), 0, 0
        while block := file.read(min(BLOCK, S3_PART - filled)):
            whole.update(block)
            part.update(block)
            if size < 2 * S3_PART:
                single.update(block)
            size, filled = size + len(block), filled + len(block)
            if filled == S3_PART:
                parts.append(part.digest())
                part, filled = hashlib.md5(usedforsecurity=False), 0
        if filled:
            parts.append(part.digest())
        joined = f"{hashlib.md5(b''.join(parts), usedforsecurity=False).hexdigest()}-{len(parts)}"
        return cls(size, whole.hexdigest(), single.hexdigest() if size < 2 * S3_PART else joined)


class _Open:
    records: ClassVar[list[tuple[Callable[[str], bool], dict[str, Written]]]] = []
    lock: ClassVar[threading.Lock] = threading.Lock()


@contextmanager
def recording(wanted: Callable[[str], bool] = lambda url: True) -> Iterator[dict[str, Written]]:
    """What any thread of this process writes inside the block, by URL or absolute path, where that is ``wanted``; what
    is removed again is not in it."""
    record: dict[str, Written] = {}
    with _Open.lock:
        _Open.records.append((wanted, record))
    try:
        yield record
    finally:
        with _Open.lock:
            _Open.records[:] = [pair for pair in _Open.records if pair[1] is not record]


def is_wanted(url: str) -> bool:
    with _Open.lock:
        return any(wanted(url) for wanted, _ in _Open.records)


def note(files: Mapping[str, Written]) -> None:
    """Also for what another process has written on behalf of this one."""
    with _Open.lock:
        for wanted, record in _Open.records:
            record.update({url: written for url, written in files.items() if wanted(url)})


def note_file(url: str, path: Path) -> None:
    """``path`` holds what will lie at ``url``."""
    if is_wanted(url):
        with path.open("rb") as file:
            note({url: Written.of(file)})


def forget(url: str) -> None:
    """The file or folder is removed."""
    below = url.rstrip("/") + "/"
    with _Open.lock:
        for _, record in _Open.records:
            for name in [name for name in record if name == url or name.startswith(below)]:
                del record[name]
