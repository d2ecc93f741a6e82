"""Copies in a node's cache, as files and locks.

.lock                     of who makes room
<source>/.lock            of who makes or removes copies of the source
<source>/partial/         what is being made or removed
<source>/<version>.note   bytes of the copy; its time is that of the last use; locked by all who use the copy
<source>/<version>/       the copy, whole
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from ..deadlines import is_leaving, limit
from ..errors import StorageError
from .local import naming_faults
from .locks import is_at, lock

LOOK_SECONDS = 0.2
LOCK, NOTE, PARTIAL = ".lock", ".note", "partial"
_DIGEST = re.compile("[0-9a-f]{24}")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


class _Used:
    """Locked notes of the copies that this process uses."""

    notes: ClassVar[dict[Path, IO[bytes]]] = {}


@dataclass(frozen=True)
class Entry:
    """A version of a source: a copy, or one that is being made."""

    source: Path
    version: str

    @property
    def folder(self) -> Path:
        return self.source / self.version

    @property
    def note(self) -> Path:
        return self.source / f"{self.version}{NOTE}"

    def bytes(self) -> int:
        try:
            return int(self.note.read_bytes())
        except (FileNotFoundError, ValueError):  # an earlier release wrote none, or the machine went down
            return size(self.folder)

    def to_come(self) -> int:
        """Bytes that it will take beyond those that it takes now."""
        return 0 if self.folder.exists() else max(0, self.bytes() - size(self.source / PARTIAL))

    def last_used(self) -> int:
        for path in (self.note, self.folder):
            with suppress(FileNotFoundError):
                return path.stat().st_mtime_ns
        return 0  # it is being removed

    def use(self) -> None:
        """Until this process ends or releases it nobody removes it. Its source has to be locked."""
        with naming_faults("write", self.note):
            if self.note.exists():
                self.note.touch()
            else:
                self.note.write_text(str(size(self.folder)))
            held = _Used.notes.get(self.note)
            if held is None or not is_at(self.note, held):
                file = lock(self.note, shared=True)
                if file is None:
                    raise StorageError(f"another program has locked {self.note}")
                _Used.notes[self.note] = file

    def release(self) -> None:
        if self.note in _Used.notes:
            _Used.notes.pop(self.note).close()

    def remove(self) -> bool:
        """False where it is another user's, or in use. Its source has to be locked."""
        partial = self.source / PARTIAL
        with naming_faults("remove", self.folder):
            if self.folder.exists() and self.folder.stat().st_uid != os.geteuid():
                return False
            if not self.note.exists():
                self.note.touch()
            file = lock(self.note)
            if file is None:
                return False
            with file:
                if partial.exists():
                    shutil.rmtree(partial)
                if self.folder.exists():
                    self.folder.rename(partial)
                    shutil.rmtree(partial)
                self.note.unlink()
        return True


def release_all() -> None:
    for file in _Used.notes.values():
        file.close()
    _Used.notes.clear()


def sources(root: Path) -> list[Path]:
    return [path for path in root.iterdir() if _DIGEST.fullmatch(path.name)] if root.is_dir() else []


def versions(source: Path) -> list[Entry]:
    """Of a source, those that are being made included."""
    try:
        names = {path.name.removesuffix(NOTE) for path in source.iterdir()}
    except FileNotFoundError:  # it has just been removed
        return []
    return [Entry(source, name) for name in sorted(names) if _DIGEST.fullmatch(name)]


def clean(source: Path) -> None:
    """Remove what is no copy, and the source itself where it has none. It has to be locked."""
    with naming_faults("remove", source):
        if (source / PARTIAL).exists():
            shutil.rmtree(source / PARTIAL)
        whole = [entry for entry in versions(source) if entry.folder.exists()]
        for entry in versions(source):
            if entry not in whole:
                entry.note.unlink()
        if not whole:
            (source / LOCK).unlink()
            with suppress(OSError):  # somebody else has begun with it
                source.rmdir()


@contextmanager
def locked_now(source: Path) -> Iterator[bool]:
    """Whether nobody else makes or removes copies of the source; nobody does inside."""
    try:
        file = lock(source / LOCK)
    except FileNotFoundError:
        file = None
    if file is None:
        yield False
        return
    with file:
        yield True


@contextmanager
def locked(folder: Path, doing: str = "", watched: bool = False) -> Iterator[None]:
    """One process at a time, the others wait.

    Raises StorageError when the holder has the lock for longer than the limit ``cache-lock``; of a ``watched`` folder,
    when nothing was written to it for so long.
    """
    since, seen = time.monotonic(), -1
    while (file := _locked_once(folder)) is None:
        if watched and (found := size(folder)) != seen:
            since, seen = time.monotonic(), found
        if is_leaving() or time.monotonic() - since > limit("cache-lock"):
            raise StorageError(
                f"another process holds {folder / LOCK}, and has {doing} for {time.monotonic() - since:.0f} s; end it, "
                "or name another folder in SORTASE_CACHE"
            )
        time.sleep(LOOK_SECONDS)
    with file:
        yield


def _locked_once(folder: Path) -> IO[bytes] | None:
    with naming_faults("write", folder / LOCK):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            (folder / LOCK).touch()
            return lock(folder / LOCK)
        except FileNotFoundError:  # it was removed with its last copy, and is made anew
            return None


def size(folder: Path) -> int:
    """Bytes of the files in a folder that others may be changing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # it has just taken its place
            total += path.stat().st_size
    return total
