"""What tokenize, prepare and predict refuse of their files is found before the first stage; see preflight_inputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict

from makers import architecture, rows
from sortase import storage
from sortase.config.load import check
from sortase.config.run import Config
from sortase.errors import InputError, SortaseError
from sortase.pipeline.preflight import preflight
from sortase.runs.folder import RunFolder
from tokenize_data import annotated, as_before_2019, gene, matrix, saved


def go(config: Config) -> list[str]:
    folder = RunFolder(storage.join(config.run.output, config.run.name))
    try:
        return preflight(config, folder)
    except SortaseError:
        assert not storage.exists(folder.url)
        raise


def config_of(folder: Path, **sections: Any) -> Config:
    labels = {"column": "type"}
    model = {"config": architecture()}
    run = {"name": "r", "output": str(folder / "runs")}
    return check({"run": run, "labels": labels, "model": model, "compute": {"device": "cpu"}, **sections})


def scaled() -> Any:
    data = annotated()
    data.X = data.X.toarray() - 5
    return data


COUNTS: list[Any] = [
    pytest.param(annotated, {"vocabulary": "mouse.json"}, {}, "only 1 of 30 genes", id="another species"),
    pytest.param(annotated, {"medians": "mouse.json"}, {}, "only 1 of 30 genes", id="medians of another species"),
    pytest.param(annotated, {"layer": "counts"}, {}, "no layer 'counts'", id="layer"),
    pytest.param(annotated, {"gene_column": "ids"}, {}, "unknown gene_column 'ids'", id="gene column"),
    pytest.param(annotated, {"columns": ["typ"]}, {}, "unknown column 'typ' in tokenize.columns", id="columns"),
    pytest.param(annotated, {"values": "log1p"}, {}, None, id="small counts could be logarithms"),
    pytest.param(lambda: annotated(matrix() * 99), {"values": "log1p"}, {}, "not logarithms of counts", id="log1p"),
    pytest.param(scaled, {}, {}, "counts are finite numbers from 0 on", id="scaled"),
    pytest.param(lambda: annotated(kind="csc"), {}, {"column": "kind"}, "unknown column 'kind' for labels", id="csc"),
    pytest.param(annotated, {}, {"column": "age"}, None, id="a label of numbers may be whole"),
    pytest.param(annotated, {"columns": ["donor"]}, {}, "unknown column 'type' for labels", id="not carried"),
]


def passes_or_says(config: Config, words: str | None) -> None:
    if words is None:
        assert go(config)
        return
    with pytest.raises(InputError, match=words):
        go(config)


@pytest.mark.parametrize(("make", "settings", "labels", "words"), COUNTS)
def test_counts_are_looked_at_before_the_first_stage(
    tmp_path: Path, make: Callable[[], Any], settings: dict[str, Any], labels: dict[str, Any], words: str | None
) -> None:
    (tmp_path / "mouse.json").write_text(json.dumps({gene(0): 2, "ENSMUSG00000000001": 3}))
    settings = {name: str(tmp_path / value) if value == "mouse.json" else value for name, value in settings.items()}
    tokenize = {"input": saved(tmp_path, make()), **settings}
    config = config_of(tmp_path, tokenize=tokenize, labels={"column": "type", **labels})
    passes_or_says(config, words)


def test_filters_and_splits_are_held_against_the_columns_of_counts(tmp_path: Path) -> None:
    tokenize = {"input": saved(tmp_path, annotated())}
    with pytest.raises(InputError, match="unknown column 'tissue'"):
        go(config_of(tmp_path, tokenize=tokenize, data={"filter": {"tissue": "lung"}}))
    with pytest.raises(InputError, match="does not fit"):
        go(config_of(tmp_path, tokenize=tokenize, data={"filter": {"age": "old"}}))
    with pytest.raises(InputError, match="unknown column 'doner' for the split"):
        go(config_of(tmp_path, tokenize=tokenize, split={"strategy": "group", "column": "doner"}))
    assert go(config_of(tmp_path, tokenize=tokenize, split={"strategy": "group", "column": "donor"}))


@pytest.mark.parametrize("kind", ["dense", "csr", "csc"])
def test_every_layout_of_counts_passes(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.data.counts.anndata_file.BLOCK_VALUES", 100)
    source = saved(tmp_path, annotated(kind=kind))
    assert go(config_of(tmp_path, tokenize={"input": source}))
    assert go(config_of(tmp_path, tokenize={"input": as_before_2019(source), "layer": "raw"}))


def unlabelled(folder: Path, **columns: Any) -> str:
    ids = rows(20)
    data = Dataset.from_dict({"input_ids": ids, "donor": ["d"] * 20, **columns})
    data.save_to_disk(str(folder / "new.dataset"))
    return str(folder / "new.dataset")


def no_dataset(folder: Path) -> str:
    (folder / "new.dataset").mkdir()
    (folder / "new.dataset" / "cells.txt").write_text("B\n")
    return str(folder / "new.dataset")


def several(folder: Path) -> str:
    DatasetDict({"train": Dataset.from_dict({"input_ids": rows(4)})}).save_to_disk(str(folder / "new.dataset"))
    return str(folder / "new.dataset")


def cut_off(folder: Path) -> str:
    path = Path(unlabelled(folder))
    next(path.glob("*.arrow")).unlink()
    return str(path)


PREDICT: list[Any] = [
    pytest.param(no_dataset, {}, "is not a dataset", id="another folder"),
    pytest.param(several, {}, "new.dataset", id="several datasets"),
    pytest.param(cut_off, {}, "lacks its file", id="a file is missing"),
    pytest.param(lambda f: saved(f, annotated()), {}, "cells.h5ad", id="counts"),
    pytest.param(lambda f: unlabelled(f, input_ids=["a"] * 20), {}, "token ids", id="text"),
    pytest.param(lambda f: unlabelled(f, input_ids=[[1], [], *[[2]] * 18]), {}, "row 1 .*no token", id="empty row"),
    pytest.param(lambda f: unlabelled(f, input_ids=[[1], [9999], *[[2]] * 18]), {}, "row 1 .*9999", id="large id"),
    pytest.param(unlabelled, {"columns": ["doner"]}, "'doner' for predict.columns; did you mean 'donor'", id="column"),
    pytest.param(lambda f: unlabelled(f, row=range(20)), {"columns": ["row"]}, "'row' cannot be carried", id="taken"),
]


@pytest.mark.parametrize(("make", "settings", "words"), PREDICT)
def test_a_wrong_dataset_to_be_labelled_is_refused_before_the_training(
    tmp_path: Path, make: Callable[[Path], str], settings: dict[str, Any], words: str
) -> None:
    ids = rows(60)
    cells = {"input_ids": ids, "type": ["BNT"[row[0] - 5] for row in ids]}
    Dataset.from_dict(cells).save_to_disk(str(tmp_path / "cells.dataset"))
    config = config_of(
        tmp_path,
        data={"dataset": str(tmp_path / "cells.dataset")},
        predict={"dataset": make(tmp_path), **settings},
    )
    with pytest.raises(SortaseError, match=words):
        go(config)


def test_a_good_dataset_to_be_labelled_passes(tmp_path: Path) -> None:
    ids = rows(60)
    cells = {"input_ids": ids, "type": ["BNT"[row[0] - 5] for row in ids]}
    Dataset.from_dict(cells).save_to_disk(str(tmp_path / "cells.dataset"))
    data = {"dataset": str(tmp_path / "cells.dataset")}
    assert go(config_of(tmp_path, data=data, predict={"dataset": unlabelled(tmp_path), "columns": ["donor"]}))
