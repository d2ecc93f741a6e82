"""The tables `obs` and `var` of AnnData files, column by column, in every layout that AnnData has written.

Groups of columns (since 0.7; categories in groups of their own since 0.8) and one compound dataset with categories
in `uns` (before). The layouts are described in AnnData's documentation, "On-disk format".
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..errors import InputError

if TYPE_CHECKING:
    import h5py


class Frame:
    """A table of a file; rows are read as slices."""

    def __init__(self, file: h5py.File, path: str):
        self._file, self._path = file, path
        self._element: Any = file[path]
        self._compound = hasattr(self._element, "dtype")

    @property
    def rows(self) -> int:
        return int(self._element.shape[0]) if self._compound else _length(self._element[self._index])

    @cached_property
    def columns(self) -> list[str]:
        names = self._element.dtype.names if self._compound else self._element.keys()
        return [name for name in names if name not in (self._index, "__categories")]

    @cached_property
    def _index(self) -> str:
        if self._compound:
            names: list[str] = list(self._element.dtype.names or ["index"])
            return next((name for name in ("index", "_index") if name in names), names[0])
        name = self._element.attrs.get("_index", "_index")
        name = name.decode() if isinstance(name, bytes) else str(name)
        if name not in self._element:
            raise InputError(f"{self._file.filename}: {self._path} has no index; it is not a table of AnnData")
        return name

    def index(self, start: int = 0, stop: int | None = None) -> pa.Array:
        """The rows' names as text."""
        return self._read(self._index, start, stop).cast(pa.string())

    def read(self, column: str, start: int = 0, stop: int | None = None) -> pa.Array | None:
        """Text, numbers or booleans, categories as their names; None for what is none of these."""
        try:
            return self._read(column, start, stop)
        except (KeyError, TypeError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            return None

    def _read(self, column: str, start: int, stop: int | None) -> pa.Array:
        if self._compound:
            values, categories = self._element.fields(column)[start:stop], self._legacy_categories(column)
            return _array(values) if categories is None else _named(values, categories)
        item = self._element[column]
        parts = set(item) if hasattr(item, "keys") else set()
        if "codes" in parts:
            return _named(item["codes"][start:stop], _array(item["categories"][:]))
        if "mask" in parts:
            values = _array(item["values"][start:stop])
            return pa.compute.if_else(pa.array(item["mask"][start:stop]), pa.scalar(None, values.type), values)
        if item.ndim != 1:
            raise TypeError(f"{column} has {item.ndim} dimensions")
        if "categories" in item.attrs:
            return _named(item[start:stop], _array(self._file[item.attrs["categories"]][:]))
        return _array(item[start:stop])

    def _legacy_categories(self, column: str) -> pa.Array | None:
        path = f"uns/{column}_categories"
        if path not in self._file or not np.issubdtype(self._element.dtype[column], np.integer):
            return None
        return _array(np.atleast_1d(self._file[path][()]))


def _length(item: Any) -> int:
    part = next((name for name in ("codes", "values") if hasattr(item, "keys") and name in item), None)
    return len(item if part is None else item[part])


def _array(values: np.ndarray) -> pa.Array:
    """Fixed or variable text, numbers (not-a-number is missing), booleans."""
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    if values.dtype.kind == "O":
        return pa.array([v.decode() if isinstance(v, bytes) else str(v) for v in values], pa.string())
    if values.dtype.kind == "U":
        return pa.array(values.tolist(), pa.string())
    return pa.array(values, from_pandas=True)


def _named(codes: np.ndarray, categories: pa.Array) -> pa.Array:
    """Names of categories as text; the code -1 is a missing value."""
    indices = pa.array(codes.astype(np.int64), mask=codes < 0)
    return categories.cast(pa.string()).take(indices)
