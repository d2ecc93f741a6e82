"""Preparing: invariants of selection and labels, the same bytes however it is computed."""

from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value, load_from_disk

from prepare_data import GENES, dataset, rows, saved, tree, vocabulary
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.data import classmap
from sortase.data import source as source_module
from sortase.prepare.prepare import inputs_digest, prepare
from sortase.prepare.result import Prepared

CLASSES = {"low": [f"G{i}" for i in range(10)], "high": [f"G{i}" for i in range(190, 200)]}


def run(source: Any, out: Path, data: dict[str, Any] | None = None, **options: Any) -> Prepared:
    labels = {"column": "cell_type"} | options.pop("labels", {})
    return prepare(source, DataSpec(**(data or {})), LabelSpec(**labels), str(out), "x", **options)


def token_labels(folder: Path, **labels: Any) -> dict[str, Any]:
    return {
        "task": "token",
        "column": None,
        "gene_class_dict": CLASSES,
        "vocabulary": vocabulary(folder),
    } | labels


def small_units(monkeypatch: pytest.MonkeyPatch, size: int = 4000) -> None:
    monkeypatch.setattr(source_module, "UNIT_BYTES", size)
    monkeypatch.setattr(source_module, "PIECE_BYTES", size // 3)


def through_pickle(function: Any, items: Any) -> Any:
    return [pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(item))) for item in items]


def test_all_columns_are_kept_in_order_and_labels_mean_the_names(tmp_path: Path) -> None:
    before = rows()
    made = run(saved(tmp_path), tmp_path / "out")
    after = load_from_disk(made.dataset_path)
    assert after.column_names == [*before, "label", "length"]
    for name, values in before.items():
        assert after[name][:] == values
    assert [after.features["label"].int2str(i) for i in after["label"]] == before["cell_type"]
    assert after["length"][:] == [len(tokens) for tokens in before["input_ids"]]
    assert classmap.read(made.label_map_path) == {"B": 0, "NK": 1, "T": 2} == made.class_map
    assert classmap.of_dataset(after, "label") == made.class_map


@pytest.mark.parametrize("task", ["sequence", "token"])
def test_bytes_do_not_depend_on_workers_or_map(task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_units(monkeypatch)
    labels = {} if task == "sequence" else token_labels(tmp_path, column="cell_type")
    data = {"filter": {"batch": [0, 1, 3]}, "max_examples": 200, "max_examples_per_class": 70}
    path, split = saved(tmp_path), SplitSpec(strategy="group", column="donor")
    outputs = []
    for number, options in enumerate([{"nproc": 1}, {"nproc": 5}, {"map": through_pickle}]):
        out = tmp_path / f"out{number}"
        settings = data | {"nproc": options.pop("nproc", 3)}
        made = run(path, out, settings, labels=labels, split=split, **options)
        outputs.append(tree(out))
        assert len([name for name in outputs[-1] if name.endswith(".arrow")]) > 3
        assert made.summary["steps"][-1]["rows"] == len(load_from_disk(made.dataset_path)) > 100
    assert outputs[0] == outputs[1] == outputs[2]


def test_units_follow_from_the_data_alone_and_cover_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, dataset(500), shards=2)
    whole = [
        batch for unit in source_module.open_folder(path).units for batch in source_module.open_folder(path).read(unit)
    ]
    small_units(monkeypatch, 3000)
    source = source_module.open_folder(path)
    assert len(source.units) > 10
    assert [unit.start for unit in source.units] == list(np.cumsum([0] + [unit.rows for unit in source.units[:-1]]))
    cut = [row for unit in source.units for batch in source.read(unit, ["input_ids"]) for row in batch.to_pylist()]
    assert cut == [{"input_ids": row["input_ids"]} for batch in whole for row in batch.to_pylist()]


def test_an_eager_map_can_run_the_units(tmp_path: Path) -> None:
    made = run(saved(tmp_path, dataset(60)), tmp_path / "out", {"max_examples": 50}, map=through_pickle)
    assert made.summary["steps"][-1]["rows"] == 50


