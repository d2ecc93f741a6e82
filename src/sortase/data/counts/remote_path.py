"""Files of counts that stay in storage: what of them is looked at is read from there."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ... import storage

# Tables of counts as text, three values in a thousand not 0, are packed to a 186th; what is of one letter to a 1032nd.
ALWAYS, MOST = 64 << 20, 400


@dataclass(frozen=True)
class RemotePath:
    """What ``pathlib.Path`` is to a file or folder of this machine, as far as the readers of counts go.

    ``sizes`` are the bytes of the files below it by their relative path; a file itself has the empty one.
    """

    url: str
    sizes: dict[str, int]

    @property
    def name(self) -> str:
        return self.url.rstrip("/").rpartition("/")[2]

    def __truediv__(self, name: str) -> RemotePath:
        inside = {"": self.sizes[name]} if name in self.sizes else {}
        below = {
            path.removeprefix(f"{name}/"): size for path, size in self.sizes.items() if path.startswith(f"{name}/")
        }
        return RemotePath(storage.join(self.url, *name.split("/")), inside | below)

    def is_file(self) -> bool:
        return "" in self.sizes

    def is_dir(self) -> bool:
        return bool(self.sizes) and not self.is_file()

    def iterdir(self) -> Iterator[RemotePath]:
        return (self / name for name in dict.fromkeys(path.partition("/")[0] for path in self.sizes))

    def open(self, mode: str = "rb") -> BinaryIO:
        return storage.open_parts(self.url)


def remote_path(url: str) -> RemotePath:
    """Raises MissingInputError where nothing is there."""
    found = storage.own_files(url)
    if not found:
        raise storage.missing(url)
    return RemotePath(url.rstrip("/"), {name: info.size for name, info in found.items()})


def size_of(path: Path | RemotePath) -> int:
    return path.sizes[""] if isinstance(path, RemotePath) else path.stat().st_size


class _Unpacked(io.RawIOBase):
    """The bytes of a gzip file of ``size`` bytes; OSError where they are far more than a table of counts has."""

    def __init__(self, file: Any, size: int):
        self._file, self._left = file, ALWAYS + MOST * size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._file.readinto(buffer))
        self._left -= count
        if self._left < 0:
            raise OSError(f"it unpacks to more than {MOST} times its bytes")
        return count


@contextmanager
def opened(path: Path | RemotePath) -> Iterator[BinaryIO]:
    """A file's bytes, out of their compression by gzip where the name says so."""
    with path.open("rb") as file:
        if not path.name.lower().endswith(".gz"):
            yield file
            return
        with gzip.open(file) as packed, io.BufferedReader(_Unpacked(packed, size_of(path)), 1 << 16) as unpacked:
            yield cast(BinaryIO, unpacked)
