"""Bad input to prepare: an error that names the value and the remedy, exit code 2, and nothing written."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict

from prepare_data import dataset, saved, tree, vocabulary
from sortase import storage
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.errors import ExistingOutputError, SortaseError, StorageError
from sortase.prepare.prepare import prepare

CLASSES = {"low": ["G1", "G2"], "high": ["G198", "G199"]}


def attempt(source: Any, out: Path, *, data: Any = None, labels: Any = None, split: Any = None, **options: Any) -> Any:
    return prepare(
        source,
        DataSpec(**(data or {})),
        LabelSpec(**({"column": "cell_type"} | (labels or {}))),
        str(out),
        options.pop("prefix", "x"),
        split=SplitSpec(**split) if split else None,
        **options,
    )


def genes(folder: Path, classes: Any = None, tokens: dict[str, int] | None = None) -> dict[str, Any]:
    return {"task": "token", "gene_class_dict": classes or CLASSES, "vocabulary": vocabulary(folder, tokens)}


SETTINGS = [
    pytest.param({"data": {"filter": {"doner": "d1"}}}, "'doner'.*'donor'", id="unknown filter column"),
    pytest.param({"labels": {"column": "celltype"}}, "'celltype'.*'cell_type'", id="unknown label column"),
    pytest.param({"split": {"strategy": "group", "column": "dnr"}}, "'dnr'.*donor", id="unknown split column"),
    pytest.param({"data": {"filter": {"donor": "d99"}}}, "none of 600 rows.*'d0'.*'d99'", id="filter leaves nothing"),
    pytest.param({"data": {"filter": {"batch": "one"}}}, "'batch'.*'one'.*int64", id="filter of another type"),
    pytest.param({"data": {"filter": {"batch": True}}}, "'batch'.*True.*int64", id="boolean for a number"),
    pytest.param({"data": {"filter": {"cell_type": "B"}}}, "only class 'B'", id="one class left"),
    pytest.param({"data": {"rare_threshold": 0.9}}, "rare_threshold 0.9", id="all classes rare"),
    pytest.param(
        {"labels": {"mapping": {"B": 0, "T": 1}}}, r"'NK' \(\d+ rows\) is not in label_mapping", id="unseen label"
    ),
    pytest.param({"labels": {"mapping": {"B": 0, "T": 1, "NK": 3}}}, "0 to 2.*0, 1, 3", id="ids with a gap"),
    pytest.param({"labels": {"column": "input_ids"}}, "'input_ids' holds list", id="lists as labels"),
    pytest.param({"labels": {"column": "score"}}, "0.5.*not measurements", id="measurements as labels"),
    pytest.param({"prefix": "a/b"}, "'a/b'", id="prefix that is a path"),
    pytest.param(
        {"split": {"strategy": "column", "column": "donor"}}, "'d0', which is not a side", id="values that are no sides"
    ),
    pytest.param(
        {"split": {"strategy": "column", "column": "donor", "sides": {"train": ["d0"], "test": ["d77"]}}},
        "'d1'.*no side|'d77'",
        id="values on no side",
    ),
    pytest.param({"split": {"strategy": "group", "column": "one"}}, "'one' has 1 value", id="one group"),
    pytest.param(
        {"labels": {"task": "token", "gene_class_dict": CLASSES}},
        "gene_class_dict needs labels.vocabulary",
        id="no vocabulary",
    ),
    pytest.param({"split": {"strategy": "token"}}, "strategy token.*task sequence", id="token split of rows"),
]


@pytest.mark.parametrize(("settings", "words"), SETTINGS)
def test_settings_that_do_not_fit_the_data(settings: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = saved(tmp_path, dataset(score=[0.5] * 600, one=["x"] * 600))
    with pytest.raises(SortaseError, match=f"(?s){words}") as caught:
        attempt(path, tmp_path / "out", **settings)
    assert caught.value.exit_code == 2
    assert tree(tmp_path / "out") == {}


GENES = [
    pytest.param(
        {"low": ["G1"], "high": ["G1", "G2"]}, r"in several classes: 'G1' \('low', 'high'\)", id="gene in two classes"
    ),
    pytest.param({"low": ["G1"], "high": ["what", "why"]}, "none of the 2 genes of class 'high'", id="unknown genes"),
    pytest.param({"low": ["G1"], "high": []}, "'high' has no gene", id="no genes"),
    pytest.param({"low": ["G1"]}, "at least two", id="one class"),
    pytest.param({"low": ["G1"], "high": ["beyond"]}, "only class 'low'", id="only one class occurs"),
]


@pytest.mark.parametrize(("classes", "words"), GENES)
def test_gene_classes_that_do_not_work(classes: dict[str, list[str]], words: str, tmp_path: Path) -> None:
    labels = genes(tmp_path / "v", classes, {f"G{i}": i for i in range(200)} | {"beyond": 100_000})
    with pytest.raises(SortaseError, match=words) as caught:
        attempt(saved(tmp_path), tmp_path / "out", labels=labels)
    assert caught.value.exit_code == 2
    assert tree(tmp_path / "out") == {}


def test_token_column_that_is_missing_is_a_warning_and_caps_need_it(tmp_path: Path) -> None:
    path, labels = saved(tmp_path), genes(tmp_path / "v") | {"column": "nothing"}
    with pytest.warns(UserWarning, match="no column 'nothing'"):
        made = attempt(path, tmp_path / "out", labels=labels)
    assert made.summary["column"] is None
    with pytest.warns(UserWarning), pytest.raises(SortaseError, match="max_examples_per_class needs a column"):
        attempt(path, tmp_path / "other", labels=labels, data={"max_examples_per_class": 5})


def arrow_file(path: str) -> Path:
    return sorted(Path(path).glob("*.arrow"))[1]


def cut(path: str) -> None:
    file = arrow_file(path)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_at_the_end(path: str) -> None:
    file = arrow_file(path)
    file.write_bytes(file.read_bytes()[:-8])


def empty(path: str) -> None:
    arrow_file(path).write_bytes(b"")


def text(path: str) -> None:
    arrow_file(path).write_text("no arrow in here, only words that go on for a while")


def remove_file(path: str) -> None:
    arrow_file(path).unlink()


def remove_state(path: str) -> None:
    (Path(path) / "state.json").unlink()


def break_state(path: str) -> None:
    (Path(path) / "state.json").write_text("{")


DAMAGE = [
    pytest.param(cut, "data-00001.*cannot be read", id="cut short"),
    pytest.param(cut_at_the_end, "data-00001.*cannot be read", id="cut at a batch"),
    pytest.param(empty, "data-00001.*cannot be read", id="empty file"),
    pytest.param(text, "data-00001.*cannot be read", id="another format"),
    pytest.param(remove_file, "lacks its file data-00001", id="file missing"),
    pytest.param(remove_state, "is not a dataset: expected the folder", id="no state.json"),
    pytest.param(break_state, "not valid JSON", id="broken state.json"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
def test_damaged_datasets(damage: Any, words: str, tmp_path: Path) -> None:
    path = saved(tmp_path)
    damage(path)
    with pytest.raises(SortaseError, match=words) as caught:
        attempt(path, tmp_path / "out")
    assert caught.value.exit_code == 2
    assert tree(tmp_path / "out") == {}


def _columns(**columns: Any) -> Dataset:
    return Dataset(pa.table(columns | {"cell_type": ["a", "b"]}))


SOURCES = [
    pytest.param(lambda p: str(p / "nowhere"), "nowhere does not exist", id="missing path"),
    pytest.param(lambda p: str(p), "is not a dataset", id="some folder"),
    pytest.param(lambda p: {"input_ids": [[1]]}, "got dict", id="another object"),
    pytest.param(lambda p: DatasetDict(train=dataset(9)), r"splits \['train'\]", id="DatasetDict"),
    pytest.param(lambda p: dataset(9).select([]), "has no row", id="no rows"),
    pytest.param(lambda p: dataset(9).remove_columns("input_ids"), "'input_ids'", id="no tokens"),
    pytest.param(lambda p: _columns(input_ids=["1 2", "3"]), "'input_ids' holds string", id="text for tokens"),
    pytest.param(lambda p: _columns(input_ids=[[1], None]), "row 1 has no 'input_ids'", id="null list"),
    pytest.param(lambda p: _columns(input_ids=[[1, 2], [3, None]]), "row 1 has a missing token id", id="null token"),
    pytest.param(
        lambda p: _columns(input_ids=pa.array([[], []], pa.list_(pa.int32()))),
        "no row with a token",
        id="only empty rows",
    ),
]


@pytest.mark.parametrize(("make", "words"), SOURCES)
def test_sources_that_are_none(make: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(SortaseError, match=words) as caught:
        attempt(make(tmp_path), tmp_path / "out")
    assert caught.value.exit_code == 2
    assert tree(tmp_path / "out") == {}


def test_a_saved_dataset_dict_names_its_splits(tmp_path: Path) -> None:
    DatasetDict(one=dataset(9), two=dataset(9)).save_to_disk(str(tmp_path / "in"))
    with pytest.raises(SortaseError, match=r"DatasetDict with splits \['one', 'two'\].*in/one"):
        attempt(str(tmp_path / "in"), tmp_path / "out")


def test_other_inputs_are_refused_unless_replaced(tmp_path: Path) -> None:
    path = saved(tmp_path)
    attempt(path, tmp_path / "out", split={"test_size": 0.3})
    before = tree(tmp_path / "out")
    for change in ({"data": {"max_examples": 50}}, {"seed": 1}, {"labels": {"column": "donor"}}):
        with pytest.raises(ExistingOutputError, match="other inputs or settings"):
            attempt(path, tmp_path / "out", split={"test_size": 0.3}, **change)
    with pytest.raises(ExistingOutputError, match=r"prepare\.json"):
        attempt(path, tmp_path / "out", split={"test_size": 0.4})
    assert tree(tmp_path / "out") == before
    attempt(path, tmp_path / "out", split={"test_size": 0.3}, data={"max_examples": 50}, replace=True)
    attempt(path, tmp_path / "fresh", split={"test_size": 0.3}, data={"max_examples": 50})
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_a_changed_source_is_another_input(tmp_path: Path) -> None:
    path = saved(tmp_path)
    attempt(path, tmp_path / "out")
    saved(tmp_path, dataset(seed=1))
    with pytest.raises(ExistingOutputError):
        attempt(path, tmp_path / "out")


def test_bad_input_leaves_what_is_there_even_when_it_is_to_be_replaced(tmp_path: Path) -> None:
    path = saved(tmp_path)
    attempt(path, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(SortaseError, match="only class"):
        attempt(path, tmp_path / "out", data={"filter": {"cell_type": "B"}}, replace=True)
    assert tree(tmp_path / "out") == before


def test_files_that_are_not_ours_are_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "x_labeled.dataset"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ExistingOutputError, match=r"thesis\.txt"):
        attempt(saved(tmp_path), tmp_path / "out", replace=True)
    assert tree(tmp_path / "out") == {"x_labeled.dataset/thesis.txt": b"years of work"}


def test_the_input_cannot_be_the_output(tmp_path: Path) -> None:
    dataset().save_to_disk(str(tmp_path / "x_labeled.dataset"))
    before = tree(tmp_path)
    with pytest.raises(SortaseError, match="both input and output"):
        attempt(str(tmp_path / "x_labeled.dataset"), tmp_path, replace=True)
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "victim", ["data-00001", "dataset_info", "id_class_dict.json", "split.parquet", "prepare.json"]
)
def test_a_full_disk_leaves_nothing_half_made(victim: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path)
    real = storage.open_output

    def full(url: str) -> Any:
        if victim in url:
            raise StorageError(f"cannot write {url}: no space left on device") from OSError(errno.ENOSPC, "full")
        return real(url)

    monkeypatch.setattr(storage, "open_output", full)
    with pytest.raises(StorageError, match=victim) as caught:
        attempt(path, tmp_path / "out", split={"test_size": 0.2})
    assert caught.value.exit_code == 3
    assert tree(tmp_path / "out") == {}
    monkeypatch.undo()
    assert not attempt(path, tmp_path / "out", split={"test_size": 0.2}).skipped


@pytest.mark.parametrize(
    ("section", "settings", "words"),
    [
        pytest.param(DataSpec, {"rare_threshold": 1.5}, "rare_threshold", id="fraction above 1"),
        pytest.param(DataSpec, {"filter": {"a": []}}, "column 'a'", id="empty filter"),
        pytest.param(DataSpec, {"max_examples": 0}, "max_examples", id="cap of nothing"),
        pytest.param(LabelSpec, {}, "labels.column", id="no label column"),
        pytest.param(LabelSpec, {"task": "token"}, "gene_class_dict", id="no genes"),
        pytest.param(SplitSpec, {"strategy": "group"}, "split.column", id="group without column"),
        pytest.param(SplitSpec, {"sides": {"train": ["a"]}}, "split.sides", id="sides without their strategy"),
        pytest.param(SplitSpec, {"test_size": 0.6, "validation_size": 0.4}, "nothing to", id="nothing to train on"),
        pytest.param(SplitSpec, {"colum": "a"}, "colum", id="unknown key"),
    ],
)
def test_settings_are_checked_by_themselves(section: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        section(**settings)


def test_marks_are_json(tmp_path: Path) -> None:
    attempt(saved(tmp_path), tmp_path / "out")
    state = json.loads((tmp_path / "out" / "x_labeled.dataset" / "state.json").read_text())
    assert len(state["_fingerprint"]) == 16
