"""Profiles of prepared data, and the drift between them: known answers, chance, limits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_from_disk

from makers import architecture
from prepare_data import TOKENS, dataset, vocabulary
from sortase import storage
from sortase.config.drift import DriftSpec
from sortase.config.run import Config
from sortase.data.source import open_source
from sortase.drift.drift import by_chance, check, drift, markdown, stability_index, text, total_variation
from sortase.drift.profile import FORMAT, measured, numbers, pack, profile, token_counts, training_ids
from sortase.errors import ConfigError, InputError
from sortase.pipeline.run import run
from sortase.runs.folder import RunFolder

LENGTH = 20


def made(
    classes: dict[str, int] | None = None,
    tokens: list[list[int]] | None = None,
    training: np.ndarray | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """A profile of rows of a few common tokens; by default 1,000 of them in two classes."""
    classes = classes or {"a": 500, "b": 500}
    if tokens is None:
        tokens = [[(i + j) % 50 for j in range(LENGTH - i % 10)] for i in range(sum(classes.values()))]
    source = open_source(Dataset.from_dict({"input_ids": tokens}))
    mask = np.ones(len(tokens), dtype=bool) if training is None else training
    told = {"format": FORMAT, "task": "sequence", "unit": "row", "classes": classes, "sides": None, "genes": None}
    return told | measured(source, mask) | changes


def value(found: Any, setting: str) -> float:
    return float(next(each.value for each in found.measures if each.setting == setting))


SHARES = [
    pytest.param({"a": 500, "b": 500}, {"a": 800, "b": 200}, 0.3, ["class_shares"], id="moved"),
    pytest.param({"a": 500, "b": 500}, {"a": 505, "b": 495}, 0.005, [], id="hardly moved"),
    pytest.param({"a": 50, "b": 50}, {"a": 500, "b": 500}, 0.0, [], id="ten times the data"),
    pytest.param({"a": 500, "b": 500}, {"a": 7, "b": 3}, 0.2, ["min_rows"], id="ten rows say little"),
    pytest.param({"a": 5, "b": 5}, {"a": 7, "b": 3}, 0.2, [], id="ten rows on either side"),
    pytest.param({"a": 10, "b": 0}, {"a": 0, "b": 10}, 1.0,
                 ["class_shares", "new_classes", "vanished_classes"], id="ten rows and all of it"),
    pytest.param({"a": 450, "b": 450, "c": 100}, {"a": 500, "b": 500, "c": 0}, 0.1, ["vanished_classes"], id="gone"),
    pytest.param({"a": 499, "b": 499, "c": 2}, {"a": 250, "b": 250, "c": 0}, 0.002, [], id="a rare one is gone"),
    pytest.param({"a": 500, "b": 500}, {"a": 500, "b": 480, "new": 20}, 0.02, ["new_classes"], id="new"),
    pytest.param({"a": 500, "b": 500}, {"a": 500, "b": 499, "new": 1}, 0.001, [], id="one row of a new one"),
    pytest.param({"a": 500, "b": 500}, {"a": 240, "b": 240}, 0.0, ["min_rows"], id="half of the rows are gone"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "distance", "exceeded"), SHARES)
def test_drift_of_classes(before: dict[str, int], after: dict[str, int], distance: float, exceeded: list[str]) -> None:
    found = drift(made(before), made(after), DriftSpec())
    assert value(found, "class_shares") == pytest.approx(distance, abs=1e-6)
    assert sorted(found.exceeded) == sorted(exceeded)
    assert json.loads(json.dumps(found.as_json()))["exceeded"] == found.exceeded
    assert set(found.new) == {name for name in after if after[name] and not before.get(name)}
    assert set(found.vanished) == {name for name in before if before[name] and not after.get(name)}


def test_the_same_data_do_not_drift() -> None:
    one = made({"a": 300, "b": 200, "c": 1})
    found = drift(one, one, DriftSpec())
    assert found.exceeded == [] and found.words == [] and found.classes == () and found.unseen_ids == 0
    assert {each.setting: each.value for each in found.measures if each.value} == {"min_rows": 1.0}


def test_the_classes_that_moved_most_come_first() -> None:
    found = drift(made({"a": 500, "b": 400, "c": 100}), made({"a": 510, "b": 190, "c": 300}), DriftSpec())
    assert [each["class"] for each in found.classes] == ["b", "c", "a"]
    assert found.classes[0] == {"class": "b", "before": 0.4, "after": 0.19, "units": [400, 190]}


def test_distances_by_hand() -> None:
    assert total_variation(np.array([2, 2]), np.array([1, 3])) == pytest.approx(0.25)
    old, new = np.array([299.5, 99.5]), np.array([99.5, 299.5])
    expected = 2 * (300 / 400 - 100 / 400) * np.log(3)
    assert stability_index(old, new) == pytest.approx(expected)
    assert stability_index(np.array([5, 0]), np.array([0, 5])) < np.inf


def of_lengths(lengths: np.ndarray) -> list[list[int]]:
    return [list(range(length)) for length in lengths.tolist()]


LENGTHS = [
    pytest.param(np.full(400, 10), np.full(400, 10), False, id="all the same"),
    pytest.param(np.full(400, 10), np.full(400, 9), True, id="one shorter than all before"),
    pytest.param(np.full(400, 10), np.full(400, 11), True, id="one longer than all before"),
    pytest.param(np.arange(400) % 40 + 1, np.arange(399, -1, -1) % 40 + 1, False, id="another order"),
    pytest.param(np.arange(400) % 40 + 1, np.arange(400) % 20 + 1, True, id="the longer half is gone"),
    pytest.param(np.arange(400) % 40 + 1, np.arange(5) * 4 + 10, False, id="five rows in the middle"),
    pytest.param(np.arange(400) % 40 + 1, 10 ** (np.arange(400) % 40 > 35) * (np.arange(400) % 40 + 1), True,
                 id="the longest ones became longer"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "beyond"), LENGTHS)
def test_drift_of_lengths(before: np.ndarray, after: np.ndarray, beyond: bool) -> None:
    sides = [made({"a": len(each)}, of_lengths(each)) for each in (before, after)]
    found = drift(sides[0], sides[1], DriftSpec(min_rows=None, class_shares=None, unseen_tokens=None))
    assert found.exceeded == (["lengths"] if beyond else [])
    assert found.lengths["median"][1] == np.quantile(after, 0.5, method="inverted_cdf")
    assert found.lengths["95th percentile"][0] == np.quantile(before, 0.95, method="inverted_cdf")
    assert found.lengths["mean"] == (pytest.approx(before.mean(), abs=1e-3), pytest.approx(after.mean(), abs=1e-3))


def test_tokens_that_training_never_showed() -> None:
    known = [[1, 2, 3, 4]] * 100
    training = np.arange(100) < 80
    before = made({"a": 100}, known[:80] + [[1, 2, 3, 9]] * 20, training)
    after = made({"a": 100}, known[:50] + [[1, 2, 9, 77]] * 50)
    found = drift(before, after, DriftSpec())
    assert value(found, "unseen_tokens") == pytest.approx(0.25)
    assert found.unseen_ids == 2 and found.exceeded == ["unseen_tokens"]
    assert "25.00% of the tokens" in found.words[0]


def test_rare_tokens_of_the_same_population_are_no_drift() -> None:
    rng = np.random.default_rng(5)
    texts = [rng.zipf(1.3, 40).clip(max=100_000).tolist() for _ in range(600)]
    found = drift(made({"a": 300}, texts[:300]), made({"a": 300}, texts[300:]), DriftSpec())
    assert value(found, "unseen_tokens") > 0.01
    assert found.exceeded == []
    assert any("by chance alone" in line for line in found.words)


@pytest.mark.parametrize("rows", [12, 60, 400])
def test_samples_of_one_population_rarely_alarm(rows: int) -> None:
    rng = np.random.default_rng(11)
    names, shares = ["a", "b", "c", "d"], [0.6, 0.3, 0.07, 0.03]

    def sample(size: int) -> dict[str, Any]:
        drawn = dict(zip(names, rng.multinomial(size, shares).tolist(), strict=True))
        return made(drawn, [rng.permutation(80)[:n].tolist() for n in rng.integers(5, 40, size)])

    spec = DriftSpec(min_rows=None)
    alarms = [drift(sample(400), sample(rows), spec).exceeded for _ in range(40)]
    assert sum(map(bool, alarms)) <= 3


def of_classes(*counts: dict[str, int]) -> list[dict[str, Any]]:
    """Profiles with these counts of classes; the rest of them is of a few rows."""
    told = made({"a": 5})
    return [told | {"classes": each, "rows": sum(each.values())} for each in counts]


@pytest.mark.parametrize("rows", [7_000, 8_000])
def test_samples_with_many_rare_classes_rarely_alarm(rows: int) -> None:
    rng = np.random.default_rng(3)
    names = [str(i) for i in range(1_000)]

    def sample() -> dict[str, int]:
        return dict(zip(names, rng.multinomial(rows, np.full(1_000, 0.001)).tolist(), strict=True))

    found = [drift(*of_classes(sample(), sample()), DriftSpec()) for _ in range(20)]
    assert any(value(each, "new_classes") for each in found), "this test says nothing"
    assert sum(bool(each.exceeded) for each in found) <= 2


def test_a_class_with_many_rows_is_new_or_gone_however_many_rare_ones_are() -> None:
    rare = {f"rare {i}": 1 for i in range(200)}
    others = {f"other {i}": 1 for i in range(200)}
    before, after = of_classes({"a": 900, "gone": 30} | rare, {"a": 900, "new": 30} | others)
    free = {"class_shares": None, "min_rows": None}
    found = drift(before, after, DriftSpec(**free))
    assert sorted(found.exceeded) == ["new_classes", "vanished_classes"]
    assert "now: 201; the limit retrain.drift.new_classes is 0, and chance alone explains 200 of them" in found.words[0]
    assert drift(before, after, DriftSpec(new_classes=1, vanished_classes=1, **free)).exceeded == []


@pytest.mark.parametrize(("limit", "exceeded"), [(0, ["vanished_classes"]), (1, [])])
def test_chance_counts_beside_the_limit(limit: int, exceeded: list[str]) -> None:
    before, after = of_classes({"a": 900, "gone": 100, "rare": 1}, {"a": 1_001})
    found = drift(before, after, DriftSpec(class_shares=None, vanished_classes=limit))
    assert value(found, "vanished_classes") == 2
    assert found.exceeded == exceeded
    assert any("but chance alone explains 1 of them" in line for line in found.words) == (not exceeded)


class TestLeftOut:
    """Rows that were not prepared, as the model does not know their labels."""

    def test_they_count_as_new_classes(self) -> None:
        before, after = of_classes({"a": 500, "b": 500}, {"a": 450, "b": 450})
        assert drift(before, after, DriftSpec()).exceeded == []
        found = drift(before, after, DriftSpec(), left_out={"x": 40, "y": 60})
        assert found.exceeded == ["new_classes"]
        assert (value(found, "new_classes"), value(found, "class_shares")) == (2, 0.1)
        assert (value(found, "min_rows"), found.new, found.rows) == (0.9, {}, (1_000, 900))
        assert found.as_json()["left_out"] == {"y": 60, "x": 40}
        words = "left out, as the model does not know their labels: 100 rows (10%): y (60 rows), x (40 rows)"
        assert words in found.table() and words in found.markdown()
        refusing = DriftSpec(action="refuse")
        with pytest.raises(InputError, match=r"now: 2; .*does not know their labels: 100 rows"):
            check(drift(before, after, refusing, left_out={"x": 40, "y": 60}), refusing)

    def test_a_few_rows_are_told_but_may_be_chance(self) -> None:
        before, after = of_classes({"a": 500, "b": 500}, {"a": 500, "b": 500})
        found = drift(before, after, DriftSpec(), left_out={"x": 1, "none of these": 0})
        assert found.exceeded == [] and found.left_out == {"x": 1}
        assert "labels: 1 row (0.0999%): x (1 row)" in found.table()
        assert any("chance alone explains 1 of them" in line for line in found.words)

    def test_many_of_them_and_their_names(self) -> None:
        before, after = of_classes({"a": 500}, {"a": 400, "new": 30})
        names = {"a|b\n# x": 50} | {f"label {i}": 20 for i in range(30)}
        found = drift(before, after, DriftSpec(), left_out=names)
        page = found.markdown()
        assert "a\\|b # x (50 rows), label 0 (20 rows)" in page and "\n# x" not in page + found.table()
        assert "label 6 (20 rows) and 23 more" in page and "label 7" not in page
        assert "new classes: new (30 rows)\n" in page

    def test_drift_that_was_stored_without_them_is_read(self) -> None:
        told = drift(made(), made({"a": 900, "c": 100}), DriftSpec()).as_json()
        assert told.pop("left_out") == {}
        for measure in told["measures"]:
            measure.pop("count")
        assert "new classes: c (100 rows)" in markdown(told) and "left out" not in markdown(told)


def test_more_classes_than_are_named() -> None:
    found = drift(*of_classes({"a": 500}, {f"b{i}": 20 for i in range(30)}), DriftSpec())
    assert "b7 (20 rows) and 22 more" in found.table()


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        pytest.param([1_534, 1_534, 1_534, 1_535], "mean 1,534 →", id="thousands"),
        pytest.param([999, 1_000, 1_000, 1_000], "mean 1,000 →", id="nearly a thousand"),
        pytest.param([15, 15, 15, 16], "mean 15.2 →", id="tens"),
    ],
)
def test_numbers_are_read_at_a_glance(lengths: list[int], words: str) -> None:
    found = drift(made({"a": 4}, of_lengths(np.array(lengths))), made(), DriftSpec(new_classes=1_000_000))
    assert words in found.table()
    assert "≤ 1,000,000" in found.table()
    assert "e+" not in found.table() + found.markdown()


def test_chance_is_the_same_every_time_and_shrinks_with_the_data() -> None:
    counts = [np.array([n, n, n]) for n in (10, 100, 10_000)]
    bounds = [by_chance(total_variation, each, each) for each in counts]
    assert bounds == [by_chance(total_variation, each, each) for each in counts]
    assert bounds[0] > bounds[1] > bounds[2] > 0


def genes(known: int, of: int = 1000) -> dict[str, Any]:
    return {"genes": {"genes": of, "genes_with_median": known}}


@pytest.mark.parametrize(("now", "exceeded"), [(980, []), (940, ["unknown_genes"]), (1000, [])])
def test_genes_that_become_no_token(now: int, exceeded: list[str]) -> None:
    assert drift(made(**genes(1000)), made(**genes(now)), DriftSpec()).exceeded == exceeded
    assert drift(made(), made(**genes(now)), DriftSpec()).exceeded == []


def test_a_limit_of_null_is_none() -> None:
    nothing = DriftSpec(**{name: None for name in DriftSpec.model_fields if name != "action"})
    found = drift(made({"a": 900, "b": 100}), made({"a": 10, "c": 90}), nothing)
    assert found.exceeded == [] and found.words[:1] == [
        "with 100 rows on one side only a large drift can be told from chance"
    ]
    assert "| none |" in found.markdown()


def test_drift_is_refused_only_where_that_is_asked_for() -> None:
    before, after = made({"a": 500, "b": 500}), made({"a": 900, "b": 100})
    check(drift(before, after, DriftSpec()), DriftSpec())
    refusing = DriftSpec(action="refuse")
    check(drift(before, before, refusing), refusing)
    with pytest.raises(InputError, match=r"moved by 0\.4 .*retrain\.drift\.class_shares is 0\.1.*action: warn"):
        check(drift(before, after, refusing), refusing)
    spec = DriftSpec(action="refuse", class_shares=0.41)
    check(drift(before, after, spec), spec)


def test_what_is_said_can_be_read_anywhere() -> None:
    names = {"a|b": 500, "<script>": 500, "`c`": 0}
    found = drift(made(names), made({"a|b": 200, "<script>": 500, "`c`": 300}), DriftSpec())
    page = found.markdown()
    assert markdown(json.loads(json.dumps(found.as_json()))) == page
    tables = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {8}
    assert "<script>" not in page and "`c`" not in page.replace("\\`", "")
    shown = found.table()
    assert shown == text(found.as_json())
    assert "class shares (total variation)" in shown and "BEYOND" in shown
    assert "new classes: `c` (300 rows)" in shown


def test_profiles_of_other_kinds_are_not_compared() -> None:
    with pytest.raises(InputError, match="task token, the new ones for task sequence"):
        drift(made(task="token"), made(), DriftSpec())
    with pytest.raises(InputError, match="format 99"):
        drift(made(format=99), made(), DriftSpec())


def settings(root: str, task: str, folder: Path, **sections: Any) -> Config:
    dataset(300).save_to_disk(str(folder / "cells"))
    storage.upload(folder / "cells", storage.join(root, "cells"))
    labels: dict[str, Any] = {"column": "cell_type"}
    if task == "token":
        names = {"low": ["G0", "G1", "G2"], "high": ["G197", "G198"]}
        labels = {"task": "token", "gene_class_dict": names, "vocabulary": vocabulary(folder)}
    return Config(
        run={"name": "small", "output": storage.join(root, "runs"), "prefix": "p"},
        data={"dataset": storage.join(root, "cells")},
        labels=labels,
        model={"config": architecture(vocab_size=TOKENS)},
        **sections,
    )


@pytest.mark.parametrize(
    ("task", "split"),
    [
        ("sequence", {}),
        ("sequence", {"strategy": "group", "column": "donor"}),
        ("token", {}),
        ("token", {"strategy": "token"}),
    ],
)
def test_the_profile_of_a_run(task: str, split: dict[str, Any], root: str, tmp_path: Path) -> None:
    run(settings(root, task, tmp_path, split=split), only="prepare")
    folder = RunFolder(storage.join(root, "runs", "small"))
    found = profile(folder)
    assert json.loads(json.dumps(found)) == found == profile(folder)
    rows = load_from_disk(str(storage.fetch(folder.path("data", "p_labeled.dataset"))))
    ids = rows["input_ids"][:]
    described = storage.read_json(folder.path("data", "prepare.json"))
    assert (found["task"], found["rows"], found["classes"]) == (task, len(rows), described["units"])
    assert found["sides"]["test"] == described["split"]["sides"]["test"]["per_class"]
    seen, counts = np.unique(np.concatenate(ids), return_counts=True)
    for got, expected in zip(token_counts(found["tokens"]), (seen, counts), strict=True):
        np.testing.assert_array_equal(got, expected)
    with storage.open_input(folder.path("data", "split.parquet")) as file:
        table = pq.read_table(file).to_pydict()
    train = (
        [ids[i] for i, side in zip(table["row"], table["side"], strict=True) if side == "train"]
        if "row" in table
        else ids
    )
    shown, times = np.unique(np.concatenate(train), return_counts=True)
    np.testing.assert_array_equal(training_ids(found["tokens"]), shown)
    assert found["tokens"]["training_occurrences"] == times.sum() and found["tokens"]["once"] == (times == 1).sum()
    lengths = found["lengths"]
    values, of = np.unique([len(row) for row in ids], return_counts=True)
    assert (numbers(lengths["values"]).tolist(), numbers(lengths["rows"]).tolist()) == (values.tolist(), of.tolist())
    assert lengths["at_max"] == pytest.approx(of[-1] / len(ids), abs=1e-6)
    assert lengths["padding"] == pytest.approx(1 - len(np.concatenate(ids)) / (len(ids) * values[-1]), abs=1e-6)
    assert drift(found, found, DriftSpec()).exceeded == []


def test_the_profile_tells_what_became_of_genes(tmp_path: Path) -> None:
    run(settings(str(tmp_path / "out"), "sequence", tmp_path), only="prepare")
    folder = RunFolder(str(tmp_path / "out" / "runs" / "small"))
    assert profile(folder)["genes"] is None
    told = {"cells": 5, "genes": 10, "known_genes": 8, "genes_with_median": 7, "unknown_genes": 2, "notes": ["x"]}
    storage.write_json(folder.path("stages", "tokenize.json"), {"result": told})
    assert profile(folder)["genes"] == {name: number for name, number in told.items() if name != "notes"}


def test_a_profile_stays_small() -> None:
    rng = np.random.default_rng(0)
    ids = np.arange(250_000)
    tokens = np.concatenate([ids, rng.zipf(1.2, 750_000).clip(max=249_999)])
    lengths = rng.integers(1, 40, 60_000)
    cuts = np.cumsum(lengths)
    texts = [part.tolist() for part in np.split(tokens, cuts[cuts < len(tokens)])]
    texts += [[0] * n for n in range(40, 9_000, 1)][::2]
    found = made({"a": len(texts)}, texts)
    assert found["tokens"]["distinct"] == 250_000
    assert len(json.dumps(found)) < 1_000_000
    assert numbers(found["lengths"]["rows"]).sum() == len(texts)


@pytest.mark.parametrize("token", [-1, 2**40])
def test_token_ids_that_are_none(token: int) -> None:
    with pytest.raises(InputError, match=f"token id {token};"):
        made({"a": 2}, [[1, 2], [3, token]])


def test_counts_beyond_four_bytes_are_kept() -> None:
    counts = np.array([1, 2**33 + 5, 7], dtype="<u8")
    packed = {"ids": pack(np.packbits([0, 1, 0, 1, 1])), "counts": pack(counts.view(np.uint8).reshape(-1, 8).T)}
    ids, got = token_counts(packed)
    assert (ids.tolist(), got.tolist()) == ([1, 3, 4], counts.tolist())


def test_a_run_without_prepared_data_has_no_profile(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"stage 'prepare' of .* is not finished"):
        profile(RunFolder(str(tmp_path)))
