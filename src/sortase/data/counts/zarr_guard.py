"""What `h5guard.Guard` is to an HDF5 file, to a zarr store: arrays are looked at before anything of them is decoded.

Which files, metadata and codecs there are, `zarrstore.WalkedStore` decides; zarr sees nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...errors import InputError, SortaseError
from ..damage import DAMAGE
from .hdf5_guard import ALWAYS, MULTIPLE
from .zarr_store import HEAD, WalkedStore

_LONGEST_ATTRIBUTE = 16


class ZarrGuard:
    """``name`` is what messages call the store."""

    def __init__(self, store: WalkedStore, name: str):
        self.name = name
        self._store = store
        self._checked: set[str] = set()

    def children(self, group: Any) -> Iterator[tuple[str, Any]]:
        """Each with None where it is damaged or encoded by what is not read; zarr would list none of them then."""
        for name in self._store.children(group.path):
            try:
                item = group[name]
            except DAMAGE as error:
                if isinstance(error, SortaseError):
                    raise
                item = None
            yield name, item

    def target(self, reference: Any) -> Any:
        raise TypeError("zarr has no references")

    def attribute(self, item: Any, *names: str) -> Any:
        """The first of these attributes that there is: text, or numbers, 16 at most."""
        for name in names:
            if name not in item.attrs:
                continue
            value = item.attrs[name]
            listed = value if isinstance(value, list) else [value]
            if len(listed) > _LONGEST_ATTRIBUTE or not all(isinstance(part, str | int | float) for part in listed):
                raise InputError(f"{self.name}: {item.name} has an attribute '{name}' that AnnData does not write")
            return value
        return None

    def check(self, item: Any) -> Any:
        """The array, whose values can be read: TypeError for types that are neither text nor numbers.

        Raises InputError for one that claims far more values than are stored.
        """
        if not hasattr(item, "shape"):
            raise TypeError(f"{item.name} is not an array")
        if item.path in self._checked:
            return item
        if item.dtype.kind not in "biufSUTO":
            raise TypeError(f"{item.name} holds neither text nor numbers")
        stored = self._store.stored(item.path)
        values = max(math.prod(item.shape), math.prod(item.shards or item.chunks))
        claimed = values * max(1, item.dtype.itemsize)
        if claimed > ALWAYS + MULTIPLE * stored:
            raise InputError(
                f"{self.name} is broken: {item.name} claims {claimed:,} bytes of values, {stored:,} are stored"
            )
        if item.shards:
            self._check_shards(item)
        self._checked.add(item.path)
        return item

    def _check_shards(self, item: Any) -> None:
        """Chunks of a shard are read with it: their heads are looked at by the shard's own index."""
        (sharding, *others) = item.metadata.to_dict()["codecs"]
        described = sharding["configuration"]
        index_codecs = [codec["name"] for codec in described["index_codecs"]]
        inner = [codec["name"] for codec in described["codecs"]]
        if others or index_codecs not in (["bytes"], ["bytes", "crc32c"]) or "sharding_indexed" in inner:
            raise TypeError(f"{item.name} has shards of a kind that is not read")
        size = 16 * (math.prod(item.shards) // max(1, math.prod(item.chunks)))
        whole = size + 4 * (len(index_codecs) - 1)
        for path in self._store.files(item.path):
            stored = self._store.sizes[path]
            first = 0 if described.get("index_location") == "start" else max(0, stored - whole)
            index = np.frombuffer(self._store.read(path, first, first + size), "<u8")
            for start, length in sorted(index[: len(index) // 2 * 2].reshape(-1, 2).tolist()):
                if start < stored:
                    self._store.check_chunk(path, self._store.read(path, start, start + HEAD), length)

    def read(self, item: Any, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values of an array of one dimension (or of none, as one value)."""
        self.check(item)
        if item.ndim > 1:
            raise TypeError(f"{item.name} has {item.ndim} dimensions")
        if item.ndim == 0:
            return np.atleast_1d(item[()])
        stop = min(item.shape[0] if stop is None else stop, item.shape[0])
        try:
            values = np.asarray(item[start : max(start, stop)])
        except MemoryError as error:
            raise OSError(f"{item.name} claims more memory than there is") from error
        return values.astype(object) if values.dtype.kind == "T" else values
