"""The gate's rules: what may be written, and what they say of figures that are known exactly."""

import json
import re
from typing import Any

import numpy as np
import pytest

from sortase.config.check import validate
from sortase.config.gate import GateSpec, parse_limit
from sortase.config.load import parse
from sortase.config.metrics import METRICS
from sortase.errors import ConfigError, InputError
from sortase.gate.judge import Row, judge, meets
from sortase.gate.result import BaselineScores, ModelScores, Result, classes_of, wilson
from sortase.gate.verdict import markdown, text, verdict
from sortase.model.metrics.metrics import Metrics
from sortase.model.scores import Scores

NAMES = ["a", "b", "c"]
LABELS = np.repeat([0, 1, 2], [60, 60, 40])


def measured(
    name: str, labels: np.ndarray, predictions: np.ndarray, bootstrap: int = 200, speed: float = 10
) -> ModelScores:
    metrics = Metrics(NAMES, bootstrap=bootstrap)
    rows = np.arange(len(labels))
    logits = 4 * np.eye(3, dtype=np.float32)[predictions]
    metrics.update(Scores(rows, np.zeros(len(rows), np.int32), np.full(len(rows), -1), logits, labels))
    return ModelScores.of(name, metrics, speed)


def wrong(labels: np.ndarray, **shares: float) -> np.ndarray:
    """Predictions of which a share of each class is wrong."""
    found = labels.copy()
    for name, share in shares.items():
        members = np.flatnonzero(labels == NAMES.index(name))
        found[members[: round(share * len(members))]] = (NAMES.index(name) + 1) % 3
    return found


def result(
    ours: np.ndarray,
    theirs: np.ndarray | None,
    labels: np.ndarray = LABELS,
    rival: BaselineScores | None = None,
    **options: Any,
) -> Result:
    challenger = measured("new", labels, ours, **options)
    champion = None if theirs is None else measured("old", labels, theirs, options.get("bootstrap", 200), speed=12)
    return Result(
        challenger=challenger,
        champion=champion,
        rival=rival,
        classes=classes_of(NAMES, challenger, champion),
        rows=len(labels),
        unit="row",
        content="0" * 64,
        seen={"new": 0},
        seconds=1.0,
    )


def only(found: Result, **rules: Any) -> Row:
    (row,) = judge(found, GateSpec(**rules))
    return row


@pytest.mark.parametrize(
    ("metric", "given", "words"),
    [
        ("macro_f1", 0.8, ">= 0.8"),
        ("macro_f1", 1, ">= 1"),
        ("macro_f1", "0.8", ">= 0.8"),
        ("macro_f1", ">= champion - 0.005", ">= champion - 0.005"),
        ("macro_f1", " >=champion-.005 ", ">= champion - 0.005"),
        ("accuracy", "> champion", "> champion"),
        ("mcc", ">= -0.1", ">= -0.1"),
        ("auroc", ">= champion + 1e-3", ">= champion + 0.001"),
        ("loss", 2.5, "<= 2.5"),
        ("ece", "<= champion + 0.01", "<= champion + 0.01"),
        ("ece", "< 0.1", "< 0.1"),
        ("accuracy", "> 0", "> 0"),
        ("mcc", ">= champion - 1.5", ">= champion - 1.5"),
        ("loss", "<= champion + 2", "<= champion + 2"),
        ("ece", 0, "<= 0"),
    ],
)
def test_rules_are_understood(metric: str, given: Any, words: str) -> None:
    assert str(parse_limit(metric, given)) == words
    assert [str(limit) for limit in GateSpec(**{metric: given}).limits] == [words]


