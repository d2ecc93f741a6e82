"""Temporary folders of this process, and what became of those of others."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import IO, ClassVar

from ..errors import StorageError
from .cache import cache_folder, remove_dead
from .local import naming_faults
from .locks import lock

PREFIX, SUFFIX = "sortase-", ".scratch"
LOCK, FILES = ".lock", "files"


class _Looked:
    through: ClassVar[set[str]] = set()


class Scratch:
    """A new folder that nobody else can read or has named, until the block ends or nothing refers to this any more.

    Its owner locks it. Where that was killed, the next process of the same user that needs one removes it.
    """

    def __init__(self, purpose: str):
        folder = tempfile.gettempdir()
        if folder not in _Looked.through:
            remove_leftovers()
            _Looked.through.add(folder)
        with naming_faults("write", Path(folder) / f"{PREFIX}{purpose}-"):
            top, file = _locked_folder(f"{PREFIX}{purpose}-")
            self.path = top / FILES
            self._end = weakref.finalize(self, _remove_own, top, file, os.getpid())
            self.path.mkdir()

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._end()


def _locked_folder(prefix: str) -> tuple[Path, IO[bytes]]:
    while True:
        top = Path(tempfile.mkdtemp(SUFFIX, prefix))
        with suppress(FileNotFoundError):  # it was taken for a leftover before it was locked
            (top / LOCK).touch()
            if (file := lock(top / LOCK)) is not None:
                return top, file


def _remove_own(top: Path, file: IO[bytes], owner: int) -> None:
    with file, suppress(OSError):  # of a thread that still writes there: it is a leftover then
        if os.getpid() == owner:  # and no process that it has forked
            _remove(top)


def _remove(top: Path) -> None:
    """The lock goes last: what is cut short here is a leftover still."""
    if (top / FILES).exists():
        shutil.rmtree(top / FILES)
    shutil.rmtree(top)


def remove_leftovers() -> None:
    """Remove what processes of this user left, in the folder for temporary files and in the cache, that are dead."""
    with suppress(OSError, StorageError):  # it cannot be removed: no reason not to work
        remove_dead(cache_folder())
    for top in Path(tempfile.gettempdir()).glob(f"{PREFIX}*{SUFFIX}"):
        with suppress(OSError):  # the same, or another process is at it
            status = top.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
                _remove_dead(top)


def _remove_dead(top: Path) -> None:
    try:
        file = lock(top / LOCK)
    except FileNotFoundError:
        top.rmdir()  # if it is empty: its owner was killed, or makes another one
        return
    if file is not None:
        with file:
            _remove(top)
