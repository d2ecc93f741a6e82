"""A saved dataset that stays in storage: the heads and ends of its files, and its first rows, tell what is refused."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa

from .. import storage
from .arrow_check import checked_batch
from .shards import INFO, data_files, features_of
from .source import END, FolderSource, Unit, check_files, check_kind, check_same, decoded, naming

_HEAD = 1 << 16
_MOST = 64 << 20  # bytes of the first rows


@dataclass(frozen=True)
class Peeked(FolderSource):
    """It has no ``files``; ``first`` are rows from its beginning, None where they are more than a look is worth."""

    first: pa.RecordBatch | None = None

    @property
    def units(self) -> tuple[Unit, ...]:
        return () if self.first is None else (Unit(0, 0, self.first.num_rows),)

    def read(self, unit: Unit, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        if self.first is not None:
            batch = self.first if columns is None else self.first.select(list(columns))
            yield checked_batch(batch, self.name, 0)


def peek(url: str) -> Peeked:
    """Raises what ``open_folder`` raises, as far as the heads and ends of the files tell; nothing is copied."""
    listed = storage.own_files(url)
    if not listed:
        raise storage.missing(url)
    check_kind(listed.__contains__, url)
    info = storage.read_json(storage.join(url, INFO))
    names = data_files(url)
    check_files(names, listed.__contains__, url)
    sizes = [listed[name].size for name in names]
    heads = storage.read_parts(url, [(name, 0, min(size, _HEAD)) for name, size in zip(names, sizes, strict=True)])
    ends = storage.read_parts(
        url, [(name, max(0, size - len(END)), size) for name, size in zip(names, sizes, strict=True)]
    )
    schemas = []
    for name, head, end in zip(names, heads, ends, strict=True):
        path = storage.join(url, *name.split("/"))
        with naming(path):
            schemas.append(_schema(path, head))
            if end != END:
                raise pa.ArrowInvalid("it lacks the mark at its end")
        check_same(schemas, names, url)
    first = _first_rows(storage.join(url, *names[0].split("/")), sizes[0], schemas[0])
    return Peeked(url, schemas[0], info.get("features") or features_of(schemas[0]), (), "", first=first)


def _schema(path: str, head: bytes) -> pa.Schema:
    """The first message; what `datasets` writes into it may be long."""
    if int.from_bytes(head[4:8], "little") + 8 > len(head):
        with storage.open_input(path) as file:
            return decoded(pa.ipc.open_stream(file).schema)
    return decoded(pa.ipc.read_schema(pa.ipc.read_message(pa.py_buffer(head))))


class _TooLongError(Exception):
    pass


class _Bounded(io.RawIOBase):
    """A file of ``size`` bytes that Arrow reads message by message; a long one is not begun."""

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > self._left:
            raise pa.ArrowInvalid("it is cut short")
        if size > _MOST:
            raise _TooLongError
        self._left -= size
        return self._file.read(size)


def _first_rows(path: str, size: int, schema: pa.Schema) -> pa.RecordBatch | None:
    try:
        with naming(path), storage.open_input(path) as file:
            stream: Any = pa.PythonFile(_Bounded(file, size), "r")
            batch = next(iter(pa.ipc.open_stream(stream)), None)
            return None if batch is None else batch.cast(schema)
    except _TooLongError:
        return None