@pytest.mark.parametrize(
    ("metric", "given", "words"),
    [
        ("macro_f1", ">= champ - 0.005", "'>= champ - 0.005' is not a rule; allowed are a number (at least)"),
        ("loss", "champion", "allowed are a number (at most), '<= 0.8'"),
        ("macro_f1", "== 0.8", "is not a rule"),
        ("macro_f1", ">= champion * 0.9", "is not a rule"),
        ("macro_f1", ">= champion 0.9", "is not a rule"),
        ("macro_f1", ">= nan", "is not a rule"),
        ("macro_f1", float("nan"), "is not a rule"),
        ("macro_f1", float("inf"), "is not a rule"),
        ("macro_f1", "", "is not a rule"),
        ("macro_f1", True, "True is not a rule"),
        ("macro_f1", [0.8], "is not a rule"),
        ("macro_f1", "<= champion", "asks for a worse model: macro_f1 is better when it is higher"),
        ("ece", ">= 0.1", "asks for a worse model: ece is better when it is lower"),
        ("macro_f1", 80, "can never be met; macro_f1 lies between 0 and 1"),
        ("accuracy", "> 1", "can never be met"),
        ("accuracy", -0.1, "can never fail"),
        ("accuracy", 0, "can never fail"),
        ("accuracy", ">= champion - 1", "can never fail; accuracy lies between 0 and 1, and two differ by 1 at most"),
        ("accuracy", "> champion + 1", "can never be met"),
        ("mcc", -1, "can never fail; mcc lies between -1 and 1"),
        ("mcc", ">= champion - 2", "can never fail"),
        ("ece", 1, "can never fail"),
        ("ece", "< 0", "can never be met"),
        ("ece", "<= champion + 1", "can never fail"),
        ("loss", -3, "can never be met; loss is never below 0"),
        ("loss", "< 0", "can never be met"),
    ],
)
def test_other_rules_are_refused(metric: str, given: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(GateSpec, {metric: given}, "gate")
    assert words in str(caught.value)
    assert f"gate.{metric}" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "gate has no rule; give at least one of macro_f1"),
        ({"must_beat_baseline": False, "dataset": "x"}, "gate has no rule"),
        ({"must_beat_baseline": "perhaps"}, "'perhaps' is neither true nor false"),
        ({"min_class_recall": 60}, "min_class_recall"),
        ({"max_slowdown": 0}, "max_slowdown"),
        ({"accuracy": 0.5, "by": "median"}, "'by'"),
        ({"auroc": 0.8, "loss": 1, "by": "interval"}, "auroc and loss have no interval"),
        ({"accuracy": 0.8, "by": "interval", "bootstrap": 199}, "gate.bootstrap is 199; 200 at least"),
        ({"max_class_recall_drop": 1}, "gate.max_class_recall_drop: 1 can never fail"),
        ({"min_class_recall": ">= 0.6"}, "gate.min_class_recall: '>= 0.6' is not a number; give a plain number"),
        ({"max_slowdown": ">= champion"}, "give a plain number"),
        ({"min_class_recall": True}, "give a plain number"),
        ({"max_slowdown": float("inf")}, "give a plain number"),
        ({"min_class_recall": 0}, "min_class_recall"),
        ({"accuracy": 0.8, "min_units": 0}, "min_units"),
        ({"macro_f2": 0.8}, "did you mean 'macro_f1'"),
    ],
)
def test_other_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(GateSpec, settings, "gate")
    assert words in str(caught.value)


def test_the_section_of_a_run() -> None:
    run = """
run: {name: x}
data: {dataset: d}
labels: {column: y}
model: {checkpoint: m}
gate:
  macro_f1: ">= champion - 0.005"
  min_class_recall: 0.6
  must_beat_baseline: true
"""
    config = parse(run, ['gate.ece="<= 0.1"'])
    assert config.gate is not None
    assert [str(limit) for limit in config.gate.limits] == [">= champion - 0.005", "<= 0.1"]
    assert config.gate.other_rules == {"min_class_recall": 0.6, "must_beat_baseline": 1.0}
    with pytest.raises(ConfigError, match=r"gate\.ece: 'low' is not a rule"):
        parse(run, ["gate.ece=low"])


@pytest.mark.parametrize(
    ("value", "sign", "limit", "expected"),
    [
        (0.795 - 0.8, ">=", -0.005, True),
        (0.7949 - 0.8, ">=", -0.005, False),
        (0.0, ">", 0.0, False),
        (1e-6, ">", 0.0, True),
        (0.1 + 0.2, "<=", 0.3, True),
        (0.3, "<", 0.3, False),
    ],
)
def test_rounding_decides_nothing(value: float, sign: str, limit: float, expected: bool) -> None:
    assert meets(value, sign, limit) is expected


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_can_be_judged(metric: str) -> None:
    good, bad = wrong(LABELS, a=0.05, b=0.05), wrong(LABELS, a=0.4, b=0.3, c=0.5)
    rule = f"{'>' if METRICS[metric].higher_is_better else '<'} champion"
    better, worse = only(result(good, bad), **{metric: rule}), only(result(bad, good), **{metric: rule})
    assert (better.passed, worse.passed) == (True, False)
    assert better.difference == pytest.approx(-worse.difference)  # type: ignore[operator]
    assert only(result(good, good), **{metric: rule}).passed is False
    assert only(result(good, good), **{metric: rule.replace(" ", "= ")}).passed is True


