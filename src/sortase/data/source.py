"""Reading a tokenised dataset in units of work: a saved folder, or a Dataset in memory.

A unit is a run of consecutive rows of one file, about `UNIT_BYTES` of them; units follow from the data alone.
"""

from __future__ import annotations

import hashlib
import json
import mmap
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from .. import storage
from ..errors import InputError, InputTypeError, MissingInputError
from ..stopping import check
from ..storage.hashing import sha256_of_all
from .arrow_check import check_dataset, checked_batch
from .damage import refused
from .shards import EXPECTED, INFO, STATE, data_files, features_of

if TYPE_CHECKING:
    from datasets import Dataset

UNIT_BYTES = 128 << 20
PIECE_BYTES = 16 << 20
END = b"\xff\xff\xff\xff\x00\x00\x00\x00"


@dataclass(frozen=True)
class Unit:
    """Rows ``start`` to ``start + rows`` of the source; ``first`` is where they begin in their file."""

    number: int
    start: int
    rows: int
    file: int = 0
    first: int = 0


class Source(Protocol):
    """``features`` are those of dataset_info.json; ``identity`` changes when the content does."""

    @property
    def name(self) -> str: ...
    @property
    def schema(self) -> pa.Schema: ...
    @property
    def features(self) -> dict[str, Any]: ...
    @property
    def units(self) -> tuple[Unit, ...]: ...
    @property
    def identity(self) -> str: ...
    def check_unchanged(self) -> None: ...

    def read(self, unit: Unit, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The unit's rows in order, in batches of bounded size; only these columns when they are named."""
        ...


def open_source(data: Any) -> Source:
    """Open a path, URL or ``datasets.Dataset``; nothing is written beside the data."""
    if isinstance(data, str | Path):
        return open_folder(str(data))
    from datasets import Dataset, DatasetDict

    if isinstance(data, DatasetDict):
        raise InputTypeError(f"got a DatasetDict with splits {sorted(data)}; give one of them, such as data['train']")
    if not isinstance(data, Dataset):
        raise InputTypeError(f"expected a path or a datasets.Dataset, got {type(data).__name__}")
    check_dataset(data, "the dataset")
    return MemorySource(data)


def rows_of(source: Source) -> int:
    return sum(unit.rows for unit in source.units)


def require_column(source: Source, name: str, what: str) -> pa.Field:
    """The column's field, or an error that names the nearest columns there are."""
    names = source.schema.names
    if name not in names:
        near = get_close_matches(name, names, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise InputError(f"unknown column '{name}' for {what}; {hint}{source.name} has {sorted(names)}")
    return source.schema.field(name)


def _cut(rows: int, size: int, target: int) -> list[tuple[int, int]]:
    """Row ranges of about ``target`` of ``size`` bytes."""
    pieces = max(1, min(rows, -(-size // target)))
    edges = [rows * i // pieces for i in range(pieces + 1)]
    return list(pairwise(edges))


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    for start, stop in _cut(batch.num_rows, batch.nbytes, PIECE_BYTES):
        yield batch.slice(start, stop - start)


@dataclass(frozen=True)
class MemorySource:
    """A Dataset, perhaps with an indices mapping, read through ``datasets`` itself."""

    dataset: Dataset = field(repr=False)
    name: str = "the dataset"

    @property
    def schema(self) -> pa.Schema:
        return self.dataset.data.schema.remove_metadata()

    @property
    def features(self) -> dict[str, Any]:
        return self.dataset.features.to_dict()

    def check_unchanged(self) -> None:
        """A Dataset cannot be written again."""

    @property
    def identity(self) -> str:
        return f"dataset {self.dataset._fingerprint} rows {len(self.dataset)}"

    @property
    def units(self) -> tuple[Unit, ...]:
        table = self.dataset.data
        size = table.nbytes * len(self.dataset) // max(1, table.num_rows)
        cuts = _cut(len(self.dataset), size, UNIT_BYTES)
        return tuple(Unit(i, start, stop - start, first=start) for i, (start, stop) in enumerate(cuts))

    def read(self, unit: Unit, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        dataset = self.dataset if columns is None else self.dataset.select_columns(list(columns))
        arrow = dataset.with_format("arrow")
        step = 10_000
        for start in range(unit.start, unit.start + unit.rows, step):
            check()
            table: pa.Table = arrow[start : min(start + step, unit.start + unit.rows)]
            for batch in table.combine_chunks().to_batches():
                yield from _pieces(batch)


@dataclass(frozen=True)
class ArrowFile:
    """An Arrow stream file: place, rows and bytes of each record batch.

    With dictionary-encoded columns a batch cannot be read without what comes before it: ``from_start``.
    """

    name: str
    offsets: tuple[int, ...]
    rows: tuple[int, ...]
    sizes: tuple[int, ...]
    from_start: bool

    def units(self, file: int, number: int, start: int) -> Iterator[Unit]:
        first = rows = size = 0
        for batch_rows, batch_size in zip(self.rows, self.sizes, strict=True):
            cuts = _cut(batch_rows, batch_size, UNIT_BYTES)
            for lower, upper in cuts:
                rows, size = rows + upper - lower, size + batch_size // len(cuts)
                if size >= UNIT_BYTES - UNIT_BYTES // 16:
                    yield Unit(number, start + first, rows, file, first)
                    number, first, rows, size = number + 1, first + rows, 0, 0
        if rows:
            yield Unit(number, start + first, rows, file, first)


@dataclass(frozen=True)
class FolderSource:
    """A saved dataset. Record batches are memory-mapped one at a time, so that few pages stay in memory."""

    name: str
    schema: pa.Schema = field(repr=False)
    features: dict[str, Any] = field(repr=False)
    files: tuple[ArrowFile, ...] = field(repr=False)
    identity: str
    stamp: storage.Stamp = ()

    def check_unchanged(self) -> None:
        """StorageError where the dataset was written again since it was opened: what is read now may be another's."""
        storage.check_unchanged(self.name, self.stamp)

    @property
    def units(self) -> tuple[Unit, ...]:
        found: list[Unit] = []
        start = 0
        for i, file in enumerate(self.files):
            found.extend(file.units(i, len(found), start))
            start += sum(file.rows)
        return tuple(found)

    def read(self, unit: Unit, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        file = self.files[unit.file]
        path = storage.fetch(self.name) / file.name
        begin, end, row = unit.first, unit.first + unit.rows, 0
        with naming(path):
            for rows, load in self._batches(file, path):
                lower, upper = max(begin, row), min(end, row + rows)
                if lower < upper:
                    check()
                    batch = load() if columns is None else load().select(list(columns))
                    batch = checked_batch(batch, str(path), row)
                    if file.from_start:
                        batch = batch.cast(pa.schema([self.schema.field(name) for name in batch.schema.names]))
                    yield from _pieces(batch.slice(lower - row, upper - lower))
                row += rows
                if row >= end:
                    return

    def _batches(self, file: ArrowFile, path: Path) -> Iterator[tuple[int, Callable[[], pa.RecordBatch]]]:
        """Rows of each batch, and what reads it, so that batches nobody wants are not read."""
        if file.from_start:
            with pa.memory_map(str(path)) as memory:
                for batch in pa.ipc.open_stream(memory):
                    yield batch.num_rows, partial(_same, batch)
            return
        for offset, size, rows in zip(file.offsets, file.sizes, file.rows, strict=True):
            yield rows, partial(_batch_at, path, offset, size, self.schema)


def _same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def _batch_at(path: Path, offset: int, size: int, schema: pa.Schema) -> pa.RecordBatch:
    """The batch over its own memory map, which goes with it: pages of a larger map would add up in memory."""
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    with path.open("rb") as file:
        window = mmap.mmap(file.fileno(), offset + size - start, access=mmap.ACCESS_READ, offset=start)
    message = pa.ipc.read_message(pa.py_buffer(window).slice(offset - start))
    return pa.ipc.read_record_batch(message, schema)


def naming(path: Path | str) -> AbstractContextManager[None]:
    """What Arrow cannot read is an error that names the file."""
    kinds = (pa.ArrowException, ValueError, EOFError, OSError, KeyError, TypeError, OverflowError)
    return refused(
        lambda error: (
            f"{path} cannot be read, it is cut short or no Arrow stream file: {error}; copy the dataset again"
        ),
        *kinds,
    )


def open_folder(url: str) -> FolderSource:
    """Index a saved dataset: schema, and where the record batches of its files lie."""
    stamp = storage.stamp(url)
    folder = storage.fetch(url)

    def has(name: str) -> bool:
        return (folder / name).is_file()

    check_kind(has, url)
    info = storage.read_json(str(folder / INFO))
    names = data_files(url, str(folder))
    check_files(names, has, url)
    schemas, files = [], []
    for name in names:
        found, file = _index(folder / name, name)
        schemas.append(found)
        files.append(file)
        check_same(schemas, names, url)
    schema = schemas[0]
    features = info.get("features") or features_of(schema)
    return FolderSource(url, schema, features, tuple(files), _identity(folder, names), stamp)


def check_kind(has: Callable[[str], bool], url: str) -> None:
    """InputError for a folder that is no dataset, by the names of its files."""
    if has("dataset_dict.json") and not has(STATE):
        splits = storage.read_json(storage.join(url, "dataset_dict.json")).get("splits", [])
        raise InputTypeError(
            f"{url} is a DatasetDict with splits {splits}; give one of them, such as {storage.join(url, *splits[:1])}"
        )
    if not has(STATE):
        raise InputError(f"{url} is not a dataset: {EXPECTED}")
    if not has(INFO):
        raise MissingInputError(f"{url} lacks its file {INFO}, which names its classes; copy the dataset again")


def check_files(names: Sequence[str], has: Callable[[str], bool], url: str) -> None:
    """The data files that the dataset names are there."""
    if not names:
        raise InputError(f"{url} holds no data file, so no row")
    for name in names:
        if not has(name):
            raise MissingInputError(f"{url} lacks its file {name}; copy the dataset again")


def check_same(schemas: Sequence[pa.Schema], names: Sequence[str], url: str) -> None:
    """The last of these files has the columns of the first one."""
    if schemas[-1] != schemas[0]:
        raise InputError(
            f"{url}: {names[len(schemas) - 1]} has other columns than {names[0]}: {schemas[-1]} and {schemas[0]}"
        )


def _index(path: Path, name: str) -> tuple[pa.Schema, ArrowFile]:
    offsets, rows, sizes, from_start = [], [], [], False
    with naming(path), pa.memory_map(str(path)) as memory:
        size = memory.size()
        encoded = pa.ipc.read_schema(pa.ipc.read_message(memory)).remove_metadata()
        schema = decoded(encoded)
        while (offset := memory.tell()) < size - len(END):
            message = pa.ipc.read_message(memory)
            if message.type == "dictionary":
                from_start = True
                continue
            offsets.append(offset)
            sizes.append(memory.tell() - offset)
            rows.append(-1 if from_start else pa.ipc.read_record_batch(message, encoded).num_rows)
        if memory.read(len(END)) != END:
            raise pa.ArrowInvalid("it lacks the mark at its end")
        if from_start:
            memory.seek(0)
            rows = [batch.num_rows for batch in pa.ipc.open_stream(memory)]
    if min(rows, default=0) < 0:
        raise InputError(f"{path} is damaged: a batch of it has {min(rows)} rows; copy the dataset again")
    return schema, ArrowFile(name, tuple(offsets), tuple(rows), tuple(sizes), from_start)


def decoded(schema: pa.Schema) -> pa.Schema:
    """The schema with the values' types for dictionary-encoded columns, which `datasets` cannot hold."""
    kinds = [kind.value_type if pa.types.is_dictionary(kind) else kind for kind in schema.types]
    return pa.schema([field.with_type(kind) for field, kind in zip(schema, kinds, strict=True)])


def _identity(folder: Path, names: Sequence[str]) -> str:
    """A hash of the description that `datasets` changes with every transformation, and of all that the files hold."""
    digest = hashlib.sha256(json.dumps(storage.read_json(str(folder / STATE)), sort_keys=True).encode())
    for name, content in zip(names, sha256_of_all([folder / name for name in names]), strict=True):
        digest.update(f"{name} {content} ".encode())
    return digest.hexdigest()
