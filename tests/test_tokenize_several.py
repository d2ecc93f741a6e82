"""Counts of several files as one dataset: rows of all, genes by name, and which file a row came from."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from datasets import load_from_disk

from sortase import storage
from sortase.config.load import check
from sortase.config.tokenize import TokenizeSpec
from sortase.data.counts.open import input_urls
from sortase.errors import InputError, MissingInputError
from sortase.pipeline.preflight_inputs import check_counts
from sortase.pipeline.run import run as run_stages
from sortase.prepare import tokenize as stage
from tokenize_data import CELLS, GENES, annotated, expected_rows, gene, matrix, medians_of, rows_of, run, saved, table

CUTS = (0, 20, 21, CELLS)


def parts(folder: Path, data: anndata.AnnData | None = None) -> list[str]:
    """The cells in three files."""
    data = annotated() if data is None else data
    folder.mkdir(exist_ok=True)
    return [saved(folder, data[CUTS[i] : CUTS[i + 1]].copy(), f"p{i}.h5ad") for i in range(3)]


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("given", ["list", "folder", "pattern", "pattern of folders"])
def test_several_files_are_one(tmp_path: Path, given: str) -> None:
    urls = parts(tmp_path / "in")
    inputs = {
        "list": urls,
        "folder": str(tmp_path / "in"),
        "pattern": f"{tmp_path}/in/p?.h5ad",
        "pattern of folders": f"{tmp_path}/i*/*[0-9].h5ad",
    }
    made = run(inputs[given], tmp_path / "out", chunk_cells=7)
    rows = load_from_disk(made.dataset_path)
    assert rows_of(made) == expected_rows(table(), medians_of(made))
    assert rows["cell_id"][:] == list(table().index)
    assert rows["file"][:] == ["p0.h5ad"] * 20 + ["p1.h5ad"] + ["p2.h5ad"] * 36
    assert rows["type"][:10] == load_from_disk(run(urls[0], tmp_path / "one").dataset_path)["type"][:10]
    assert "file" not in load_from_disk(str(tmp_path / "one" / "tokenized.dataset")).column_names


def test_a_gene_that_a_file_lacks_is_zero(tmp_path: Path) -> None:
    """Other genes, in another order, in other kinds of files, one of them named twice in a file."""
    counts = table()
    first, second = counts.iloc[:20, 5:], counts.iloc[20:, :25][::1].iloc[:, ::-1]
    twice = pd.concat([second, second[[gene(3)]]], axis=1)
    urls = [
        saved(tmp_path, annotated(first.to_numpy(), genes=list(first)), "a.h5ad"),
        saved(tmp_path, twice, "b.csv.gz"),
    ]
    made = run(urls, tmp_path / "out")
    wanted = pd.concat([first, second]).fillna(0)[list(counts)]
    wanted.loc[second.index, gene(3)] *= 2
    assert rows_of(made) == expected_rows(wanted, medians_of(made))
    assert load_from_disk(made.dataset_path)["n_counts"][:] == wanted.sum(axis=1).tolist()
    assert made.summary["genes"] == GENES + 1


def test_the_result_is_the_same_wherever_and_by_whomever_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "SHARD_CELLS", 10)
    urls = parts(tmp_path / "in")
    run(urls, tmp_path / "a")
    shutil.copytree(tmp_path / "in", tmp_path / "elsewhere" / "in")
    monkeypatch.chdir(tmp_path / "elsewhere")
    elsewhere = TokenizeSpec(input=["in/p0.h5ad", "in/p1.h5ad", "in/p2.h5ad"])

    def apart(work: Any, numbers: Any) -> Any:
        """As on another machine: each shard by a copy that opens the files again, in another folder."""
        monkeypatch.chdir(tmp_path)
        return [pickle.loads(pickle.dumps(work))(number) for number in numbers]

    stage.tokenize(elsewhere, str(tmp_path / "b"), map=apart)
    assert contents_of(tmp_path / "a") == contents_of(tmp_path / "b")
    assert stage.tokenize(TokenizeSpec(input=urls), str(tmp_path / "b")).skipped


def test_columns_that_files_lack_or_have_otherwise(tmp_path: Path) -> None:
    first, second = annotated()[:20].copy(), annotated()[20:].copy()
    second.obs = second.obs.drop(columns="donor").assign(batch=0.5, age="old", extra=1)
    urls = [saved(tmp_path, first, "a.h5ad"), saved(tmp_path, second, "b.h5ad")]
    made = run(urls, tmp_path / "out")
    rows = load_from_disk(made.dataset_path)
    assert rows["donor"][:] == [f"d{row % 4}" for row in range(20)] + [None] * 37
    assert rows["batch"][:] == [float(row % 2) for row in range(20)] + [0.5] * 37
    assert rows["age"][18:21] == ["27", "28.5", "old"]
    assert rows["extra"][18:21] == [None, None, 1]
    assert made.summary["notes"] == [
        "column 'age' is text in some files and not in others, and is carried as text",
        "column 'donor' is empty for the cells of b.h5ad, which lack it",
        "column 'extra' is empty for the cells of a.h5ad, which lack it",
    ]
    named = load_from_disk(run(urls, tmp_path / "named", columns=["extra", "type"], file_column="sample").dataset_path)
    assert named.column_names == ["input_ids", "length", "n_counts", "cell_id", "sample", "extra", "type"]
    for settings, words in (
        ({"columns": ["typ"]}, r"unknown column 'typ' in tokenize.columns; none of 2 files has it"),
        ({"file_column": "donor"}, "a column 'donor' is in the data already; set tokenize.file_column"),
        ({"file_column": "length"}, "a column 'length' is in the data already"),
    ):
        with pytest.raises(InputError, match=words):
            run(urls, tmp_path / "none", **settings)


def test_each_file_is_judged_by_itself(tmp_path: Path) -> None:
    """The first of many may hold counts, and another logarithms."""
    counts, logs = saved(tmp_path, annotated(), "a.h5ad"), saved(tmp_path, annotated(np.log1p(matrix())), "b.h5ad")
    with pytest.raises(InputError, match=r"b\.h5ad holds fractions up to .* look like logarithms"):
        run([counts, logs], tmp_path / "out")
    wrong = matrix()
    wrong[3, 4] = -1
    bad = saved(tmp_path, annotated(wrong), "c.h5ad")
    with pytest.raises(InputError, match=r"c\.h5ad has the value -1 .* of cell 'cell3' \(row 3\)"):
        run([counts, bad], tmp_path / "out")
    two = annotated(np.log2(matrix() + 1))
    two.uns["log1p"] = {"base": 2}
    with pytest.raises(InputError, match=r"b\.h5ad holds logarithms of base e, .*d\.h5ad of base 2"):
        run([logs, saved(tmp_path, two, "d.h5ad")], tmp_path / "out", values="log1p")
    assert not (tmp_path / "out").exists()


def test_identifiers_in_a_column_are_found_in_all_files(tmp_path: Path) -> None:
    data = annotated()
    data.var["gene_ids"] = data.var_names
    data.var_names = [f"G{place}" for place in range(GENES)]
    urls = parts(tmp_path / "in", data)
    storage.write_json(str(tmp_path / "v.json"), {gene(place): place for place in range(GENES)})
    made = run(urls, tmp_path / "out", vocabulary=str(tmp_path / "v.json"))
    assert rows_of(made) == expected_rows(table(), medians_of(made))


def test_labels_of_files_are_their_paths_below_what_they_share(tmp_path: Path) -> None:
    for donor in ("d1", "d2"):
        (tmp_path / donor).mkdir()
        saved(tmp_path / donor, annotated(), "cells.h5ad")
    rows = load_from_disk(run(f"{tmp_path}/d*/cells.h5ad", tmp_path / "out").dataset_path)
    assert list(dict.fromkeys(rows["file"])) == ["d1/cells.h5ad", "d2/cells.h5ad"]
    one = load_from_disk(run(f"{tmp_path}/d1/*.h5ad", tmp_path / "one", file_column="file").dataset_path)
    assert set(one["file"]) == {"cells.h5ad"}


def test_inputs_that_name_nothing_or_too_much(tmp_path: Path) -> None:
    urls = parts(tmp_path / "in")
    saved(tmp_path / "in", table(), "t.csv")
    (tmp_path / "empty").mkdir()
    (tmp_path / "in" / "[1].h5ad").write_bytes(Path(urls[0]).read_bytes())
    assert input_urls(TokenizeSpec(input=f"{tmp_path}/in/[1].h5ad")) == [f"{tmp_path}/in/[1].h5ad"]
    for given, error, words in (
        ([urls[0], f"{tmp_path}/in/p*.h5ad"], InputError, r"names .*p0\.h5ad twice"),
        (f"{tmp_path}/in", InputError, "holds counts of several kinds"),
        (f"{tmp_path}/in/*.loom", InputError, r"\*\.loom fits no file"),
        (f"{tmp_path}/empty", InputError, "empty is an empty folder"),
        (f"{tmp_path}/absent", MissingInputError, "absent does not exist"),
        ([urls[0], f"{tmp_path}/in/p9.h5ad"], MissingInputError, r"p9\.h5ad does not exist; near it"),
    ):
        with pytest.raises(error, match=words):
            run(given, tmp_path / "out")  # type: ignore[arg-type]


def test_a_run_reads_a_folder(tmp_path: Path) -> None:
    parts(tmp_path / "in")
    spec = {"input": str(tmp_path / "in"), "columns": ["type", "donor"]}
    assert check_counts(TokenizeSpec.model_validate(spec)).names[3:] == ["cell_id", "file", "type", "donor"]
    model = {"config": {"model_type": "bert"}}
    config = {"run": {"name": "r", "output": str(tmp_path)}, "tokenize": spec, "labels": {"column": "type"}}
    run_stages(check({**config, "model": model}), only="tokenize")
    told = load_from_disk(str(tmp_path / "r" / "data" / "tokenized.dataset"))
    assert len(told) == CELLS
