"""Every kind of file gives the same tokens; what cannot be counts is refused and leaves nothing behind."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from datasets import load_from_disk
from pydantic import ValidationError

from sortase.config.tokenize import TokenizeSpec
from sortase.data.counts.open import open_counts
from sortase.errors import InputError, MissingExtraError, MissingInputError, StorageError
from sortase.prepare.tokenize import tokenize
from tokenize_data import (
    CELLS,
    annotated,
    as_before_2019,
    expected_rows,
    gene,
    matrix,
    medians_of,
    rows_of,
    run,
    saved,
    table,
)


def layered() -> anndata.AnnData:
    """Scaled values in X, counts in a layer and in raw."""
    data = annotated()
    data.raw = data.copy()
    data.layers["counts"] = data.X.copy()
    data.X = data.X.toarray() - 5
    return data


SOURCES: list[Any] = [
    pytest.param(lambda: annotated(kind="csr"), "a.h5ad", {}, id="CSR"),
    pytest.param(lambda: annotated(kind="csc"), "a.h5ad", {}, id="CSC"),
    pytest.param(lambda: annotated(kind="dense"), "a.h5ad", {}, id="dense"),
    pytest.param(layered, "a.h5ad", {"layer": "counts"}, id="layer"),
    pytest.param(layered, "a.h5ad", {"layer": "raw"}, id="raw"),
    pytest.param(table, "t.csv", {}, id="csv"),
    pytest.param(table, "t.csv.gz", {}, id="csv.gz"),
    pytest.param(table, "t.tsv", {}, id="tsv"),
    pytest.param(table, "t.tsv.gz", {}, id="tsv.gz"),
    pytest.param(table, "t.parquet", {}, id="parquet"),
    pytest.param(lambda: table().astype(int).rename_axis("cell"), "t.csv", {}, id="named first column"),
    pytest.param(
        lambda: table().reset_index(names="id").set_index(gene(0)), "t.csv", {"cell_column": "id"}, id="named"
    ),
    pytest.param(lambda: table().astype(np.int16), "t.parquet", {}, id="parquet of integers"),
]


@pytest.mark.parametrize(("make", "name", "settings"), SOURCES)
def test_every_kind_of_file_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any], name: str, settings: dict[str, Any]
) -> None:
    monkeypatch.setattr("sortase.data.counts.spill.BLOCK_VALUES", 100)
    monkeypatch.setattr("sortase.data.counts.anndata_file.BLOCK_VALUES", 100)
    made = run(saved(tmp_path, make(), name), tmp_path / "out", **settings, max_length=12)
    assert rows_of(made) == expected_rows(table(), medians_of(made), 12)
    assert load_from_disk(made.dataset_path)["cell_id"][:] == [f"cell{row}" for row in range(CELLS)]


def test_files_of_before_2019(tmp_path: Path) -> None:
    made = run(as_before_2019(saved(tmp_path, annotated())), tmp_path / "out", layer="raw")
    data = load_from_disk(made.dataset_path)
    assert rows_of(made) == expected_rows(table(), medians_of(made))
    assert data.column_names[4:] == ["type", "donor", "age"]
    assert data["type"][:4] == ["β cell", "T cell", "T cell", None]
    assert data["donor"][:3] == ["d0", "d1", "d2"]


def test_all_of_obs_is_carried_but_what_the_result_has_itself(tmp_path: Path) -> None:
    data = annotated()
    data.obs["n_counts"] = 1.0
    data.obs["count"] = pd.array([None, *range(CELLS - 1)], "Int64")
    made = run(saved(tmp_path, data), tmp_path / "out")
    rows = load_from_disk(made.dataset_path)
    assert set(rows.column_names[4:]) == {"type", "donor", "age", "batch", "healthy", "count"}
    assert rows[1] | {"input_ids": []} == rows[1] | {
        "input_ids": [], "type": "T cell", "donor": "d1", "age": 1.5, "batch": 1, "healthy": False, "count": 0
    }  # fmt: skip
    assert rows[0]["count"] is None
    assert "n_counts" in made.summary["notes"][0]


def test_text_columns_of_a_table_are_metadata(tmp_path: Path) -> None:
    frame = table(donor=["a", "b", "c"] * 19, age=range(CELLS))
    source = saved(tmp_path, frame, "t.csv")
    named = run(source, tmp_path / "named", columns=["donor", "age"])
    rows = load_from_disk(named.dataset_path)
    assert rows.column_names[3:] == ["cell_id", "donor", "age"]
    assert rows["age"][:4] == [0, 1, 2, 3]
    assert rows_of(named) == expected_rows(table(), medians_of(named))
    automatic = run(source, tmp_path / "automatic")
    assert load_from_disk(automatic.dataset_path).column_names[3:] == ["cell_id", "donor"]
    none = run(source, tmp_path / "none", columns=["age"])
    assert load_from_disk(none.dataset_path).column_names[3:] == ["cell_id", "age"]
    assert "donor" in none.summary["notes"][0]


def test_gene_column_and_equal_columns_of_a_table(tmp_path: Path) -> None:
    made = run(saved(tmp_path, annotated()), tmp_path / "a", gene_column="symbol")
    assert set(medians_of(made)) == {f"G{place}" for place in range(30)}
    (tmp_path / "t.csv").write_text("cell,A,B,A\nc1,1,2,3\nc2,0,5,1\n")
    twice = run(str(tmp_path / "t.csv"), tmp_path / "b")
    assert twice.summary["duplicates_summed"] == 1
    assert medians_of(twice) == pytest.approx({"A": (10_000 * 4 / 6 + 10_000 / 6) / 2, "B": (1e4 / 3 + 5e4 / 6) / 2})


def test_tables_of_r_leave_out_the_first_name(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("A\tB\nc1\t1\t2\nc2\t2\t1\n")
    data = load_from_disk(run(str(tmp_path / "t.tsv"), tmp_path / "out").dataset_path)
    assert data["cell_id"][:] == ["c1", "c2"]
    assert data["n_counts"][:] == [3, 3]


def test_memory_is_read_in_chunks_only(tmp_path: Path) -> None:
    """A chunk holds no more values than it may, or a single cell."""
    with open_counts(TokenizeSpec(input=saved(tmp_path, annotated()))) as counts:
        chunks = list(counts.chunks(10, 50))
    assert all(len(chunk.values) <= 50 or chunk.stop - chunk.start == 1 for chunk in chunks)
    assert all(chunk.stop - chunk.start <= 10 for chunk in chunks)
    assert [chunk.start for chunk in chunks] == [0, *(chunk.stop for chunk in chunks[:-1])]
    assert chunks[-1].stop == CELLS


def spoilt(value: float, kind: str = "csr") -> anndata.AnnData:
    counts = matrix()
    counts[4, 7] = value
    return annotated(counts, kind)


def logarithms() -> anndata.AnnData:
    return annotated(np.log1p(matrix() / matrix().sum(axis=1, keepdims=True) * 1e4))


BAD: list[Any] = [
    pytest.param(lambda: spoilt(np.nan), {}, rf"nan for gene '{gene(7)}' of cell 'cell4'", id="not a number"),
    pytest.param(lambda: spoilt(np.nan, "dense"), {}, rf"nan for gene '{gene(7)}' of cell 'cell4'", id="dense nan"),
    pytest.param(lambda: spoilt(-1), {}, rf"-1 for gene '{gene(7)}' of cell 'cell4' \(row 4\)", id="negative"),
    pytest.param(lambda: spoilt(np.inf), {}, rf"inf for gene '{gene(7)}'", id="infinite"),
    pytest.param(lambda: spoilt(25), {"values": "log1p", "layer": "no"}, r"no layer 'no'.*\[\]", id="unknown layer"),
    pytest.param(layered, {}, r"-4 for gene .* tokenize.layer: raw", id="scaled"),
    pytest.param(logarithms, {}, "look like logarithms.*tokenize.values: log1p", id="logarithms"),
    pytest.param(lambda: spoilt(900), {"values": "log1p"}, "set tokenize.values: counts", id="counts as log1p"),
    pytest.param(annotated, {"columns": ["typ"]}, "'typ'.*'type'", id="unknown column"),
    pytest.param(annotated, {"columns": ["n_counts"]}, "'n_counts'.*its own", id="reserved column"),
    pytest.param(annotated, {"gene_column": "ids"}, "'ids'.*'symbol'", id="unknown gene column"),
    pytest.param(lambda: annotated(matrix() * 0), {}, "no count above 0", id="nothing expressed"),
]


@pytest.mark.parametrize(("make", "settings", "words"), BAD)
def test_bad_counts_are_refused_by_name(
    tmp_path: Path, make: Callable[[], Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=words):
        run(saved(tmp_path, make()), tmp_path / "out", **settings)
    assert not list((tmp_path / "out").rglob("*.*"))


def test_a_bad_value_in_the_last_pass_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps({gene(place): 1.0 for place in range(30)}))
    counts = matrix(3000)
    counts[2999, 3] = -2
    with pytest.raises(InputError, match=r"-2 for gene .* 'cell2999'"):
        run(saved(tmp_path, annotated(counts)), tmp_path / "out", medians=str(tmp_path / "m.pkl"), chunk_cells=500)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


TEXTS: list[Any] = [
    pytest.param("t.csv", "cell,A,B\n", "no cell", id="no rows"),
    pytest.param("t.csv", "", "not a readable table", id="empty"),
    pytest.param("t.csv", "cell,A\nc1,1,2,3\n", "4 values, the header 2", id="uneven"),
    pytest.param("t.csv", "cell,A\nc1,1\nc2,\n", "nan for gene 'A' of cell 'c2'", id="missing value"),
    pytest.param("t.csv", "cell,A,B\n" + "c,1,1\n" * 9 + "c,1,x\n", "column 'B'.*'x'", id="text among numbers"),
    pytest.param("t.csv", "cell,kind\nc1,a\n", "no column of numbers", id="only text"),
    pytest.param("t.parquet", "PAR1", "not a readable Parquet", id="broken parquet"),
    pytest.param("t.h5ad", "HDF", "not a readable AnnData", id="broken h5ad"),
    pytest.param("t.xlsx", "x", "nothing that is read as counts; expected AnnData", id="another kind"),
]


@pytest.mark.parametrize(("name", "content", "words"), TEXTS)
def test_broken_files_are_refused(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        run(str(tmp_path / name), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_belongs_to_other_kinds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenize\.layer cannot be used here: .* is a table"):
        run(saved(tmp_path, table(), "t.csv"), tmp_path / "out", layer="raw")
    with pytest.raises(MissingInputError, match=r"cells\.h5ad"):
        run(str(tmp_path / "cells.h5ad"), tmp_path / "out")


def test_no_known_gene_says_what_may_help(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    for name, tokens, words in (
        ("a", ["X", "Y"], r"such as \['ENSG.*which has \['X', 'Y'\]; tokenize.gene_names"),
        ("b", ["G1", "G2"], "set tokenize.gene_column: symbol"),
        ("c", ["cell1", "cell2"], "transpose"),
    ):
        (tmp_path / name).write_bytes(pickle.dumps({token: place for place, token in enumerate(tokens)}))
        with pytest.raises(InputError, match=words):
            run(source, tmp_path / "out", vocabulary=str(tmp_path / name))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param({gene(1): 0.0}, "the median 0.0", id="zero"),
        pytest.param({gene(1): float("nan")}, "the median nan", id="not a number"),
        pytest.param({gene(1): "1"}, "the median '1'", id="text"),
        pytest.param([1.0], "holds list", id="list"),
        pytest.param({"other": 1.0}, "has no median for", id="other genes"),
    ],
)
def test_bad_medians_are_refused(tmp_path: Path, content: Any, words: str) -> None:
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=words):
        run(saved(tmp_path, annotated()), tmp_path / "out", medians=str(tmp_path / "m.pkl"))


@pytest.mark.parametrize("broken", ["indptr", "data", "indices"])
def test_broken_sparse_arrays_are_refused(tmp_path: Path, broken: str) -> None:
    import h5py

    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        values = file["X"][broken][:]
        del file["X"][broken]
        file["X"][broken] = np.append(values[:-1], 10**6) if broken == "indices" else values[:-1]
    with pytest.raises(InputError, match=r"broken|only 30 genes|cells"):
        run(source, tmp_path / "out")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    from sortase.data.counts.spill import write_array

    with pytest.raises(StorageError, match=r"bytes free.*TMPDIR"):
        write_array(Path("/dev/full"), np.zeros(10_000))


def test_without_h5py_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = saved(tmp_path, annotated())
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r"sortase\[anndata\]"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"max_length": 0}, id="no length"),
        pytest.param({"max_length": 2, "special_tokens": True}, id="no room"),
        pytest.param({"columns": ["a", "a"]}, id="column twice"),
        pytest.param({"target_sum": 0}, id="no sum"),
        pytest.param({"chunks": 3}, id="unknown key"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        TokenizeSpec(input="cells.h5ad", **settings)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv.gz", "t.parquet"])
def test_blanks_around_texts_of_tables_are_left_out_and_said(tmp_path: Path, name: str) -> None:
    kinds = ["B", "B ", " T"] * (CELLS // 3)
    made = run(saved(tmp_path, table(type=kinds, batch=["x"] * CELLS), name), tmp_path / "out")
    assert load_from_disk(made.dataset_path)["type"][:3] == ["B", "B", "T"]
    assert made.summary["notes"] == ["blanks around values of column 'type' are left out"]


def test_what_a_worker_reads_otherwise_is_noted(tmp_path: Path) -> None:
    """Rows of plain text are read where they are ranked."""
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        del file["obs/donor"]
        file["obs/donor"] = np.array(["Zürich".encode("latin-1")] * CELLS)
    spec = TokenizeSpec(input=source, columns=["donor"])

    def elsewhere(work: Any, numbers: Any) -> Any:
        return [pickle.loads(pickle.dumps(work))(number) for number in numbers]

    made = tokenize(spec, str(tmp_path / "out"), map=elsewhere)
    assert made.summary["notes"] == ["column 'donor' of obs is not UTF-8 and is read as Latin-1 (Windows-1252)"]
    assert load_from_disk(made.dataset_path)["donor"][0] == "Zürich"
