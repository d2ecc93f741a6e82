"""Files of this machine: written whole or not at all, with faults of the system told in words."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..errors import StorageError
from .retry import words

DISK_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_PARTIAL = ".partial"


def is_whole(path: Path) -> bool:
    """Whether it is a file and not what a writer is at, or left when it was killed."""
    return path.is_file() and not (path.name.startswith(".") and path.name.endswith(_PARTIAL))


def _unnoted(path: Path) -> None: ...


@contextmanager
def local_output(path: Path, whole: Callable[[Path], None] = _unnoted) -> Iterator[BinaryIO]:
    """A file that takes its name when the block ends without an exception, once its content is on the disk.

    ``whole`` is called with where the content lies before that.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}{_PARTIAL}")
    with naming_faults("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = temporary.open("wb")
    try:
        with naming_faults("write", path, DISK_FAULTS), file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        whole(temporary)
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