def test_identical_models_differ_by_nothing() -> None:
    predictions = wrong(LABELS, a=0.2, c=0.3)
    for name in ("macro_f1", "accuracy", "balanced_accuracy", "weighted_f1", "mcc"):
        row = only(result(predictions, predictions), **{name: ">= champion"}, by="interval")
        assert (row.difference, row.interval, row.passed) == (0, [0, 0], True)
        assert "no difference in any resample" in row.words


def test_estimate_and_interval_decide_differently() -> None:
    """A little worse on 160 rows: within the tolerance, but noise reaches far beyond it."""
    found = result(wrong(LABELS, a=0.2, b=0.2, c=0.2), wrong(LABELS[::-1], a=0.2, b=0.2, c=0.2)[::-1])
    estimate = only(found, accuracy=">= champion - 0.02")
    assert estimate.passed is True
    assert "cannot be told from noise" in estimate.words
    assert "its interval reaches -0." in estimate.words
    interval = only(found, accuracy=">= champion - 0.02", by="interval")
    assert interval.passed is False
    assert "the estimate meets it, its interval does not" in interval.words
    own = only(found, accuracy=0.78, by="interval")
    assert (own.passed, own.interval_of) == (False, "challenger")
    assert only(found, accuracy=0.78).passed is True
    assert only(found, accuracy=0.65, by="interval").passed is True
    assert only(found, accuracy=">= champion - 0.2", by="interval").passed is True


def test_without_a_champion_only_absolute_rules_hold() -> None:
    found = result(wrong(LABELS, a=0.5), None)
    spec = GateSpec(
        macro_f1=">= champion", accuracy=0.5, max_class_recall_drop=0.1, max_slowdown=2, min_class_recall=0.9
    )
    rows = {row.rule: row for row in judge(found, spec)}
    skipped = {name for name, row in rows.items() if row.skipped}
    assert skipped == {"macro_f1", "max_class_recall_drop", "max_slowdown"}
    assert {rows[name].words for name in skipped} == {"no champion yet"}
    assert rows["accuracy"].passed is True
    assert rows["min_class_recall"].passed is False
    told = verdict(found, list(rows.values()), spec)
    assert told["passed"] is False
    assert told["champion"] is None
    assert "without a champion yet" in text(told)
    only_relative = GateSpec(macro_f1=">= champion")
    told = verdict(found, judge(found, only_relative), only_relative)
    assert told["passed"] is None
    assert "new was NOT judged, as no rule could be applied without a champion yet" in text(told)
    asked = GateSpec(macro_f1=">= champion", first="promote")
    told = verdict(found, judge(found, asked), asked)
    assert told["passed"] is True
    assert "passed the gate, as no rule could be applied" in text(told)


def test_rules_that_do_not_look_at_the_champion_are_remarked() -> None:
    found = result(wrong(LABELS, a=0.2), wrong(LABELS, a=0.1))

    def remarks(**rules: Any) -> list[str]:
        spec = GateSpec(**rules)
        return list(verdict(found, judge(found, spec), spec)["remarks"])

    (remark,) = remarks(accuracy=0.5, must_beat_baseline=True, max_slowdown=2)
    assert re.search(r"macro F1 0\.9\d+ against its 0\.9\d+\): a worse one passes", remark)
    assert remarks(accuracy=0.5, ece="<= champion + 0.1") == [remark]
    assert remarks(accuracy=0.5, macro_f1=">= champion - 0.1") == []
    assert remarks(accuracy=0.5, max_class_recall_drop=0.2) == []


def test_differences_of_rare_classes_are_remarked() -> None:
    labels = np.repeat([0, 1, 2], [60, 60, 12])
    found = result(wrong(labels, c=0.1), wrong(labels, c=0.3), labels)

    def remarks(**rules: Any) -> list[str]:
        spec = GateSpec(**rules)
        return [each for each in verdict(found, judge(found, spec), spec)["remarks"] if "rest on fewer" in each]

    assert "differences of c (12) rest on fewer than 30 units" in remarks(max_class_recall_drop=0.1)[0]
    assert remarks(macro_f1=">= champion", by="interval")
    assert remarks(macro_f1=">= champion") == []
    assert remarks(max_class_recall_drop=0.1, class_min_units=13) == []


def test_classes_that_the_evaluation_set_lacks_are_remarked() -> None:
    labels = LABELS[LABELS != 0]
    found = result(labels.copy(), labels.copy(), labels)
    spec = GateSpec(macro_f1=">= champion")
    assert verdict(found, judge(found, spec), spec)["remarks"] == [
        "the evaluation set holds nothing of a: nothing is told of them"
    ]


