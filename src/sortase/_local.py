"""Files of this machine: written whole or not at all, with faults of the system told in words; its cache of copies."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ._retry import words
from .errors import StorageError

DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_PARTIAL = ".partial"


def is_whole(path: Path) -> bool:
    """Whether it is a file and not what a writer is at, or left when it was killed."""
    return path.is_file() and not (path.name.startswith(".") and path.name.endswith(_PARTIAL))


@contextmanager
def local_output(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends without an exception, once its content is on the disk."""
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{_PARTIAL}")
    with naming_faults("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
    try:
        with naming_faults("write", path, DISK_FAULTS), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with naming_faults("write", path):
            temporary.replace(path)
            _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def create_local(path: Path, data: bytes) -> bool:
    """Write a whole file under a name that is free; False where it is taken."""
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{_PARTIAL}")
    with local_output(temporary) as file:
        file.write(data)
    try:
        with naming_faults("write", path):
            os.link(temporary, path)
            _sync_folder(path.parent)
    except StorageError as error:
        if isinstance(error.__cause__, FileExistsError):
            return False
        raise
    finally:
        temporary.unlink(missing_ok=True)
    return True


@contextmanager
def naming_faults(what: str, path: Path, errnos: frozenset[int] | None = None) -> Iterator[None]:
    """Tell errors of the system with the path; ``errnos`` limits it to these where a caller's own errors may pass."""
    try:
        yield
    except OSError as error:
        if errnos is not None and error.errno not in errnos:
            raise
        free = f" ({_free_bytes(path):,} bytes free)" if what == "write" else ""
        raise StorageError(f"cannot {what} {path}: {words(error)}{free}") from error


def _free_bytes(path: Path) -> int:
    return shutil.disk_usage(next(folder for folder in path.parents if folder.is_dir())).free


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """``$SORTASE_CACHE``, else ``sortase`` in the user's cache folder."""
    if named := os.environ.get("SORTASE_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "sortase"


def cached(source: str, version: str, name: str, fill: Callable[[Path], None]) -> Path:
    """The copy called ``name`` of this version of ``source``, which ``fill`` makes where there is none.

    One process of this machine fills and the others wait. A copy takes its place when it is whole, and other versions
    of the same source are removed first, so that the cache holds each source once.
    """
    folder = cache_folder() / _digest(source)
    entry = folder / _digest(version) / name
    with _lock(folder):
        if not entry.exists():
            _empty(folder)
            partial = folder / "partial"
            try:
                fill(partial / name)
                with naming_faults("write", entry):
                    partial.rename(entry.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return entry


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _empty(folder: Path) -> None:
    """Remove other versions, and what a process left that was killed."""
    for old in folder.iterdir():
        if old.is_dir():
            with naming_faults("remove", old):
                shutil.rmtree(old)


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time; the system frees it when its holder dies."""
    import fcntl

    with naming_faults("write", folder / ".lock"):
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
