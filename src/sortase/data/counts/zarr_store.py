"""Zarr stores are data from outside: what lies in the store is read, nothing else, and by codecs that only decode.

zarr gets the files that a walk over the folder or zip file has found, and metadata that were looked at before.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype

from ... import storage
from ...errors import InputError
from .hdf5_guard import ALWAYS, MULTIPLE
from .remote_path import RemotePath

HEAD = 18  # bytes in which a chunk says what it unpacks to
_GROUP, _ARRAY, _BOTH = ".zgroup", ".zarray", "zarr.json"
_METADATA = {_GROUP, _ARRAY, _BOTH, ".zattrs"}
_LONGEST_METADATA = 16 << 20
# Zarr 2 knows a codec that unpickles; any installed package may add others.
_CODECS = frozenset(
    (
        *("bytes", "endian", "transpose", "vlen-utf8", "crc32c", "sharding_indexed"),
        *("blosc", "zstd", "gzip", "zlib", "lz4", "shuffle", "numcodecs.zlib", "numcodecs.lz4", "numcodecs.shuffle"),
    )
)
_ZSTD = b"\x28\xb5\x2f\xfd"


class WalkedStore(Store):
    """``sizes`` are the bytes of its files. ``name`` is what messages call it.

    Raises InputError for links that lead out of the folder.
    """

    supports_writes = supports_deletes = False
    supports_listing = True

    def __init__(self, path: Path | RemotePath, name: str):
        super().__init__(read_only=True)
        self._path, self._name = path, name
        self._opened, self._zip = ExitStack(), None
        with ExitStack() as opened:
            if path.is_file():
                self._zip = opened.enter_context(zipfile.ZipFile(opened.enter_context(path.open("rb"))))
                self.sizes = dict(self._in_zip(self._zip))
            else:
                self.sizes = path.sizes if isinstance(path, RemotePath) else dict(self._in_folder(path))
            self._opened = opened.pop_all()

    def _in_folder(self, store: Path) -> Iterator[tuple[str, int]]:
        root = store.resolve()
        for folder, folders, files in os.walk(store):
            for own in (*folders, *files):
                path = Path(folder, own)
                if path.is_symlink() and not path.resolve().is_relative_to(root):
                    raise InputError(
                        f"{self._name}: {path.relative_to(store)} is a link that leads out of the store; copy "
                        "what it leads to"
                    )
                if own in files and path.is_file():
                    yield path.relative_to(store).as_posix(), path.stat().st_size

    def _in_zip(self, file: zipfile.ZipFile) -> Iterator[tuple[str, int]]:
        for item in file.infolist():
            if item.file_size > ALWAYS + MULTIPLE * item.compress_size:
                raise InputError(f"{self._name} is broken: {item.filename} claims {item.file_size:,} bytes")
            if not item.is_dir():
                yield item.filename, item.file_size

    def read(self, path: str, start: int = 0, stop: int | None = None) -> bytes:
        stop = self.sizes[path] if stop is None else min(stop, self.sizes[path])
        if self._zip is None and isinstance(self._path, RemotePath):
            return storage.read_parts(self._path.url, [(path, start, stop)])[0] if start < stop else b""
        with self._zip.open(path) if self._zip is not None else (self._path / path).open("rb") as file:
            file.seek(start)
            return file.read(max(0, stop - start))

    def children(self, path: str) -> list[str]:
        """Names of the groups and arrays right below a group."""
        nodes = (name.rpartition("/") for name in self.sizes)
        folders = (folder.rpartition("/") for folder, _, own in nodes if own in (_GROUP, _ARRAY, _BOTH) and folder)
        return sorted(own for above, _, own in folders if above == path)

    def stored(self, path: str) -> int:
        """Bytes of all files of an array."""
        return sum(self.sizes[name] for name in self.files(path))

    def files(self, path: str) -> list[str]:
        return [name for name in self.sizes if name.startswith(f"{path}/") and not name.endswith("/zarr.json")]

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if key not in self.sizes:
            return None
        data = self.read(key, *_between(byte_range, self.sizes[key]))
        if key.rpartition("/")[2] in _METADATA:
            self._check_metadata(key, data)
        self.check_chunk(key, data, len(data))
        return prototype.buffer.from_bytes(data)

    def _check_metadata(self, key: str, data: bytes) -> None:
        """TypeError where an array is encoded by what is not read."""
        if len(data) > _LONGEST_METADATA:
            raise InputError(f"{self._name} is broken: {key} is of {len(data):,} bytes")
        try:
            found = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self._name} is broken: {key} is not valid JSON: {error}") from error
        if not isinstance(found, dict) or not isinstance(found.get("attributes", {}), dict):
            raise InputError(f"{self._name} is broken: {key} describes neither a group nor an array")
        folder, _, own = key.rpartition("/")
        foreign = sorted(set(_codecs_of(found)) - _CODECS) if own in (_ARRAY, _BOTH) else []
        if foreign:
            raise TypeError(f"/{folder} is encoded by {foreign}, which is not read")

    def check_chunk(self, key: str, head: bytes, stored: int) -> None:
        """InputError where a chunk that begins so says that it unpacks to far more than the bytes that it has."""
        said = _unpacked(head, stored)
        if said > ALWAYS + MULTIPLE * stored:
            raise InputError(f"{self._name} is broken: {key} claims {said:,} bytes of values, {stored:,} are stored")

    async def get_partial_values(self, prototype: BufferPrototype, key_ranges: Any) -> list[Buffer | None]:
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        return key in self.sizes

    async def list(self) -> AsyncIterator[str]:
        for name in self.sizes:
            yield name

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        for name in self.sizes:
            if name.startswith(prefix):
                yield name

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        inside = f"{prefix.rstrip('/')}/" if prefix else ""
        for name in sorted({name[len(inside) :].partition("/")[0] for name in self.sizes if name.startswith(inside)}):
            yield name

    async def set(self, key: str, value: Buffer) -> None:
        raise PermissionError(key)

    async def delete(self, key: str) -> None:
        raise PermissionError(key)

    def __eq__(self, other: object) -> bool:
        return self is other

    def close(self) -> None:
        self._opened.close()
        super().close()


def _codecs_of(metadata: Any) -> Iterator[str]:
    """Names of all codecs in an array's metadata, of the second and the third format."""
    given = [metadata.get("compressor"), *(metadata.get("filters") or []), *(metadata.get("codecs") or [])]
    given += metadata.get("index_codecs") or []
    for codec in filter(None, given):
        described = codec if isinstance(codec, dict) else {"name": codec}
        yield str(described.get("name", described.get("id")))
        configuration = described.get("configuration")
        if isinstance(configuration, dict):
            yield from _codecs_of({key: configuration.get(key) for key in ("codecs", "index_codecs")})


def _between(wanted: ByteRequest | None, size: int) -> tuple[int, int]:
    if isinstance(wanted, RangeByteRequest):
        return wanted.start, wanted.end
    if isinstance(wanted, OffsetByteRequest):
        return wanted.offset, size
    return (max(0, size - wanted.suffix), size) if isinstance(wanted, SuffixByteRequest) else (0, size)


def _unpacked(head: bytes, stored: int) -> int:
    """What Blosc and Zstandard, whose ratio has no bound, say in their heads; their decoders take that much memory."""
    if len(head) >= 16 and int.from_bytes(head[12:16], "little") == stored:
        return int.from_bytes(head[4:8], "little")
    if head[:4] != _ZSTD or stored < HEAD:
        return 0
    described = head[4]
    single = described >> 5 & 1
    start, length = 5 + (1 - single) + (0, 1, 2, 4)[described & 3], (single, 2, 4, 8)[described >> 6]
    if not length:
        return 1 << 63  # it does not say
    return int.from_bytes(head[start : start + length], "little") + (256 if length == 2 else 0)
