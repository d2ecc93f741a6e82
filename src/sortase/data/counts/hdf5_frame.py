"""The tables `obs` and `var` of AnnData, read column by column: by AnnData where it reads them rightly.

`read_elem` takes a column whole: two million barcodes are 375 MiB, in every process. `read_dispatched`, by which
AnnData reads its files itself, asks for each array instead: of that the wanted rows are read, once the guard has seen
it. Where AnnData refuses a layout, or reads it without its meaning, a comment says which tool writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ...errors import InputError, SortaseError
from .counts import CELL, Asked, naming

if TYPE_CHECKING:
    import h5py

    from .hdf5_guard import Guard

# Encodings of AnnData's documentation, "On-disk format"; ("", "") is what nobody encoded.
_ARRAYS = {("", ""), ("array", "0.2.0"), ("string-array", "0.2.0")}
_NULLABLE = ("nullable-integer", "nullable-boolean", "nullable-string-array")
_GROUPS = {("categorical", "0.2.0"), *((kind, "0.1.0") for kind in _NULLABLE)}
_PARTS = {"codes", "categories", "mask", "values", "levels"}
_BLOCK = 16_384  # rows; a chunk of a matrix may be of a hundred, and to find a column takes a few milliseconds
_DEEPEST = 8  # groups that a name's slashes make; a group may lie in itself


def open_frame(file: h5py.File, path: str, guard: Guard, notes: list[str]) -> Frame:
    """A table in the layout of any version of AnnData.

    What is read otherwise than it is written is added to ``notes``, once a column.
    """
    return (OldFrame if hasattr(file[path], "dtype") else Frame)(file, path, guard, notes)


def metadata_of(cells: Frame, carried: Sequence[str], asked: Asked) -> Callable[[int, int], pa.RecordBatch]:
    """Ids and columns of the cells of any chunk of a matrix."""

    def read(start: int, stop: int) -> pa.RecordBatch:
        with naming(asked):
            arrays = [cells.index(start, stop), *(cells.column(name, start, stop) for name in carried)]
        return pa.RecordBatch.from_arrays(arrays, [CELL, *carried])

    first, block = 0, read(0, 0)

    def metadata(start: int, stop: int) -> pa.RecordBatch:
        nonlocal first, block
        if not first <= start <= stop <= first + block.num_rows:
            first, block = start, read(start, max(stop, start + _BLOCK))
        return block.slice(start - first, stop - start)

    return metadata


class Frame:
    """A group of columns; rows are read as slices. ``index`` names the column of the rows' names where it does not."""

    def __init__(self, file: h5py.File, path: str, guard: Guard, notes: list[str], index: str | None = None):
        self._given, self._notes, self._guard = index, notes, guard
        self._file, self._path = file, path
        self._element: Any = file[path]

    @cached_property
    def rows(self) -> int:
        item = self._element[self.index_name]
        part = next((name for name in ("codes", "values") if hasattr(item, "keys") and name in item), None)
        return _length(item if part is None else item[part])

    @cached_property
    def columns(self) -> list[str]:
        return [name for name in self._columns(self._element) if name != self.index_name]

    @cached_property
    def index_name(self) -> str:
        if self._given is not None:
            return self._given
        name = str(self._guard.attribute(self._element, "_index") or "_index")
        if ".." in name.split("/") or name not in self._element:
            raise InputError(f"{self._guard.name}: {self._path} has no index; it is not a table of AnnData")
        return name

    def index(self, start: int = 0, stop: int | None = None) -> pa.Array:
        """The rows' names as text."""
        return self.column(self.index_name, start, stop).cast(pa.string())

    def read(self, column: str, start: int = 0, stop: int | None = None) -> pa.Array | None:
        """Text, numbers or booleans, categories as their names; None for what is none of these.

        Raises InputError for a column that does not fit the table.
        """
        try:
            return self.column(column, start, stop)
        except (KeyError, TypeError, pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
            return None

    def column(self, column: str, start: int, stop: int | None) -> pa.Array:
        """The same; what a library raises for what is none of these, or is damaged."""
        item = self._element[column]
        if self._is_composed(item):
            try:
                return self._composed(column, item, start, stop)
            except (KeyError, ValueError) as error:
                if isinstance(error, SortaseError):
                    raise
        codes, names, first = self._coded(column, item)
        values = self._values(column, codes, start, stop)
        if names is None:
            return self._array(column, values)
        if values.dtype.kind not in "iu":
            raise TypeError(f"the codes of {column} are not integers")
        return self._named(column, np.maximum(values.astype(np.int64) - first, -1), self._guard.read(names))

    def _composed(self, column: str, item: Any, start: int, stop: int | None) -> pa.Array:
        from anndata.experimental import read_dispatched

        def part(read: Any, name: str, element: Any, iospec: Any) -> Any:
            if element is item:
                return read(element)
            whole = name.endswith("/categories")
            values = self._guard.read(element) if whole else self._values(column, element, start, stop)
            return values if values.dtype.kind in "biuf" else self._array(column, values).to_numpy(zero_copy_only=False)

        array = pa.array(read_dispatched(item, part), from_pandas=True)
        if pa.types.is_dictionary(array.type):
            return array.dictionary_decode().cast(pa.string())
        return array.cast(pa.string()) if pa.types.is_large_string(array.type) else array

    def _coded(self, column: str, item: Any) -> tuple[Any, Any | None, int]:
        """Codes, their names and the code of the first one, where AnnData reads bare codes or refuses to; a plain array
        has no names."""
        if not hasattr(item, "keys"):
            if self._guard.check(item).dtype.kind not in "iu":
                return item, None, 0
            # AnnData 0.7 refers to the names, SeuratDisk only lays them beside the codes.
            reference = self._guard.attribute(item, "categories")
            beside = self._element.get(f"__categories/{column}") if reference is None else self._guard.target(reference)
            return item, beside, 0
        if "levels" in item:  # factors as R numbers them, in SeuratDisk's .h5Seurat
            return item["values"], item["levels"], 1
        # anndataR wrote the attribute 'ordered' as an array (its #155); names in two encodings may be the same; of a
        # code without a name AnnData does not say which.
        return item["codes"], item["categories"], 0

    def _is_composed(self, item: Any) -> bool:
        """Whether AnnData makes a column of the arrays in it; it reads nothing else then."""
        return (
            hasattr(item, "keys")
            and self._encoding(item) in _GROUPS
            and all(hasattr(x, "shape") and self._encoding(x) in _ARRAYS for _, x in self._guard.children(item))
        )

    def _encoding(self, item: Any) -> tuple[str, str]:
        """After this AnnData can look at the item's attributes itself: they are text."""
        self._guard.attribute(item, "ordered")
        found = (self._guard.attribute(item, f"encoding-{what}") for what in ("type", "version"))
        kind, version = (str(value or "") for value in found)
        return kind, version

    def _columns(self, group: Any, above: str = "", depth: int = 0) -> Iterator[str]:
        """Names of columns; the attribute 'column-order' may lack some (AnnData's #879).

        A column with a slash in its name lies in groups: HDF5 takes the slash for a path.
        """
        for name, item in self._guard.children(group):
            parts = dict(self._guard.children(item)) if hasattr(item, "keys") else None
            if parts is None or _PARTS & set(parts) or "encoding-type" in item.attrs:
                yield above + name
            elif depth < _DEEPEST and name != "__categories":
                yield from self._columns(item, f"{above}{name}/", depth + 1)

    def _array(self, column: str, values: np.ndarray) -> pa.Array:
        """Text, numbers (not-a-number is missing) or booleans."""
        if values.dtype.kind not in "SOU":
            return pa.array(values, from_pandas=True)
        stored = pa.array(values.tolist(), pa.binary())
        try:
            return stored.cast(pa.string())
        except pa.ArrowInvalid:  # AnnData has no remedy: files from R on Windows (scverse/anndataR #400)
            note = f"column '{column}' of {self._path} is not UTF-8 and is read as Latin-1 (Windows-1252)"
            self._notes += [note] if note not in self._notes else []
            return pa.array([_western(value) for value in stored.to_pylist()], pa.string())

    def _values(self, column: str, item: Any, start: int, stop: int | None) -> np.ndarray:
        length, values = _length(item), self._guard.read(item, start, stop)
        if length != self.rows:
            raise InputError(
                f"{self._guard.name} is broken: {self._path} has {self.rows} rows, its column '{column}' {length}"
            )
        return values

    def _named(self, column: str, codes: np.ndarray, names: np.ndarray) -> pa.Array:
        """Names of categories as text; a code below 0 is a missing value."""
        if len(codes) and codes.max() >= len(names):
            raise InputError(
                f"{self._guard.name} is broken: column '{column}' of {self._path} has the code {codes.max()}, "
                f"but {len(names)} categories"
            )
        return self._array(column, names).cast(pa.string()).take(pa.array(codes, mask=codes < 0))


class OldFrame(Frame):
    """One array of compound type, with the categories in `uns`: AnnData before 0.7. `read_elem` takes it whole, returns
    codes for categories, and cannot read text beyond ASCII."""

    def __init__(self, file: h5py.File, path: str, guard: Guard, notes: list[str]):
        super().__init__(file, path, guard, notes)
        if guard.check(self._element).ndim != 1 or not self._element.dtype.names:
            raise TypeError(f"{path} is not a table")

    @cached_property
    def rows(self) -> int:
        return int(self._element.shape[0])

    @cached_property
    def columns(self) -> list[str]:
        return [name for name in self._element.dtype.names if name != self.index_name]

    @cached_property
    def index_name(self) -> str:
        names: list[str] = list(self._element.dtype.names)
        return next((name for name in ("index", "_index") if name in names), names[0])

    def column(self, column: str, start: int, stop: int | None) -> pa.Array:
        values = self._element.fields(column)[start:stop]
        names = self._file.get(f"uns/{column}_categories") if values.dtype.kind in "iu" else None
        return self._array(column, values) if names is None else self._named(column, values, self._guard.read(names))


def _length(item: Any) -> int:
    if len(getattr(item, "shape", None) or ()) != 1:
        raise TypeError(f"{item.name} is not a column")
    return int(item.shape[0])


def _western(value: bytes) -> str:
    """Windows-1252 is Latin-1 with quotation marks and dashes; it leaves five bytes open."""
    for encoding in ("utf-8", "cp1252"):
        try:
            return value.decode(encoding)
        except UnicodeDecodeError:
            continue
    return value.decode("latin-1")
