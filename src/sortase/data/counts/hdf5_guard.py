"""HDF5 files are data from outside: nothing that one says leads out of it, or makes far more memory than it holds.

The format can name other files as links, as raw storage and as parts of a virtual dataset; HDF5 opens them without a
question, as this process may. Types can be NumPy's own, by which bytes become pointers. Sizes are only claims.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ...errors import InputError, MissingExtraError

if TYPE_CHECKING:
    import h5py

ALWAYS, MULTIPLE = 64 << 20, 2000  # bytes of an array beside those that are stored: deflate reaches 1:1032
_BLOCK = 256 << 20  # bytes of text that are read at once, where each text may be as long as the file
_LONGEST_ATTRIBUTE = 16
_CHANGE = "write the data again with AnnData's write_h5ad"


class Guard:
    """An open file whose links have been walked. ``name`` is what messages call it.

    Raises InputError for a link, raw storage or a virtual dataset that lies outside the file.
    """

    def __init__(self, file: h5py.File, name: str):
        self.name = name
        self.size = int(file.id.get_filesize())
        self._file = file
        self._walked: set[int] = set()
        self._checked: set[int] = set()
        self._walk()

    def _walk(self) -> None:
        from h5py import h5d, h5g, h5l, h5o

        waiting: list[tuple[str, Any]] = [("", h5g.open(self._file.id, b"/"))]
        while waiting:
            path, item = waiting.pop()
            address = h5o.get_info(item).addr
            if address in self._walked:
                continue
            self._walked.add(address)
            if isinstance(item, h5d.DatasetID):
                self._check_dataset(path, item)
            if not isinstance(item, h5g.GroupID):
                continue
            for link in item:
                inner = f"{path}/{link.decode(errors='replace')}"
                kind = item.links.get_info(link).type
                if kind == h5l.TYPE_HARD:
                    waiting.append((inner, h5o.open(item, link)))
                elif kind != h5l.TYPE_SOFT:  # a soft one is a path in this file, whose links are all walked
                    raise self._refusal(inner, "is a link to another file")

    def _check_dataset(self, path: str, item: Any) -> None:
        from h5py import h5d

        created = item.get_create_plist()
        if created.get_layout() == h5d.VIRTUAL:
            raise self._refusal(path, "is a virtual dataset, made of other files")
        if created.get_external_count():
            raise self._refusal(path, "has its values in another file")

    def _refusal(self, path: str, what: str) -> InputError:
        return InputError(f"{self.name}: {path.lstrip('/')} {what}; nothing outside of it is read: {_CHANGE}")

    def children(self, group: Any) -> Iterable[tuple[str, Any]]:
        return cast(Iterable[tuple[str, Any]], group.items())

    def target(self, reference: Any) -> Any:
        """What an object reference leads to."""
        import h5py

        if type(reference) is not h5py.Reference or not reference:
            raise TypeError("not a reference to an object")
        item = self._file[reference]
        if h5py.h5o.get_info(item.id).addr not in self._walked:
            raise self._refusal("a reference", "leads to what lies in none of its groups")
        return item

    def attribute(self, item: Any, *names: str) -> Any:
        """The first of these attributes that there is: text, numbers or a reference, 16 at most."""
        from h5py import h5a, h5t

        for name in names:
            if name not in item.attrs:
                continue
            attribute = h5a.open(item.id, name.encode())
            reference = attribute.get_type().get_class() == h5t.REFERENCE
            if math.prod(attribute.shape) > _LONGEST_ATTRIBUTE or not (reference or _plain(attribute.get_type())):
                raise InputError(f"{self.name}: {item.name} has an attribute '{name}' that AnnData does not write")
            value = item.attrs[name]
            return value.decode(errors="replace") if isinstance(value, bytes) else value
        return None

    def check(self, item: Any) -> Any:
        """The dataset, whose values can be read: TypeError for types that are neither text nor numbers.

        Raises InputError for one that claims far more values than are stored.
        """
        from h5py import h5o

        address = h5o.get_info(item.id).addr
        if address in self._checked:
            return item
        if not hasattr(item, "shape") or item.shape is None:
            raise TypeError(f"{item.name} is not an array")
        if not _plain(item.id.get_type()):
            raise TypeError(f"{item.name} holds neither text nor numbers")
        self._check_filters(item)
        values = max(math.prod(item.shape), math.prod(item.chunks or (0,)))
        claimed, stored = values * item.id.get_type().get_size(), min(item.id.get_storage_size(), self.size)
        if claimed > ALWAYS + MULTIPLE * stored:
            raise InputError(
                f"{self.name} is broken: {item.name} claims {claimed:,} bytes of values, {stored:,} are stored"
            )
        self._checked.add(address)
        return item

    def _check_filters(self, item: Any) -> None:
        from h5py import h5z

        created = item.id.get_create_plist()
        for place in range(created.get_nfilters()):
            code, _, _, name = created.get_filter(place)
            if not h5z.filter_avail(code):
                called = name.decode(errors="replace") or "without a name"
                raise MissingExtraError(
                    f"{self.name}: {item.name} is compressed by filter {code} ({called}), which HDF5 does not have by "
                    "itself: pip install hdf5plugin, or write the data again with compression='gzip'"
                )

    def read(self, item: Any, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Values of a dataset of one dimension (or of none, as one value)."""
        self.check(item)
        if item.ndim > 1:
            raise TypeError(f"{item.name} has {item.ndim} dimensions")
        if item.ndim == 0:
            return np.atleast_1d(item[()])
        stop = len(item) if stop is None else min(stop, len(item))
        text = item.dtype.kind == "O"
        return self._read_text(item, start, max(start, stop)) if text else np.asarray(item[start:stop])

    def _read_text(self, item: Any, start: int, stop: int) -> np.ndarray:
        """Text of any length, in blocks: many values may share one long text of the file."""
        rows = max(64, _BLOCK // max(1, self.size))
        blocks, total = [np.empty(0, object)], 0
        for first in range(start, stop, rows):
            blocks.append(item[first : min(first + rows, stop)])
            total += sum(map(len, blocks[-1]))
            if total > ALWAYS + 16 * self.size:
                raise InputError(f"{self.name} is broken: the text of {item.name} is far longer than the file")
        return np.concatenate(blocks)


def _plain(kind: Any) -> bool:
    """Text, numbers, enumerations (booleans), and tables of these."""
    from h5py import h5t

    if kind.get_class() == h5t.COMPOUND:
        return all(_plain(kind.get_member_type(i)) for i in range(kind.get_nmembers()))
    return kind.get_class() in (h5t.INTEGER, h5t.FLOAT, h5t.STRING, h5t.ENUM)