@pytest.mark.parametrize("units", [4000, 128 << 20])
def test_caps_and_rare_classes_are_exact(units: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_units(monkeypatch, units)
    names = ["A"] * 300 + ["B"] * 250 + ["C"] * 48 + ["D"] * 2
    path = saved(tmp_path, dataset(600, cell_type=names))
    made = run(path, tmp_path / "out", {"rare_threshold": 0.01, "max_examples": 500, "max_examples_per_class": 150})
    steps = {step["step"]: step for step in made.summary["steps"]}
    assert steps["input"]["per_class"] == {"A": 300, "B": 250, "C": 48, "D": 2}
    assert steps["rare classes"]["per_class"] == {"A": 300, "B": 250, "C": 48}
    assert steps["global cap"]["rows"] == 500
    counts = Counter(load_from_disk(made.dataset_path)["cell_type"])
    assert counts == {name: min(150, n) for name, n in steps["global cap"]["per_class"].items()}
    assert counts == steps["labelled"]["per_class"] == made.summary["units"]
    assert any("'D' (2 rows" in note for note in made.summary["notes"])


def test_caps_take_a_random_part_and_another_seed_another_one(tmp_path: Path) -> None:
    data = dataset(600, row=list(range(600)))
    path = saved(tmp_path, data)
    taken = [
        load_from_disk(run(path, tmp_path / str(seed), {"max_examples": 300}, seed=seed).dataset_path)["row"][:]
        for seed in (1, 2)
    ]
    for chosen in taken:
        assert len(chosen) == 300
        assert chosen == sorted(chosen)
        assert 100 < sum(row < 300 for row in chosen) < 200
    assert 100 < len(set(taken[0]) & set(taken[1])) < 200


@pytest.mark.parametrize(
    ("threshold", "kept"),
    [pytest.param(0.25, True, id="exactly the threshold"), pytest.param(0.2501, False, id="just below")],
)
def test_rare_threshold_keeps_what_equals_it(threshold: float, kept: bool, tmp_path: Path) -> None:
    names = ["A"] * 40 + ["B"] * 35 + ["C"] * 25
    made = run(saved(tmp_path, dataset(100, cell_type=names)), tmp_path / "out", {"rare_threshold": threshold})
    assert ("C" in made.class_map) is kept


@pytest.mark.parametrize(
    ("filters", "keeps"),
    [
        pytest.param({"donor": "d1"}, lambda row: row["donor"] == "d1", id="scalar"),
        pytest.param({"donor": ["d1", "d2"]}, lambda row: row["donor"] in ("d1", "d2"), id="list"),
        pytest.param({"batch": 3}, lambda row: row["batch"] == 3, id="integer"),
        pytest.param({"batch": (np.int64(3), 4)}, lambda row: row["batch"] in (3, 4), id="NumPy integer"),
        pytest.param({"batch": {1, 2}, "donor": "d1"}, lambda r: r["batch"] in (1, 2) and r["donor"] == "d1", id="two"),
        pytest.param({"flag": True}, lambda row: row["flag"], id="boolean"),
        pytest.param({"gap": [None]}, lambda row: row["gap"] is None, id="null"),
    ],
)
def test_filters_keep_the_rows_that_hold_the_values(filters: dict[str, Any], keeps: Any, tmp_path: Path) -> None:
    data = dataset(400, flag=[i % 3 == 0 for i in range(400)], gap=[None if i % 4 else "x" for i in range(400)])
    made = run(saved(tmp_path, data), tmp_path / "out", {"filter": filters})
    assert load_from_disk(made.dataset_path)["input_ids"][:] == [row["input_ids"] for row in data if keeps(row)]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        pytest.param([10, 9, 100] * 20, ["9", "10", "100"], id="integers in order of their size"),
        pytest.param(["10", "9", "x"] * 20, ["10", "9", "x"], id="text"),
        pytest.param([True, False, None] * 20, ["False", "True"], id="booleans with gaps"),
        pytest.param([1.0, 2.0, float("nan")] * 20, ["1", "2"], id="integers that gaps made floats"),
        pytest.param(["a", "b", ""] * 20, ["a", "b"], id="empty text is no class"),
        pytest.param([None, "a", "b"] * 20, ["a", "b"], id="null is no class"),
    ],
)
def test_names_of_classes(values: list[Any], names: list[str], tmp_path: Path) -> None:
    made = run(saved(tmp_path, dataset(60, cell_type=values)), tmp_path / "out")
    assert list(made.class_map) == names
    after = load_from_disk(made.dataset_path)
    missing = 60 - len(after)
    assert missing == (0 if len(names) == 3 else 20)
    assert any(f"{missing} rows have no label" in note for note in made.summary["notes"]) == bool(missing)


