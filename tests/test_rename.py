"""Labels mapped by rule: what counts as what, what is dropped, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, List, Value, load_from_disk

from makers import architecture
from makers import rows as token_rows
from prepare_data import rows, saved, tree, vocabulary
from sortase.cli import main
from sortase.config.load import check
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.config.run import Config
from sortase.data import source as source_module
from sortase.errors import InputError
from sortase.pipeline.run import run
from sortase.prepare.prepare import inputs_digest, prepare
from sortase.prepare.result import Prepared

NAMES = ["B", "T", "NK"]


def prepared(source: Any, out: Path, data: dict[str, Any] | None = None, **options: Any) -> Prepared:
    labels = {"column": "cell_type"} | options.pop("labels", {})
    return prepare(source, DataSpec(**(data or {})), LabelSpec(**labels), str(out), "x", **options)


def labelled(values: list[Any], kind: Any, column: str = "cell_type") -> Dataset:
    features = Features({"input_ids": List(Value("int32")), column: kind})
    return Dataset.from_dict({"input_ids": [[i % 50, 60] for i in range(len(values))], column: values}, features)


def names_of(made: Prepared) -> list[str]:
    after = load_from_disk(made.dataset_path)
    return [after.features["label"].int2str(i) for i in after["label"]]


COLUMNS = [
    pytest.param(["a", "b", "c"], Value("string"), {"c": "b"}, ["a", "b", "b"], id="text"),
    pytest.param([1, 2, -3], Value("int64"), {-3: 2}, ["1", "2", "2"], id="integers by their decimal text"),
    pytest.param([True, False, True], Value("bool"), {False: "no"}, ["True", "no", "True"], id="booleans"),
    pytest.param([1.0, 2.0, 3.0], Value("float64"), {3.0: 2.0}, ["1", "2", "2"], id="whole floats"),
    pytest.param([0, 1, 2], ClassLabel(names=NAMES), {"NK": "T"}, ["B", "T", "T"], id="ClassLabel"),
    pytest.param(["a", "b", "c"], Value("string"), {"b": None}, ["a", "c"], id="dropped"),
    pytest.param(["a", "b", "c"], Value("string"), {"a": "x", "b": "x"}, ["x", "x", "c"], id="two become a new one"),
    pytest.param(["a", "b", None], Value("string"), {"z": "y"}, ["a", "b"], id="nothing by this name"),
]


@pytest.mark.parametrize(("values", "kind", "rename", "expected"), COLUMNS)
def test_labels_count_as_what_the_rule_says(
    values: list[Any], kind: Any, rename: dict[Any, Any], expected: list[str], tmp_path: Path
) -> None:
    source = labelled(values * 20, kind)
    made = prepared(source, tmp_path / "out", labels={"rename": rename})
    assert names_of(made) == expected * 20
    assert list(made.class_map) == sorted(set(expected))
    after = load_from_disk(made.dataset_path)
    lost = {old for old, new in rename.items() if new is None} | {None}
    assert after["cell_type"][:] == [value for value in values if value not in lost] * 20
    assert after.features["cell_type"] == source.features["cell_type"]


def test_a_renamed_column_called_label_stays_as_the_input_said(tmp_path: Path) -> None:
    source = labelled([0, 1, 2] * 20, ClassLabel(names=NAMES), "label")
    made = prepared(source, tmp_path / "out", labels={"column": "label", "rename": {"NK": "T"}})
    after = load_from_disk(made.dataset_path)
    assert after["label"][:] == [0, 1, 1] * 20 and after.features["label"].names == ["B", "T"]
    assert after["input_label"][:] == [0, 1, 2] * 20 and after.features["input_label"].names == NAMES


def test_what_a_rule_did_is_told_with_its_rows(tmp_path: Path) -> None:
    values = ["a"] * 30 + ["b"] * 20 + ["c"] * 7 + ["d"] * 3
    source = labelled(values, Value("string"))
    made = prepared(source, tmp_path / "out", labels={"rename": {"c": None, "d": "b", "gone": "a"}})
    notes = "\n".join(made.summary["notes"])
    assert "label 'c' (7 rows) was dropped by labels.rename" in notes
    assert "label 'd' (3 rows) counts as class 'b' by labels.rename" in notes
    assert "labels.rename names 'gone', which does not occur" in notes
    steps = {step["step"]: step for step in made.summary["steps"]}
    assert steps["input"]["per_class"] == {"a": 30, "b": 23, "c": 7}
    assert (steps["filter"]["rows"], steps["labels.rename"]["rows"]) == (60, 53)
    assert made.summary["units"] == {"a": 30, "b": 23}


def test_rare_classes_caps_and_the_split_are_of_the_classes_meant(tmp_path: Path) -> None:
    values = ["a"] * 300 + ["b"] * 300 + ["b2"] * 20 + ["x"] * 10
    data = {"rare_threshold": 0.05, "max_examples_per_class": 310}
    split = SplitSpec(test_size=0.5, validation_size=0)
    out = tmp_path / "out"
    made = prepared(labelled(values, Value("string")), out, data, labels={"rename": {"b2": "b", "x": "b"}}, split=split)
    assert made.summary["units"] == {"a": 300, "b": 310}
    sides = made.summary["split"]["sides"]
    assert sides["test"]["per_class"] == {"a": 150, "b": 155} == sides["train"]["per_class"]
    of_rows = np.array(pq.read_table(str(made.split_path)).column("side").to_pylist())
    assert ((of_rows == "test") & (np.array(names_of(made)) == "b")).sum() == 155


def test_bytes_do_not_depend_on_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_module, "UNIT_BYTES", 4000)
    monkeypatch.setattr(source_module, "PIECE_BYTES", 1500)
    path = saved(tmp_path, Dataset.from_dict(rows(cell_type=[f"c{i % 7}" for i in range(600)])))
    labels = {"rename": {"c6": "c0", "c5": None, "c4": "c1"}}
    outputs = []
    for workers in (1, 5):
        out = tmp_path / f"out{workers}"
        data = {"nproc": workers, "max_examples": 300, "max_examples_per_class": 90}
        made = prepared(path, out, data, labels=labels, split=SplitSpec())
        outputs.append(tree(out))
    assert outputs[0] == outputs[1]
    assert set(names_of(made)) == {"c0", "c1", "c2", "c3"}
    assert sum(name.endswith(".arrow") for name in outputs[0]) > 3


def test_a_rule_is_the_same_as_data_that_were_renamed_before(tmp_path: Path) -> None:
    given = rows()
    meant = [{"NK": "T"}.get(name, name) for name in given["cell_type"]]
    by_rule = prepared(Dataset.from_dict(given), tmp_path / "rule", labels={"rename": {"NK": "T"}}, split=SplitSpec())
    before = prepared(Dataset.from_dict(given | {"cell_type": meant}), tmp_path / "before", split=SplitSpec())
    assert load_from_disk(by_rule.dataset_path)["label"][:] == load_from_disk(before.dataset_path)["label"][:]
    assert by_rule.summary["split"]["sides"] == before.summary["split"]["sides"]
    assert Path(str(by_rule.split_path)).read_bytes() == Path(str(before.split_path)).read_bytes()


def test_settings_without_a_rule_are_what_they_were_before_there_were_rules(tmp_path: Path) -> None:
    plain, empty = LabelSpec(column="c"), LabelSpec(column="c", rename={})
    names = {"task", "column", "mapping", "gene_class_dict", "vocabulary"}
    assert set(plain.model_dump(mode="json")) == set(json.loads(empty.model_dump_json())) == names
    path = saved(tmp_path)
    digests = [
        inputs_digest(path, DataSpec(), LabelSpec(column="cell_type", **more))
        for more in ({}, {"rename": {}}, {"rename": {"NK": "T"}}, {"rename": {"NK": None}})
    ]
    assert digests[0] == digests[1] and len(set(digests)) == 3


def test_a_rule_survives_run_json() -> None:
    settings = {
        "run": {"name": "x"},
        "data": {"dataset": "d"},
        "labels": {"column": "c", "rename": {"a": None, 3: "b"}},
        "model": {"checkpoint": "m"},
    }
    config = check(settings, "run.yaml")
    assert config.labels.rename == {"a": None, "3": "b"}
    assert check(json.loads(config.model_dump_json()), "run.json") == config


BAD = [
    pytest.param({"a": "b", "b": "c"}, {}, "makes 'a' 'b', and has a rule for 'b' as well", id="chain"),
    pytest.param({"a": "b", "b": "a"}, {}, "not chained", id="exchange"),
    pytest.param({"a": "b", "b": None}, {}, "not chained", id="into a dropped one"),
    pytest.param({"a": "a"}, {}, "not chained", id="itself"),
    pytest.param({"a": " "}, {}, "null as the class drops", id="empty class"),
    pytest.param({None: "a"}, {}, "rows without a label are always dropped", id="missing labels"),
    pytest.param({"a": 1.5}, {}, "1.5", id="a measurement"),
    pytest.param({"a": "z"}, {"mapping": {"b": 0, "c": 1}}, "'z', which is not in labels.mapping", id="not in mapping"),
    pytest.param(
        {"a": "b"},
        {"task": "token", "gene_class_dict": {"x": ["g"], "y": ["h"]}, "vocabulary": "v"},
        "task sequence; with task token change labels.gene_class_dict",
        id="token",
    ),
]


@pytest.mark.parametrize(("rename", "more", "words"), BAD)
def test_rules_that_cannot_be_meant(rename: dict[Any, Any], more: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LabelSpec(**{"column": "c", "rename": rename, **more})


def test_a_rule_that_drops_everything_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="drops all 600 rows left: 'B', 'NK', 'T'"):
        prepared(saved(tmp_path), out, labels={"rename": dict.fromkeys(NAMES)})
    assert not out.exists()


def test_labels_that_the_mapping_lacks_are_refused_with_their_rows(tmp_path: Path) -> None:
    values = ["a"] * 30 + ["b"] * 20 + ["new"] * 7 + ["newer"]
    source, labels = labelled(values, Value("string")), {"mapping": {"a": 1, "b": 0}}
    with pytest.raises(
        InputError, match=r"labels 'new' \(7 rows\), 'newer' \(1 row\) are not in label_mapping"
    ) as found:
        prepared(source, tmp_path / "out", {"max_examples_per_class": 5}, labels=labels)
    assert "labels.rename" in str(found.value) and "labels.rename: {new: CLASS}" in str(found.value)
    assert not (tmp_path / "out").exists()
    made = prepared(source, tmp_path / "out", labels=labels | {"rename": {"new": "b", "newer": None}})
    assert made.summary["units"] == {"b": 27, "a": 30} and made.class_map == {"b": 0, "a": 1}


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    """A run over rows whose class follows from their first token; 'c' is written in two ways."""
    ids = token_rows(150, longest=12)
    names = np.array(["abc"[row[0] % 3] for row in ids])
    names[(names == "c") & (np.arange(150) % 2 == 0)] = "C"
    Dataset.from_dict({"input_ids": ids, "cell_type": names.tolist()}).save_to_disk(str(tmp_path / "cells.dataset"))
    return {
        "run": {"name": "small", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"column": "cell_type", "rename": {"C": "c"}},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 20, "baseline": False},
        "compute": {"device": "cpu"},
    }


def test_a_run_learns_and_is_evaluated_by_the_classes_meant(settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main(["run", "-c", str(path)]) == 0
    folder = tmp_path / "runs" / "small"
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert [row["class"] for row in evaluation["per_class"]] == ["a", "b", "c"]
    test = json.loads((folder / "data" / "prepare.json").read_text())["split"]["sides"]["test"]["per_class"]
    assert {row["class"]: row["support"] for row in evaluation["per_class"]} == test
    assert json.loads((folder / "model" / "config.json").read_text())["label2id"] == {"a": 0, "b": 1, "c": 2}


def test_a_label_that_vanished_keeps_its_id_and_is_not_counted_against_the_model(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    settings["labels"]["mapping"] = {"gone": 1, "a": 0, "b": 2, "c": 3}
    run(Config(**settings))
    folder = tmp_path / "runs" / "small"
    made = json.loads((folder / "data" / "prepare.json").read_text())
    assert made["classes"] == ["a", "gone", "b", "c"] and made["units"]["gone"] == 0
    assert "class 'gone' does not occur in the prepared rows" in made["notes"]
    evaluation = json.loads((folder / "evaluation.json").read_text())
    per_class = {row["class"]: row for row in evaluation["per_class"]}
    assert per_class["gone"]["support"] == 0
    scored = [row["f1"] for name, row in per_class.items() if row["support"]]
    assert evaluation["metrics"]["macro_f1"] == pytest.approx(np.mean(scored), abs=1e-6)
    config = json.loads((folder / "model" / "config.json").read_text())
    assert config["label2id"] == {"a": 0, "gone": 1, "b": 2, "c": 3}
    assert "'gone'" in (folder / "model" / "README.md").read_text()


def test_a_run_from_before_there_were_rules_is_found_finished(settings: dict[str, Any], tmp_path: Path) -> None:
    settings["labels"]["rename"] = {}
    run(Config(**settings), only="prepare")
    mark = json.loads((tmp_path / "runs" / "small" / "stages" / "prepare.json").read_text())
    assert "rename" not in mark["settings"]["labels"]
    said: list[str] = []
    del settings["labels"]["rename"]
    run(Config(**settings), only="prepare", log=said.append)
    assert any("skipped" in line for line in said)


def test_token_classes_that_do_not_occur_are_named(tmp_path: Path) -> None:
    classes = {"low": ["G0", "G1"], "high": ["G198"], "absent": ["G500"]}
    names = {f"G{i}": i for i in range(501)}
    labels = {"task": "token", "column": None, "gene_class_dict": classes, "vocabulary": vocabulary(tmp_path, names)}
    made = prepared(saved(tmp_path), tmp_path / "out", labels=labels)
    assert made.summary["units"]["absent"] == 0
    assert "class 'absent' does not occur in the prepared rows" in made.summary["notes"]
