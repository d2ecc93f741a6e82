"""The public utility functions."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from prepare_data import GENES, dataset, saved, tree, vocabulary
from sortase import (
    downsample_and_shuffle,
    flatten_list,
    label_classes,
    load_and_filter,
    remove_rare,
    rename_cols,
    subsample_by_class,
)
from sortase.errors import SortaseError

STATE = {"state_key": "cell_type"}


@pytest.mark.parametrize("indices", [False, True], ids=["plain", "with an indices mapping"])
def test_filters_keep_matching_rows_in_order(indices: bool) -> None:
    data = dataset().select(range(599, -1, -2)) if indices else dataset()
    kept = load_and_filter({"donor": ["d1", "d2"], "batch": 3}, 4, data)
    wanted = [row for row in data if row["donor"] in ("d1", "d2") and row["batch"] == 3]
    assert kept.to_list() == wanted != []


def test_loading_writes_nothing_beside_the_data(tmp_path: Path) -> None:
    path = saved(tmp_path)
    before = tree(tmp_path)
    kept = remove_rare(load_and_filter({"batch": 1}, 2, path), 0.01, "cell_type", 2)
    label_classes("cell", rename_cols(downsample_and_shuffle(kept, 50, 20, STATE), "cell_type"), {}, "", 2)
    assert load_and_filter(None, 1, path).to_list() == dataset().to_list()
    assert tree(tmp_path) == before


def test_rare_values_go_and_the_threshold_itself_stays() -> None:
    data = dataset(100, cell_type=["A"] * 75 + ["B"] * 20 + ["C"] * 5)
    assert set(remove_rare(data, 0.05, "cell_type", 1)["cell_type"]) == {"A", "B", "C"}
    assert Counter(remove_rare(data, 0.051, "cell_type", 1)["cell_type"]) == {"A": 75, "B": 20}


@pytest.mark.parametrize(("most", "per_class"), [(None, None), (100, None), (None, 30), (400, 50), (10_000, 10_000)])
def test_downsampling_respects_caps_and_shuffles(most: int | None, per_class: int | None) -> None:
    data = dataset(600, row=list(range(600)))
    result = downsample_and_shuffle(data, most, per_class, STATE)
    counts = Counter(result["cell_type"])
    overall = Counter(downsample_and_shuffle(data, most, None, STATE)["cell_type"])
    assert counts == {name: min(n, per_class or n) for name, n in overall.items()}
    assert sum(overall.values()) == min(600, most or 600)
    rows = result["row"][:]
    assert len(set(rows)) == len(rows)
    assert np.mean(np.diff(rows) > 0) < 0.7
    assert rows == downsample_and_shuffle(data, most, per_class, STATE)["row"][:]


def test_the_callers_random_state_is_left_alone() -> None:
    random.seed(1)
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist()
    downsample_and_shuffle(dataset(), 50, 5, STATE)
    subsample_by_class(["a", "b"] * 50, 5)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_subsampling_takes_up_to_n_of_each_label() -> None:
    labels = ["a"] * 50 + ["b"] * 3 + [7] * 20
    chosen = subsample_by_class(labels, 5)
    assert Counter(labels[i] for i in chosen) == {"a": 5, "b": 3, 7: 5}
    assert chosen == sorted(chosen) == subsample_by_class(labels, 5)
    assert all(type(i) is int for i in chosen)
    assert chosen[:5] != list(range(5))
    assert subsample_by_class([], 5) == []


def test_flattening_and_renaming() -> None:
    assert flatten_list([[1, 2], (), [[3]]]) == [1, 2, [3]]
    assert "label" in rename_cols(dataset(9), "cell_type").column_names


@pytest.mark.parametrize("kind", ["cell", "sequence"])
def test_labels_of_rows(kind: str) -> None:
    names = ["T", "B", None, "B"] * 5
    data = dataset(20, cell_type=names)
    labelled, ids = label_classes(kind, rename_cols(data, "cell_type"), {}, "", 2)
    assert ids == {"B": 0, "T": 1}
    assert labelled.features["label"].names == ["B", "T"]
    assert labelled["label"][:] == [ids[name] for name in names if name is not None]
    assert labelled["input_ids"][:] == [row["input_ids"] for row in data if row["cell_type"] is not None]


@pytest.mark.parametrize("kind", ["gene", "token"])
def test_labels_of_tokens(kind: str, tmp_path: Path) -> None:
    classes = {"b": ["G1", "G2"], "a": ["G3", "not known"]}
    data = dataset(100).select(range(0, 100, 2))
    with pytest.warns(UserWarning, match=r"skipped: class 'a' 1 of 2 \(not known\)"):
        labelled, ids = label_classes(kind, data, classes, vocabulary(tmp_path), 2)
    assert ids == {"a": 0, "b": 1}
    of_token = {GENES["G1"]: 1, GENES["G2"]: 1, GENES["G3"]: 0}
    expected = [[of_token.get(token, -100) for token in tokens] for tokens in data["input_ids"]]
    wanted = [labels for labels in expected if max(labels) >= 0]
    assert labelled["labels"][:] == wanted
    assert 0 < len(wanted) < 50


@pytest.mark.parametrize(
    ("call", "words"),
    [
        pytest.param(lambda d: load_and_filter({"x": 1}, 1, d), "'x'", id="filter column"),
        pytest.param(lambda d: load_and_filter({"donor": "z"}, 1, d), "'z'", id="filter leaves nothing"),
        pytest.param(lambda d: load_and_filter(None, 0, d), "nproc", id="nproc"),
        pytest.param(lambda d: load_and_filter(None, 1, 3), "int", id="source"),
        pytest.param(lambda d: remove_rare(d, 2, "donor", 1), "2", id="threshold"),
        pytest.param(lambda d: remove_rare(d, 0.9, "donor", 1), "0.9", id="all rare"),
        pytest.param(lambda d: remove_rare(d, 0.1, "don", 1), "'donor'", id="rare column"),
        pytest.param(lambda d: downsample_and_shuffle(d, 0, None, STATE), "max_ncells", id="cap"),
        pytest.param(lambda d: downsample_and_shuffle(d, None, 5, {}), "state_key", id="state key"),
        pytest.param(lambda d: subsample_by_class([1], -1), "-1", id="negative"),
        pytest.param(lambda d: rename_cols(d, "x"), "'x'", id="rename"),
        pytest.param(lambda d: rename_cols(d.add_column("label", [0] * 600), "donor"), "label", id="rename clash"),
        pytest.param(lambda d: label_classes("nucleus", d, {}, "", 1), "'cell'.*'nucleus'", id="kind"),
        pytest.param(lambda d: label_classes("cell", d, {}, "", 1), "'label'", id="no label"),
        pytest.param(lambda d: label_classes("gene", d, {}, "", 1), "class_dict", id="no genes"),
    ],
)
def test_bad_arguments(call: Any, words: str) -> None:
    with pytest.raises(SortaseError, match=words) as caught:
        call(dataset())
    assert caught.value.exit_code == 2


def test_a_dataset_without_rows_stays_one() -> None:
    data: Dataset = dataset(9).select([])
    assert len(remove_rare(data, 0.5, "donor", 1)) == 0
    assert len(downsample_and_shuffle(data, 5, 5, STATE)) == 0