def test_a_class_that_got_worse_is_seen_although_macro_f1_rises() -> None:
    found = result(wrong(LABELS, c=0.5), wrong(LABELS, a=0.5, b=0.5))
    spec = GateSpec(macro_f1="> champion", max_class_recall_drop=0.1, min_class_recall=0.6)
    rows = {row.rule: row for row in judge(found, spec)}
    assert rows["macro_f1"].passed is True
    assert "better beyond noise" in rows["macro_f1"].words
    drop = rows["max_class_recall_drop"]
    assert (drop.passed, drop.difference) == (False, -0.5)
    assert drop.words.startswith("dropped: c -0.500; c: worse beyond noise")
    assert rows["min_class_recall"].words.startswith("too low: c 0.500")
    told = verdict(found, list(rows.values()), spec)
    assert told["passed"] is False
    assert [each["class"] for each in told["worse_classes"]] == ["c"]
    assert "worse beyond noise: c (recall -0.500" in text(told)


def test_a_class_of_a_few_rows_does_not_decide_and_is_named() -> None:
    labels = np.repeat([0, 1, 2], [60, 60, 2])
    found = result(wrong(labels, c=1), labels, labels)
    spec = GateSpec(min_class_recall=0.9, max_class_recall_drop=0.05)
    for row in judge(found, spec):
        assert row.passed is True
        assert row.words.endswith("fewer than 10 evaluated units of 1 of 3 classes, so without a say: c (2)")
        assert "decided by only" not in row.words
    told = verdict(found, judge(found, spec), spec)
    assert told["classes_left_out"] == ["c"]
    assert told["worse_classes"] == []
    for row in judge(found, GateSpec(min_class_recall=0.9, max_class_recall_drop=0.05, class_min_units=2)):
        assert row.passed is False


def test_rules_on_classes_say_when_most_of_them_have_no_say() -> None:
    labels = np.repeat([0, 1], [60, 3])
    found = result(labels, labels, labels)
    for row in judge(found, GateSpec(min_class_recall=0.9, max_class_recall_drop=0.05)):
        assert row.passed is True
        assert row.words.startswith("decided by only 1 of 3 classes; ")
        assert row.words.endswith("units of 2 of 3 classes, so without a say: b (3), c (0)")


def test_a_class_without_a_unit_has_no_recall() -> None:
    labels = np.repeat([0, 1], [60, 40])
    found = result(wrong(labels, a=0.1), labels, labels)
    spec = GateSpec(accuracy=0.5)
    told = verdict(found, judge(found, spec), spec)["classes"]
    figures = ("recall", "f1", "champion_recall", "champion_f1", "difference", "interval", "difference_interval")
    assert [told[2][name] for name in figures] == [None] * len(figures)
    assert (told[0]["recall"], told[1]["champion_recall"]) == (0.9, 1)


def test_what_is_undefined_passes_no_rule() -> None:
    """One class only: areas are undefined, and no class has enough rows for the rules on classes."""
    labels = np.zeros(5, dtype=np.int64)
    found = result(labels, labels, labels)
    rules: dict[str, Any] = {"auroc": ">= champion - 0.9", "min_class_recall": 0.1, "max_class_recall_drop": 0.9}
    for row in judge(found, GateSpec(**rules)):
        assert row.passed is False, row
        assert "undefined" in row.words or row.words.startswith("cannot be judged: no class")
    assert only(found, auroc=0.1).challenger is None
    json.dumps(verdict(found, judge(found, GateSpec(**rules)), GateSpec(**rules)), allow_nan=False)


def test_class_rules_by_interval_use_the_worse_end() -> None:
    found = result(wrong(LABELS, c=0.2), wrong(LABELS, c=0.2))
    assert only(found, min_class_recall=0.78).passed is True
    row = only(found, min_class_recall=0.78, by="interval")
    assert row.passed is False
    assert row.interval is not None
    assert row.interval[0] < 0.78
    assert row.challenger == pytest.approx(0.8)
    assert only(found, max_class_recall_drop=0, by="interval").passed is True
    unlike = result(wrong(LABELS, c=0.2), wrong(LABELS[::-1], c=0.2)[::-1])
    assert only(unlike, max_class_recall_drop=0.05).passed is True
    assert only(unlike, max_class_recall_drop=0.05, by="interval").passed is False


def test_a_few_units_that_are_all_right_do_not_prove_a_share() -> None:
    """Ten of ten are found by a model that finds three of four in every eighteenth set."""
    labels = np.repeat([0, 1, 2], [30, 30, 10])
    found = result(labels, labels, labels)
    assert only(found, min_class_recall=0.99).passed is True
    row = only(found, min_class_recall=0.99, by="interval")
    assert (row.passed, row.challenger) == (False, 1)
    assert row.interval == pytest.approx([0.722, 1], abs=1e-3)
    assert "its interval does not" in row.words
    assert only(found, min_class_recall=0.7, by="interval").passed is True
    assert only(found, accuracy=0.97, by="interval").passed is False
    assert only(found, accuracy=0.94, by="interval").passed is True
    assert found.classes[2].interval == [1, 1]
    assert found.challenger.figures["intervals"]["accuracy"] == [1, 1]


