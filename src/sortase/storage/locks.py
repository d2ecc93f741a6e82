"""Locks of files. The system frees one when its holder ends, in whatever way, and knows of no other machine's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO


def lock(path: Path, *, shared: bool = False) -> IO[bytes] | None:
    """The file, which is locked until it is closed; None while others hold it.

    FileNotFoundError where it is not there, or is removed meanwhile: only a file that has its name still counts.
    """
    import fcntl

    file = path.open("r+b")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        if not is_at(path, file):
            raise FileNotFoundError(f"{path} was removed")
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file


def is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether the open file is what has that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
