"""Splits: nothing on two sides, classes balanced, the same everywhere; and the audit that looks for copies."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_from_disk

from prepare_data import dataset, saved, vocabulary
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.data.hashing import priorities
from sortase.data.source import MemorySource
from sortase.data.split import audit as audit_module
from sortase.data.split.audit import audit
from sortase.data.split.groups import assign_groups
from sortase.data.split.split import SIDES, labelled_tokens, make_split, stratified
from sortase.errors import InputError
from sortase.prepare.prepare import prepare

FRACTIONS = np.array([0.7, 0.1, 0.2])


def divide(codes: list[int], fractions: np.ndarray = FRACTIONS, seed: int = 42) -> np.ndarray:
    return stratified(np.array(codes), fractions, priorities(0, len(codes), seed))


def split_of(data: Dataset, stratify: str | None = "cell_type", seed: int = 42, **spec: Any) -> Any:
    return make_split(MemorySource(data), SplitSpec(**spec), seed, stratify)


def test_every_class_is_divided_by_the_fractions() -> None:
    codes = [0] * 1000 + [1] * 100 + [2] * 10
    sides = divide(codes)
    for code, n in ((0, 1000), (1, 100), (2, 10)):
        mine = np.bincount(sides[np.array(codes) == code], minlength=3)
        assert mine.tolist() == [n * 7 // 10, n // 10, n // 5]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        pytest.param(1, [1, 0, 0], id="one row trains"),
        pytest.param(2, [1, 0, 1], id="two rows are on train and test"),
        pytest.param(3, [1, 1, 1], id="three rows are on all sides"),
    ],
)
def test_small_classes_reach_as_many_sides_as_they_can(n: int, expected: list[int]) -> None:
    sides = divide([0] * 100 + [1] * n)
    assert np.bincount(sides[100:], minlength=3).tolist() == expected


@pytest.mark.parametrize(
    ("fractions", "empty"),
    [pytest.param([0.8, 0.0, 0.2], 1, id="no validation"), pytest.param([0.9, 0.1, 0.0], 2, id="no test")],
)
def test_a_side_of_size_zero_is_empty(fractions: list[float], empty: int) -> None:
    counts = np.bincount(divide([0] * 50 + [1] * 3, np.array(fractions)), minlength=3)
    assert counts[empty] == 0
    assert counts.sum() == 53


def test_seeds_give_other_splits_and_the_same_seed_the_same() -> None:
    assert (divide([0] * 500, seed=1) == divide([0] * 500, seed=1)).all()
    assert 0.3 < (divide([0] * 500, seed=1) != divide([0] * 500, seed=2)).mean() < 0.6


def test_another_process_computes_the_same() -> None:
    code = (
        "import numpy as np; from sortase.data.hashing import priorities;"
        "from sortase.data.split.split import stratified;"
        "print(stratified(np.arange(60) % 3, np.array([.7, .1, .2]), priorities(0, 60, 42)).tolist())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert told == str(divide([i % 3 for i in range(60)]).tolist())


def test_priorities_are_what_they_always_were() -> None:
    assert priorities(0, 3, 42).tolist() == [6332618229526065668, 17532488217563185893, 8238092213399105094]
    assert (priorities(0, 1000, 7)[400:] == priorities(400, 600, 7)).all()
    assert len(np.unique(priorities(0, 100_000, 7))) == 100_000


def test_groups_stay_together_and_classes_stay_balanced() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 4000)
    codes = rng.choice(3, 4000, p=[0.6, 0.3, 0.1])
    sides = assign_groups(codes, groups, FRACTIONS, priorities(0, 40, 1), "donor")
    assert all(len(set(sides[groups == group])) == 1 for group in range(40))
    for code in range(3):
        share = np.bincount(sides[codes == code], minlength=3) / (codes == code).sum()
        assert np.abs(share - FRACTIONS).max() < 0.06


def test_groups_that_hold_one_class_each_are_spread() -> None:
    groups = np.repeat(np.arange(12), 10)
    codes = groups // 4
    sides = assign_groups(codes, groups, FRACTIONS, priorities(0, 12, 1), "donor")
    for code in range(3):
        assert {0, 2} <= set(sides[codes == code])


def test_two_groups_are_train_and_test() -> None:
    groups = np.array([0] * 90 + [1] * 10)
    sides = assign_groups(np.zeros(100, np.int64), groups, FRACTIONS, priorities(0, 2, 1), "donor")
    assert (sides[0], sides[99]) == (0, 2)


def test_a_class_in_one_group_is_named() -> None:
    names = ["B" if i % 2 else "T" for i in range(600)]
    donors = [f"d{i % 7}" for i in range(600)]
    data = dataset(cell_type=[*names[:590], *["rare"] * 10], donor=[*donors[:590], *["d0"] * 10])
    summary = split_of(data, strategy="group", column="donor").summary
    assert summary["groups"] == {"count": 7, "crossing": 0}
    absent = {(entry["class"], entry["side"]) for entry in summary["missing"]}
    assert {name for name, _ in absent} == {"rare"}
    assert len(absent) == 2
    assert "1 value of column 'donor'" in summary["missing"][0]["why"]
    for side, values in summary["sides"].items():
        assert values["rows"] == sum(values["per_class"].values()), side


def test_a_random_split_can_tell_how_many_groups_cross() -> None:
    assert split_of(dataset(), strategy="random", column="donor").summary["groups"] == {"count": 8, "crossing": 8}


@pytest.mark.parametrize(
    ("values", "spec"),
    [
        pytest.param(["train", "test", "validation"], {}, id="names of sides"),
        pytest.param(["train", "test", "val"], {}, id="a usual short name"),
        pytest.param(["x", "y", "z"], {"sides": {"train": ["x"], "test": ["y"], "validation": ["z"]}}, id="mapping"),
        pytest.param([1, 2, 3], {"sides": {"train": [1], "test": [2], "validation": [3]}}, id="mapping of numbers"),
    ],
)
def test_a_column_can_say_the_side(values: list[Any], spec: dict[str, Any]) -> None:
    data = dataset(600, part=[values[i % 3] for i in range(600)])
    split = split_of(data, strategy="column", column="part", **spec)
    assert [SIDES[side] for side in split.sides[:3]] == ["train", "test", "validation"]
    assert (split.sides == np.tile(split.sides[:3], 200)).all()


def test_a_column_without_test_rows_is_refused() -> None:
    with pytest.raises(InputError, match="no row on the test side"):
        split_of(dataset(part=["train"] * 600), strategy="column", column="part")


def test_tokens_are_held_out_by_class(tmp_path: Path) -> None:
    classes = {"low": [f"G{i}" for i in range(20)], "high": [f"G{i}" for i in range(100, 140)]}
    labels = LabelSpec(task="token", gene_class_dict=classes, vocabulary=vocabulary(tmp_path))
    spec = SplitSpec(strategy="token", validation_size=0.2)
    made = prepare(saved(tmp_path), DataSpec(), labels, str(tmp_path / "out"), "x", split=spec)
    table = pq.read_table(str(made.split_path))
    assert table.column_names == ["token", "side"]
    assert table.schema.metadata == {b"sortase.strategy": b"token"}
    side = dict(zip(table["token"].to_pylist(), table["side"].to_pylist(), strict=True))
    assert sorted(side) == [*range(20), *range(100, 140)]
    assert Counter(side[i] for i in range(20)) == {"train": 12, "validation": 4, "test": 4}
    assert Counter(side[i] for i in range(100, 140)) == {"train": 24, "validation": 8, "test": 8}
    assert made.summary["split"]["sides"]["test"]["per_class"] == {"high": 8, "low": 4}
    again = make_split(MemorySource(load_from_disk(made.dataset_path)), spec, 42, label_column="labels")
    assert dict(zip(again.members.tolist(), [SIDES[i] for i in again.sides], strict=True)) == side


def test_a_token_with_two_labels_cannot_be_held_out() -> None:
    data = Dataset.from_dict({"input_ids": [[1, 2], [1, 3]], "labels": [[0, -100], [1, -100]]})
    with pytest.raises(InputError, match="token 1 has different labels"):
        labelled_tokens(MemorySource(data), "labels")


def test_split_file_names_every_row_once(tmp_path: Path) -> None:
    made = prepare(
        saved(tmp_path), DataSpec(), LabelSpec(column="cell_type"), str(tmp_path / "out"), "x", split=SplitSpec()
    )
    table = pq.read_table(str(made.split_path))
    assert table["row"].to_pylist() == list(range(600))
    assert {str(kind) for kind in table.schema.types} == {"int64", "string"}
    counts = Counter(table["side"].to_pylist())
    assert counts == {side: values["rows"] for side, values in made.summary["split"]["sides"].items()}
    names = load_from_disk(made.dataset_path)["cell_type"][:]
    per_class = Counter(zip(table["side"].to_pylist(), names, strict=True))
    for side, values in made.summary["split"]["sides"].items():
        assert values["per_class"] == {name: per_class[side, name] for name in values["per_class"]}


def near_copies(repeat: bool) -> tuple[Dataset, np.ndarray]:
    """100 rows of 200 tokens, the last 20 of which are copies (4) and near-copies (16) of the first 20; on test."""
    rng = np.random.default_rng(0)
    vocabulary_size = 20 if repeat else 5000
    rows = [
        (rng.integers(0, 20, 200) if repeat else rng.permutation(vocabulary_size)[:200]).tolist() for _ in range(80)
    ]
    later = [list(row) for row in rows[:20]]
    for row in later[4:]:
        row[100] = 4 if repeat and row[100] != 4 else 5 if repeat else vocabulary_size + 1
    return Dataset.from_dict({"input_ids": rows + later}), np.array([0] * 80 + [2] * 20, dtype=np.int8)


@pytest.mark.parametrize("repeat", [False, True], ids=["sets", "repeating tokens"])
def test_audit_finds_copies_and_near_copies(repeat: bool) -> None:
    data, sides = near_copies(repeat)
    found = audit(MemorySource(data), sides, 42)
    assert found["checked"] == 100
    assert found["copies"] == 4
    assert 18 <= found["crossing"] <= 20
    assert found["examples"][:4] == [[i, 80 + i, 1.0] for i in range(4)]
    assert all(b == a + 80 and similarity >= 0.9 for a, b, similarity in found["examples"])
    assert found["measure"] == ("runs of 5 tokens" if repeat else "sets of tokens")


def test_audit_finds_nothing_where_nothing_is() -> None:
    data, sides = near_copies(False)
    assert audit(MemorySource(data), np.zeros_like(sides), 42)["crossing"] == 0
    unrelated = MemorySource(dataset(300))
    assert audit(unrelated, np.arange(300, dtype=np.int8) % 3, 42)["crossing"] == 0


def test_audit_of_few_rows_still_finds_all_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_module, "MOST_TOKENS", 2000)
    data, sides = near_copies(False)
    found = audit(MemorySource(data), sides, 42)
    assert (found["checked"], found["rows"], found["copies"]) == (10, 100, 4)


@pytest.mark.parametrize(
    "ids", [[[1], [1]], [[1, 2, 3], [3, 2, 1]], [[], []]], ids=["one token", "another order", "empty"]
)
def test_audit_of_short_rows(ids: list[list[int]]) -> None:
    import pyarrow as pa

    data = Dataset(pa.table({"input_ids": pa.array(ids, pa.list_(pa.int32()))}))
    found = audit(MemorySource(data), np.array([0, 2], dtype=np.int8), 42)
    assert found["copies"] == (1 if ids[0] == ids[1] != [] else 0)
