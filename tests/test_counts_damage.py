"""Damaged counts of every kind, and files of other programs' own tests, end in counts or in sentences."""

from __future__ import annotations

import random
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow
import pytest
import sklearn

from sortase.config.tokenize import TokenizeSpec
from sortase.data.counts.open import open_counts
from sortase.errors import InputError, SortaseError
from test_tokenize_formats import as_10x, as_loom, as_mtx, as_zarr, as_zip
from tokenize_data import CELLS, annotated, as_before_2019, as_of_2020, saved


def read(path: Path | str) -> None:
    """All of it."""
    with open_counts(TokenizeSpec(input=str(path))) as counts:
        counts.other_names()
        for chunk in counts.chunks(1000):
            counts.metadata(chunk.start, chunk.stop)


def damaged(whole: bytes, rng: random.Random) -> bytes:
    data = bytearray(whole)
    for _ in range(rng.choice((1, 2, 16))):
        data = data or bytearray(1)
        at = rng.randrange(len(data))
        if rng.random() < 0.8:
            data[at] = rng.choice((0, 127, 255, rng.randrange(256)))
        else:
            data[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, (1 << 40).to_bytes(8, "little"), b""))
    return bytes(data)


KINDS: list[Any] = [
    pytest.param(lambda folder: saved(folder, annotated()), id="h5ad"),
    pytest.param(lambda folder: as_of_2020(saved(folder, annotated())), id="AnnData 0.7"),
    pytest.param(lambda folder: as_before_2019(saved(folder, annotated())), id="AnnData 0.6"),
    pytest.param(lambda folder: as_10x(folder, annotated()), id="Cell Ranger"),
    pytest.param(lambda folder: as_loom(folder, annotated()), id="loom"),
    pytest.param(lambda folder: as_mtx(folder, annotated()), id="mtx"),
    pytest.param(lambda folder: as_zarr(folder, annotated()), id="zarr 2"),
    pytest.param(lambda folder: as_zarr(folder, annotated(), 3, True), id="zarr in shards"),
    pytest.param(lambda folder: as_zip(folder, annotated()), id="zarr in zip"),
]


@pytest.mark.parametrize("make", KINDS)
def test_changed_bytes_end_in_counts_or_in_sentences(tmp_path: Path, make: Callable[[Path], str]) -> None:
    source, rng, refused = Path(make(tmp_path)), random.Random(5), 0
    files = [path for path in sorted(source.rglob("*")) if path.is_file()] or [source]
    for _ in range(40):
        path = rng.choice(files)
        whole = path.read_bytes()
        path.write_bytes(damaged(whole, rng))
        try:
            with warnings.catch_warnings(action="ignore"):
                read(source)
        except SortaseError as error:
            refused += 1
            assert source.name in str(error)
        path.write_bytes(whole)
    read(source)
    assert refused


def foreign() -> Iterator[Path]:
    """HDF5 of h5py's tests, Parquet of pyarrow's, tables of scikit-learn."""
    yield from sorted((Path(h5py.__file__).parent / "tests/data_files").glob("*.h5"))
    yield from sorted((Path(pyarrow.__file__).parent / "tests/data/parquet").glob("*.parquet"))
    yield from sorted((Path(sklearn.__file__).parent / "datasets/data").glob("*.csv.gz"))


@pytest.mark.parametrize("path", [*foreign()], ids=lambda path: path.name)
def test_files_of_other_tests_end_in_counts_or_in_sentences(tmp_path: Path, path: Path) -> None:
    rng = random.Random(6)
    for number in range(20):
        copy = tmp_path / path.name
        shutil.copy(path, copy)
        if number:
            copy.write_bytes(damaged(path.read_bytes(), rng))
        try:
            with warnings.catch_warnings(action="ignore"):
                read(copy)
        except SortaseError as error:
            assert path.name in str(error)


def test_damaged_names_of_genes_are_refused_where_they_are_needed(tmp_path: Path) -> None:
    """Columns of var are read late, to suggest one."""
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        offset = file["var/symbol"].id.get_offset()
    data = bytearray(Path(source).read_bytes())
    data[offset + 4 : offset + 12] = (1 << 40).to_bytes(8, "little")
    Path(source).write_bytes(data)
    with open_counts(TokenizeSpec(input=source)) as counts, pytest.raises(InputError, match="not a readable AnnData"):
        counts.other_names()


def test_a_damaged_chunk_of_a_column_is_no_column_without_values(tmp_path: Path) -> None:
    source = as_zarr(tmp_path, annotated())
    chunk = next(Path(source, "obs/healthy").glob("[0-9]*"))
    chunk.write_bytes(b"\x02\x01\x21\x01" + np.array([CELLS, CELLS, 80], "<i4").tobytes() + b"\xff" * 64)
    with pytest.raises(InputError, match=r"cells\.zarr is not a readable AnnData file"):
        read(source)


def test_a_zip_whose_sums_are_wrong_is_refused(tmp_path: Path) -> None:
    source = Path(as_zip(tmp_path, annotated()))
    data = source.read_bytes()
    with zipfile.ZipFile(source) as file:
        told = file.getinfo("obs/zarr.json").CRC.to_bytes(4, "little")
    source.write_bytes(data[: data.rindex(told)] + b"0000" + data[data.rindex(told) + 4 :])
    with pytest.raises(InputError, match=r"Bad CRC-32"):
        read(source)