def test_class_labels_of_the_input_keep_their_names(tmp_path: Path) -> None:
    features = Features(
        {
            "input_ids": List(Value("int32")),
            "cell_type": ClassLabel(names=["T", "B", "unused"]),
            "length": Value("int32"),
        }
    )
    data = Dataset.from_dict(
        {"input_ids": [[1, 2]] * 6, "cell_type": [0, 1, 0, 1, -1, 0], "length": [2] * 5 + [7]}, features
    )
    made = run(saved(tmp_path, data, 1), tmp_path / "out", {"filter": {"cell_type": ["T", "B"]}})
    after = load_from_disk(made.dataset_path)
    assert after["label"][:] == [1, 0, 1, 0, 1]
    assert after.features["cell_type"] == features["cell_type"]
    assert after["length"][:] == [2] * 5
    assert any("'length' was wrong in 1 rows" in note for note in made.summary["notes"])


def test_a_label_column_may_be_called_label_and_another_one_is_kept(tmp_path: Path) -> None:
    names = ["x", "y"] * 30
    own = run(saved(tmp_path / "a", dataset(60, label=names)), tmp_path / "own", labels={"column": "label"})
    assert load_from_disk(own.dataset_path).features["label"].names == ["x", "y"]
    other = load_from_disk(run(saved(tmp_path / "b", dataset(60, label=names)), tmp_path / "other").dataset_path)
    assert other["input_label"][:] == names
    assert other.features["label"].names == ["B", "NK", "T"]


def test_mapping_decides_the_ids(tmp_path: Path) -> None:
    mapping = {"T": 0, "B": 1, "NK": 2, "never": 3}
    made = run(saved(tmp_path), tmp_path / "out", labels={"mapping": mapping})
    assert made.class_map == mapping
    after = load_from_disk(made.dataset_path)
    assert after["label"][:] == [mapping[name] for name in after["cell_type"]]


@pytest.mark.parametrize("indices", [False, True], ids=["plain", "with an indices mapping"])
def test_a_dataset_in_memory_gives_the_rows_of_the_saved_one(indices: bool, tmp_path: Path) -> None:
    data = dataset(300)
    if indices:
        data = data.select(np.random.default_rng(1).permutation(300)[:200])
    one = run(data, tmp_path / "memory", {"max_examples": 100})
    two = run(saved(tmp_path, data), tmp_path / "disk", {"max_examples": 100})
    assert load_from_disk(one.dataset_path).to_dict() == load_from_disk(two.dataset_path).to_dict()


