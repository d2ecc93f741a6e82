"""Tables of AnnData: each column, in parts and whole, is what AnnData reads, and more than that is read rightly."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import read_elem, write_elem
from anndata.tests.helpers import DEFAULT_COL_TYPES, gen_typed_df
from datasets import load_from_disk

from sortase.data.counts.hdf5_frame import Frame, open_frame
from sortase.data.counts.hdf5_guard import Guard
from sortase.data.counts.zarr_guard import ZarrGuard
from sortase.data.counts.zarr_store import WalkedStore
from tokenize_data import CELLS, annotated, expected_rows, matrix, medians_of, rows_of, run, saved, table


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Guard]]:
    if path.suffix == ".h5ad":
        with h5py.File(path) as file:
            yield file, Guard(file, path.name)
    else:
        store = WalkedStore(path, path.name)
        yield zarr.open_group(store, mode="r"), cast(Guard, ZarrGuard(store, path.name))


def generated(seed: int) -> pd.DataFrame:
    """A table of AnnData's own tests, with every type that it has, and categories of numbers."""
    np.random.seed(seed)
    rows = np.arange(40 + 60 * seed)
    frame = gen_typed_df(len(rows), pd.Index([f"row{row}" for row in rows]), (*DEFAULT_COL_TYPES, pd.StringDtype()))
    frame["days"] = pd.Categorical(rows % 4, ordered=True)
    return frame


def plain(values: Any) -> list[Any]:
    """As Arrow has them: missing values are None, names of categories are text."""
    as_text = isinstance(values, pd.Categorical)
    return [None if pd.isna(value) else str(value) if as_text else value for value in list(values)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_every_column_is_what_anndata_reads(tmp_path: Path, seed: int, suffix: str) -> None:
    frame, path = generated(seed), tmp_path / f"cells{suffix}"
    with anndata.settings.override(allow_write_nullable_strings=True), warnings.catch_warnings(action="ignore"):
        if suffix == ".h5ad":
            with h5py.File(path, "w") as file:
                write_elem(file, "obs", frame)
        else:
            write_elem(zarr.open_group(path, mode="w"), "obs", frame)
    with opened(path) as (file, guard):
        read = open_frame(file, "obs", guard, [])
        assert sorted(read.columns) == sorted(frame.columns)
        assert read.index().to_pylist() == list(frame.index)
        for name in read.columns:
            whole = plain(read_elem(file["obs"][name]))
            assert read.read(name).to_pylist() == whole, name
            assert read.read(name, 7, 20).to_pylist() == whole[7:20], name
            assert read.read(name, 0, 0).type == read.read(name).type, name


def test_a_categorical_that_anndata_refuses_is_read(tmp_path: Path) -> None:
    """'ordered' as an array, as anndataR wrote it; and two names of different bytes that are the same text."""
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        group = file["obs/type"]
        del group.attrs["ordered"]
        group["ordered"] = False
        file.copy("obs/type", "obs/again")
        file["obs/again"].attrs["ordered"] = False
        del file["obs/again/categories"], file["obs/again/ordered"]
        file["obs/again/categories"] = np.array(["Müller".encode(), "Müller".encode("latin-1")])
    rows = load_from_disk(run(source, tmp_path / "out").dataset_path)
    assert rows["type"][:4] == ["β cell", "T cell", "T cell", None]
    assert rows["again"][:4] == ["Müller", "Müller", "Müller", None]
    with h5py.File(source) as file, pytest.raises(KeyError, match="ordered"):
        read_elem(file["obs/type"])


def test_an_encoding_of_groups_in_a_loop_is_no_column(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        for kind in ("dict", "categorical", "nullable-integer", "dataframe", "awkward-array"):
            group = file.create_group(f"obs/{kind}")
            group.attrs.update({"encoding-type": kind, "encoding-version": "0.2.0", "ordered": False})
            for part in ("codes", "categories", "values", "mask"):
                group[part] = group
        file["obs/age"].attrs["encoding-type"] = "categorical"
    rows = load_from_disk(run(source, tmp_path / "out").dataset_path)
    assert set(rows.column_names[4:]) == {"type", "donor", "age", "batch", "healthy"}


def test_a_column_of_zarr_that_is_not_read_leaves_the_others(tmp_path: Path) -> None:
    with warnings.catch_warnings(action="ignore"):
        annotated().write_zarr(tmp_path / "cells.zarr")
    described = tmp_path / "cells.zarr/obs/age/.zarray"
    described.write_text(json.dumps({**json.loads(described.read_text()), "filters": [{"id": "pickle"}]}))
    rows = load_from_disk(run(str(tmp_path / "cells.zarr"), tmp_path / "out").dataset_path)
    assert set(rows.column_names[4:]) == {"type", "donor", "batch", "healthy"}


@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_an_empty_x_leads_to_the_layer(tmp_path: Path, suffix: str) -> None:
    data = annotated()
    data.layers["counts"], data.X = data.X, None
    path = tmp_path / f"cells{suffix}"
    with warnings.catch_warnings(action="ignore"):
        (data.write_h5ad if suffix == ".h5ad" else data.write_zarr)(path)
        if suffix == ".zarr":
            write_elem(zarr.open_group(path, use_consolidated=False), "X", None)
    made = run(str(path), tmp_path / "out")
    assert rows_of(made) == expected_rows(table(matrix()), medians_of(made))
    assert "X is empty" in made.summary["notes"][0]


def test_rows_of_small_chunks_are_read_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[tuple[int, int | None]] = []
    index = Frame.index

    def counted(self: Frame, start: int = 0, stop: int | None = None) -> Any:
        reads.append((start, stop))
        return index(self, start, stop)

    monkeypatch.setattr(Frame, "index", counted)
    monkeypatch.setattr("sortase.data.counts.hdf5_frame._BLOCK", 20)
    rows = load_from_disk(run(saved(tmp_path, annotated()), tmp_path / "out", chunk_cells=3).dataset_path)
    assert rows["cell_id"][:] == [f"cell{row}" for row in range(CELLS)]
    assert len(reads) < 10