@pytest.mark.parametrize(
    ("right", "units", "expected"),
    [(10, 10, [0.7225, 1.0]), (0, 10, [0.0, 0.2775]), (15, 20, [0.5313, 0.8881]), (1, 1, [0.2065, 1.0])],
)
def test_intervals_of_shares(right: int, units: int, expected: list[float]) -> None:
    assert wilson(right / units, units) == pytest.approx(expected, abs=1e-4)


def test_few_resamples_have_no_ends_to_decide_by() -> None:
    found = result(LABELS, LABELS, bootstrap=199)
    assert only(found, accuracy=0.5).passed is True
    with pytest.raises(InputError, match=r"of 3 classes memory holds 199 resamples.*use gate\.by: estimate"):
        only(found, accuracy=0.5, by="interval")


@pytest.mark.parametrize(
    ("rival", "by", "passed", "words"),
    [
        (BaselineScores("bag", 0.5, 0.7, [0.1, 0.3], "anew"), "interval", True, "better beyond noise"),
        (BaselineScores("bag", 0.69, 0.7, [-0.1, 0.12], "anew"), "estimate", True, "cannot be told from noise"),
        (BaselineScores("bag", 0.69, 0.7, [-0.1, 0.12], "anew"), "interval", False, "its interval does not"),
        (BaselineScores("bag", 0.7, 0.7, [0.0, 0.0], "anew"), "estimate", False, "against bag, anew"),
        (BaselineScores("bag", None, 0.7, None, "anew"), "estimate", False, "undefined"),
        (None, "estimate", False, "there is no baseline"),
    ],
)
def test_the_baseline_must_be_beaten(rival: BaselineScores | None, by: str, passed: bool, words: str) -> None:
    row = only(result(LABELS, LABELS, rival=rival), must_beat_baseline=True, by=by)
    assert row.passed is passed
    assert words in row.words


def test_slowness_is_a_ratio() -> None:
    found = result(LABELS, LABELS)
    assert only(found, max_slowdown=1.2).passed is True
    row = only(found, max_slowdown=1.1)
    assert (row.passed, row.challenger, row.champion) == (False, 10, 12)
    assert "takes 1.20 times as long" in row.words


def test_without_resamples_nothing_is_told_from_noise() -> None:
    found = result(wrong(LABELS, a=0.1), LABELS, bootstrap=0)
    row = only(found, macro_f1=">= champion - 0.5", bootstrap=0)
    assert (row.passed, row.interval) == (True, None)
    assert "nothing tells this difference from noise" in row.words
    assert only(found, max_class_recall_drop=0.2, bootstrap=0).passed is True


def test_a_verdict_is_plain_and_is_shown_as_tables() -> None:
    found = result(wrong(LABELS, a=0.1), wrong(LABELS, b=0.1))
    spec = GateSpec(macro_f1=">= champion - 0.005", min_class_recall=0.99, max_slowdown=3)
    told = verdict(found, judge(found, spec), spec, inputs="abc")
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    assert (told["format"], told["passed"], told["inputs"], told["champion"]) == (1, False, "abc", "old")
    other = GateSpec(macro_f1=">= champion - 0.006")
    assert verdict(found, [], spec)["inputs"] != verdict(found, [], other)["inputs"]
    lines = text(told).splitlines()
    assert lines[0] == "new did NOT pass the gate against the champion old"
    head = next(line for line in lines if line.startswith("rule"))
    places = [line.index(word) for line, word in zip(lines[3::2], ("passed", "FAILED", "passed"), strict=False)]
    assert set(places) == {head.index("result")}
    table = [line for line in markdown(told).splitlines() if line.startswith("|")]
    assert len(table) == 2 + 3
    assert {line.count("|") for line in table} == {9}


def test_names_cannot_break_the_markdown() -> None:
    found = result(LABELS, None)
    spec = GateSpec(accuracy=0.5)
    told = verdict(found, judge(found, spec), spec) | {"challenger": "x|y\n<b>[z](http://evil)"}
    told["rules"][0]["words"] = "a | b"
    shown = markdown(told)
    assert "<b>" not in shown
    assert "[z]" not in shown
    assert "y\n" not in shown
    assert {line.count("|") for line in shown.splitlines() if line.startswith("|")} == {9}
