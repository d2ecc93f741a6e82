"""What preflight refuses of files here it refuses of the same files in storage, and reads little of them."""

from __future__ import annotations

import gc
import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from datasets import Dataset
from s3fs.core import S3File, S3FileSystem
from scipy import sparse

from makers import rows
from sortase import storage
from sortase.config.tokenize import TokenizeSpec
from sortase.errors import InputError, MissingExtraError, SortaseError, StorageError
from sortase.pipeline.preflight import preflight
from sortase.pipeline.preflight_inputs import check_counts
from sortase.runs.folder import RunFolder
from test_preflight_inputs import COUNTS, PREDICT, config_of, go, passes_or_says, unlabelled
from test_tokenize_formats import as_10x, as_loom, as_mtx, as_zarr, as_zip
from tokenize_data import annotated, as_before_2019, gene, saved, table


@pytest.fixture(autouse=True)
def nothing_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(url: str, files: Any, path: Path) -> None:
        raise AssertionError(f"{url} was copied")

    monkeypatch.setattr(storage, "_copy", copied)


def sent(path: str, root: str) -> str:
    """The same file or folder in storage."""
    url = storage.join(root, "in", Path(path).name)
    storage.upload(Path(path), url)
    return url


@pytest.mark.parametrize(("make", "settings", "labels", "words"), COUNTS)
def test_remote_counts_are_looked_at_before_the_first_stage(
    tmp_path: Path,
    s3_url: str,
    make: Callable[[], Any],
    settings: dict[str, Any],
    labels: dict[str, Any],
    words: str | None,
) -> None:
    (tmp_path / "mouse.json").write_text(json.dumps({gene(0): 2, "ENSMUSG00000000001": 3}))
    known = sent(str(tmp_path / "mouse.json"), s3_url)
    settings = {name: known if value == "mouse.json" else value for name, value in settings.items()}
    tokenize = {"input": sent(saved(tmp_path, make()), s3_url), **settings}
    config = config_of(tmp_path, tokenize=tokenize, labels={"column": "type", **labels})
    passes_or_says(config, words)