def test_the_input_is_not_touched(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = tree(path)
    run(path, tmp_path / "out", {"filter": {"batch": 1}}, split=SplitSpec())
    assert tree(path) == before


def test_token_labels_follow_the_tokens(tmp_path: Path) -> None:
    before = rows()
    ids = {GENES[gene]: i for i, name in enumerate(["high", "low"]) for gene in CLASSES[name]}
    expected = [[ids.get(token, -100) for token in tokens] for tokens in before["input_ids"]]
    kept = [i for i, labels in enumerate(expected) if max(labels) >= 0]
    made = run(saved(tmp_path), tmp_path / "out", labels=token_labels(tmp_path, column="cell_type"))
    after = load_from_disk(made.dataset_path)
    assert 0 < len(kept) < 600
    assert after["labels"][:] == [expected[i] for i in kept]
    assert after["input_ids"][:] == [before["input_ids"][i] for i in kept]
    assert after["cell_type"][:] == [before["cell_type"][i] for i in kept]
    assert classmap.of_dataset(after, "labels") == {"high": 0, "low": 1} == made.class_map
    flat = [label for labels in expected for label in labels]
    assert made.summary["units"] == {"high": flat.count(0), "low": flat.count(1)}


def test_genes_are_accounted_for(tmp_path: Path) -> None:
    classes = {"low": ["ENSG01.4", "ENSG02", "nowhere"], "high": ["ENSG03", "ENSG04"]}
    labels = token_labels(tmp_path, gene_class_dict=classes)
    labels["vocabulary"] = vocabulary(tmp_path, {"ENSG01": 1, "ENSG02.1": 2, "ENSG03": 3, "ENSG04": 199999})
    made = run(saved(tmp_path, dataset(50)), tmp_path / "out", labels=labels)
    genes = made.summary["genes"]
    assert genes["missing_from_vocabulary"] == {"count": 1, "examples": ["nowhere"]}
    assert genes["per_class"]["low"] == {"given": 3, "known": 2, "seen": 2, "missing": ["nowhere"]}
    assert genes["per_class"]["high"] == {"given": 2, "known": 2, "seen": 1, "missing": []}


def test_tokens_beyond_the_vocabulary_have_no_class(tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": [[1, 7_000, 195], [2, 3, 199]]})
    after = load_from_disk(run(saved(tmp_path, data, 1), tmp_path / "out", labels=token_labels(tmp_path)).dataset_path)
    assert after["labels"][:] == [[1, -100, 0], [1, 1, 0]]


@pytest.mark.parametrize("kind", ["int16", "int32", "int64"])
@pytest.mark.parametrize("large", [False, True], ids=["list", "large list"])
def test_token_columns_of_every_type(kind: str, large: bool, tmp_path: Path) -> None:
    from datasets import LargeList

    feature = (LargeList if large else List)(Value(kind))
    ids = [[5, 191], [], [7], [192, 1, 3]] * 5
    data = Dataset.from_dict(
        {"input_ids": ids, "cell_type": ["a", "b", "a", "b"] * 5},
        Features({"input_ids": feature, "cell_type": Value("string")}),
    )
    made = run(saved(tmp_path, data, 1), tmp_path / "out")
    after = load_from_disk(made.dataset_path)
    assert after.features["input_ids"] == feature
    assert after["input_ids"][:] == [tokens for tokens in ids if tokens]
    assert any("5 rows have no token" in note for note in made.summary["notes"])
    tokens = load_from_disk(
        run(saved(tmp_path / "t", data, 1), tmp_path / "t", labels=token_labels(tmp_path)).dataset_path
    )
    assert tokens["labels"][:4] == [[1, 0], [1], [0, 1, 1], [1, 0]]


def test_columns_of_all_kinds_survive_the_choice_of_rows(tmp_path: Path) -> None:
    extra = {
        "nested": [{"a": i, "b": [str(i)]} for i in range(600)],
        "gaps": [None if i % 2 else [float(i)] for i in range(600)],
        "words": [[str(i), "x"] for i in range(600)],
    }
    data = dataset(600, **extra)
    made = run(saved(tmp_path, data), tmp_path / "out", {"filter": {"batch": [1, 4]}})
    wanted = [row for row in data if row["batch"] in (1, 4)]
    after = load_from_disk(made.dataset_path)
    for name in extra:
        assert after[name][:] == [row[name] for row in wanted]


def test_same_inputs_again_do_nothing(tmp_path: Path) -> None:
    path, split = saved(tmp_path), SplitSpec()
    first = run(path, tmp_path / "out", split=split)
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in tree(tmp_path / "out")}
    second = run(path, tmp_path / "out", {"nproc": 1}, split=split)
    assert (first.skipped, second.skipped) == (False, True)
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in tree(tmp_path / "out")} == before
    assert second.summary == first.summary
    assert second.inputs == first.inputs == inputs_digest(path, DataSpec(), LabelSpec(column="cell_type"), split)


def test_a_lost_mark_is_made_up_for(tmp_path: Path) -> None:
    path, split = saved(tmp_path), SplitSpec()
    run(path, tmp_path / "out", split=split)
    whole = tree(tmp_path / "out")
    for name in ("prepare.json", "x_labeled.dataset/state.json", "x_id_class_dict.pkl"):
        (tmp_path / "out" / name).unlink()
        assert not run(path, tmp_path / "out", split=split).skipped
        assert tree(tmp_path / "out") == whole


def test_summary_and_table_tell_what_happened(tmp_path: Path) -> None:
    path = saved(tmp_path)
    made = run(path, tmp_path / "out", {"max_examples": 100}, split=SplitSpec(strategy="group", column="donor"))
    lengths = load_from_disk(made.dataset_path)["length"][:]
    told = made.summary["lengths"]
    assert (told["min"], told["median"], told["max"]) == (min(lengths), np.median(lengths), max(lengths))
    assert sum(told["histogram"]["counts"]) == 100
    assert len(told["histogram"]["edges"]) == len(told["histogram"]["counts"]) + 1
    table = made.table()
    for word in ("global cap", "NK", "100", "split by group", "0 of 8 groups"):
        assert word in table