def test_remote_counts_are_looked_at_from_outside_too(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the run will be elsewhere; without what reads them they are left to it."""
    source = sent(saved(tmp_path, annotated()), s3_url)
    config = config_of(tmp_path, tokenize={"input": source}, labels={"column": "kind"})
    folder = RunFolder(f"{s3_url}/runs/r")
    with pytest.raises(InputError, match="unknown column 'kind' for labels"):
        preflight(config, folder, from_outside=True)
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert preflight(config, folder, from_outside=True)
    with pytest.raises(MissingExtraError, match=r"sortase\[anndata\]"):
        preflight(config, folder)
    assert not storage.exists(folder.url)


KINDS: list[Any] = [
    pytest.param(lambda folder: saved(folder, annotated()), id="h5ad"),
    pytest.param(lambda folder: saved(folder, annotated(kind="csc")), id="csc"),
    pytest.param(lambda folder: saved(folder, annotated(kind="dense")), id="dense"),
    pytest.param(lambda folder: as_zarr(folder, annotated()), id="zarr 2"),
    pytest.param(lambda folder: as_zarr(folder, annotated(), 3, True), id="zarr in shards"),
    pytest.param(lambda folder: as_zip(folder, annotated()), id="zarr in zip"),
    pytest.param(lambda folder: as_10x(folder, annotated()), id="Cell Ranger"),
    pytest.param(lambda folder: as_mtx(folder, annotated()), id="mtx"),
    pytest.param(lambda folder: as_loom(folder, annotated()), id="loom"),
    *(
        pytest.param(lambda folder, name=name: saved(folder, table(type=["B", "T", "NK"] * 19), name), id=name)
        for name in ("t.csv", "t.tsv.gz", "t.parquet")
    ),
]


@pytest.mark.parametrize("make", KINDS)
def test_every_kind_has_the_columns_that_it_has_here(tmp_path: Path, s3_url: str, make: Callable[[Path], str]) -> None:
    source = make(tmp_path)
    expected = check_counts(TokenizeSpec(input=source))
    assert check_counts(TokenizeSpec(input=sent(source, s3_url))) == expected
    known = tmp_path / "mouse.json"
    known.write_text(json.dumps({gene(0): 2, "ENSMUSG00000000001": 3}))
    with pytest.raises(InputError, match="only 1 of 30 genes"):
        check_counts(TokenizeSpec(input=f"{s3_url}/in/*", vocabulary=str(known)))


def test_old_and_several_files(tmp_path: Path, s3_url: str) -> None:
    new = saved(tmp_path, annotated())
    old = sent(as_before_2019(new), s3_url)
    assert check_counts(TokenizeSpec(input=old, layer="raw")).names[4:] == ["type", "donor", "age"]
    both = TokenizeSpec(input=[sent(new, s3_url), new])
    with pytest.raises(InputError, match="a column 'age' is in the data already"):
        check_counts(both.model_copy(update={"file_column": "age"}))
    assert "file" in check_counts(both).names


BROKEN: list[Any] = [
    pytest.param("t.csv", b"cell,A\nc1,1,2,3\n", "4 values, the header 2", id="uneven"),
    pytest.param("t.csv", b"cell,A\n", "no cell", id="no rows"),
    pytest.param("t.csv.gz", b"cell,A\nc1,1\n", "not a readable table", id="no gzip"),
    pytest.param("t.csv", b"cell,A\nc1,\x00\n", "zero bytes", id="binary"),
    pytest.param("t.csv", b"cell,A,B\n" + b"c,1,1\n" * 9 + b"c,1,x\n", "column 'B'.*'x'", id="text among numbers"),
    pytest.param("t.parquet", b"PAR1", "not a readable Parquet", id="parquet"),
    pytest.param("t.h5ad", b"HDF", "not a readable AnnData", id="h5ad"),
    pytest.param("t.h5", b"HDF", "not a readable AnnData or HDF5", id="h5"),
    pytest.param("t.loom", b"HDF", "not a readable AnnData or HDF5", id="loom"),
    pytest.param("t.zarr.zip", b"PK", "not a readable zarr store", id="zip"),
    pytest.param("t.xlsx", b"x", "nothing that is read as counts; expected AnnData", id="another kind"),
]


@pytest.mark.parametrize(("name", "content", "words"), BROKEN)
def test_broken_files_are_refused_where_they_lie(root: str, name: str, content: bytes, words: str) -> None:
    storage.write_bytes(storage.join(root, name), content)
    with pytest.raises(InputError, match=words):
        check_counts(TokenizeSpec(input=storage.join(root, name)))


def test_hostile_files_are_refused_where_they_lie(tmp_path: Path, s3_url: str) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        file["obs/leak"] = h5py.ExternalLink("/proc/self/environ", "/")
    with pytest.raises(InputError, match="obs/leak is a link to another file"):
        check_counts(TokenizeSpec(input=sent(source, s3_url)))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of each range that S3 is asked for."""
    asked: list[int] = []
    fetch, cat = S3File._fetch_range, S3FileSystem.cat_ranges

    def fetched(self: S3File, start: int, end: int) -> bytes:
        asked.append(end - start)
        return bytes(fetch(self, start, end))

    def ranges(self: S3FileSystem, paths: Any, starts: Any, ends: Any, **kwargs: Any) -> Any:
        asked.extend(end - start for start, end in zip(starts, ends, strict=True))
        return cat(self, paths, starts, ends, **kwargs)

    monkeypatch.setattr(S3File, "_fetch_range", fetched)
    monkeypatch.setattr(S3FileSystem, "cat_ranges", ranges)
    return asked


def test_little_of_large_counts_is_read(
    tmp_path: Path, s3_url: str, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sortase.data.counts.anndata_file._HEAD", 1000)
    rng = np.random.default_rng(0)
    cells, genes = 20_000, 400
    counts = sparse.random_array((cells, genes), density=0.5, rng=rng, format="csr", dtype=np.float32)
    counts.data = np.ceil(counts.data * 9)
    obs = pd.DataFrame({"type": pd.Categorical(["B", "T"] * (cells // 2))}, [f"cell{row}" for row in range(cells)])
    data = anndata.AnnData(counts, obs, pd.DataFrame(index=[gene(place) for place in range(genes)]))
    source = sent(saved(tmp_path, data), s3_url)
    size = storage.list_files(source)[""].size
    assert size > 30e6
    read.clear()
    assert "type" in check_counts(TokenizeSpec(input=source)).names
    assert sum(read) < size / 2


def test_little_of_a_large_table_is_read(
    tmp_path: Path, s3_url: str, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sortase.data.counts.tables._HEAD", 1 << 20)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.random((40_000, 50)), columns=[gene(place) for place in range(50)])
    for name in ("t.csv", "t.parquet"):
        source = sent(saved(tmp_path, frame, name), s3_url)
        size = storage.list_files(source)[""].size
        read.clear()
        assert check_counts(TokenizeSpec(input=source, values="log1p")).names
        assert sum(read) < 5e6 < size / 3, name


@pytest.mark.parametrize(("make", "settings", "words"), PREDICT)
def test_a_wrong_remote_dataset_to_be_labelled_is_refused_before_the_training(
    tmp_path: Path, s3_url: str, make: Callable[[Path], str], settings: dict[str, Any], words: str
) -> None:
    ids = rows(60)
    cells = {"input_ids": ids, "type": ["BNT"[row[0] - 5] for row in ids]}
    Dataset.from_dict(cells).save_to_disk(str(tmp_path / "cells.dataset"))
    config = config_of(
        tmp_path,
        data={"dataset": sent(str(tmp_path / "cells.dataset"), s3_url)},
        predict={"dataset": sent(make(tmp_path), s3_url), **settings},
    )
    with pytest.raises(SortaseError, match=words):
        go(config)


def test_good_remote_datasets_pass(tmp_path: Path, s3_url: str, read: list[int]) -> None:
    ids = rows(60)
    cells = {"input_ids": ids, "type": ["BNT"[row[0] - 5] for row in ids], "note": ["x" * 20_000] * 60}
    Dataset.from_dict(cells).save_to_disk(str(tmp_path / "cells.dataset"))
    data = {"dataset": sent(str(tmp_path / "cells.dataset"), s3_url)}
    predict = {"dataset": sent(unlabelled(tmp_path), s3_url), "columns": ["donor"]}
    assert go(config_of(tmp_path, data=data, predict=predict))


def cut(folder: Path) -> None:
    path = next(folder.glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:-20])


def other_columns(folder: Path) -> None:
    _, second = sorted(folder.glob("*.arrow"))
    with pa.OSFile(str(second), "wb") as file, pa.ipc.new_stream(file, pa.schema([("other", pa.int64())])):
        pass


def gone(folder: Path) -> None:
    sorted(folder.glob("*.arrow"))[1].unlink()


def elsewhere(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    state["_data_files"] = [{"filename": "../outside.arrow"}]
    (folder / "state.json").write_text(json.dumps(state))


def no_files(folder: Path) -> None:
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, "_data_files": []}))


def offsets(folder: Path) -> None:
    """A length in the first batch that leads out of it."""
    path = min(folder.glob("*.arrow"))
    content = bytearray(path.read_bytes())
    content[4:8] = (1 << 30).to_bytes(4, "little")
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (cut, "cut short or no Arrow stream file"),
        (other_columns, "has other columns than"),
        (gone, "lacks its file data-00001"),
        (elsewhere, "outside.arrow"),
        (no_files, "holds no data file"),
        (offsets, "cannot be read"),
    ],
)
def test_damaged_datasets_are_refused_where_they_lie(
    tmp_path: Path, root: str, change: Callable[[Path], None], words: str
) -> None:
    made = tmp_path / "made" / "cells.dataset"
    Dataset.from_dict({"input_ids": rows(40), "type": ["B", "T"] * 20}).save_to_disk(str(made), num_shards=2)
    change(made)
    url = sent(str(made), root)
    with pytest.raises(SortaseError, match=words):
        go(config_of(tmp_path, data={"dataset": url}))


def test_the_first_rows_of_a_remote_dataset_are_held_against_the_model(tmp_path: Path, root: str) -> None:
    made = tmp_path / "made" / "cells.dataset"
    ids = [*rows(39), [9999]]
    Dataset.from_dict({"input_ids": ids, "type": ["B", "T"] * 20}).save_to_disk(str(made))
    with pytest.raises(InputError, match=r"row 39 of .* has token id 9999"):
        go(config_of(tmp_path, data={"dataset": sent(str(made), root)}))


def test_rows_that_are_too_many_are_left_to_the_stage(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sortase.data.peeked._MOST", 500)
    made = tmp_path / "made" / "cells.dataset"
    Dataset.from_dict({"input_ids": [*rows(39), [9999]], "type": ["B", "T"] * 20}).save_to_disk(str(made))
    assert go(config_of(tmp_path, data={"dataset": sent(str(made), s3_url)}))


def test_no_garbage_is_collected_while_h5py_waits_for_storage(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Objects of h5py among it would be freed by the thread that asks storage, which never ends."""
    source, fetch, met = sent(saved(tmp_path, annotated()), s3_url), S3File._fetch_range, set[bool]()

    def fetched(self: S3File, start: int, end: int) -> bytes:
        met.add(gc.isenabled())
        return bytes(fetch(self, start, end))

    monkeypatch.setattr(S3File, "_fetch_range", fetched)
    check_counts(TokenizeSpec(input=source))
    assert met == {False}
    assert gc.isenabled()


def test_a_service_that_fails_is_no_broken_file(tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = sent(saved(tmp_path, annotated()), s3_url)

    def failing(self: S3File, start: int, end: int) -> bytes:
        raise PermissionError("Access Denied")

    monkeypatch.setattr(S3File, "_fetch_range", failing)
    with pytest.raises(StorageError, match="Access Denied"):
        check_counts(TokenizeSpec(input=source))


@pytest.mark.parametrize("size", range(1000, 1006))
def test_the_head_of_a_remote_table_ends_with_a_line(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Not in the middle of a letter, which would be another encoding."""
    monkeypatch.setattr("sortase.data.counts.tables._HEAD", size)
    lines = ["cell,kind,A,B", *(f"c{row},βββββ,1,2" for row in range(200))]
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    assert "kind" in check_counts(TokenizeSpec(input=sent(str(tmp_path / "t.csv.gz"), s3_url))).names
