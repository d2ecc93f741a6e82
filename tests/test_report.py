"""The page: self-contained, safe with names from users, and honest about what is missing."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from report_data import COUNTS, NAMES, evaluation, events, measured, mistake, prepared, run, split, write_run
from sortase import storage
from sortase.errors import InputError, MissingInputError
from sortase.report.figures.style import new_figure
from sortase.report.page import parts
from sortase.report.page.data import checks
from sortase.report.page.page import page
from sortase.report.page.parts import bounds, duration, percent, written
from sortase.report.page.results import most_confused
from sortase.report.page.run import shortened
from sortase.report.stage import report

SCRIPT = "<script>alert(1)</script>"
VOID = {"meta", "img"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects ids, links and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words = ""
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name)
            if name == "id":
                self.ids.append(value or "")
            if name in ("href", "src", "xlink:href"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, but not turned into files: for tests of words."""
    monkeypatch.setattr(parts, "render", lambda figure, kind: b'<svg width="9pt"></svg>')


def test_the_report_is_written_beside_its_figures(root: str) -> None:
    write_run(root, run=run(), prepared=prepared(), evaluation=evaluation(), events=events())
    storage.write_bytes(storage.join(root, "figures", "of_an_earlier_report.png"), b"")
    url = report(root)
    html = storage.read_bytes(url).decode()
    assert url == storage.join(root, "report.html")
    assert "The transformer beats logistic regression." in html
    kinds = {"class_balance", "before_after", "lengths", "learning_curves", "confusion_matrix", "per_class"}
    expected = {f"{name}.{kind}" for name in {*kinds, "reliability", "baseline"} for kind in ("png", "svg")}
    assert set(storage.list_files(storage.join(root, "figures"))) == expected


def test_the_page_is_self_contained() -> None:
    html = page(run(), prepared(), evaluation(), events())[0]
    found = Page(html)
    assert not [link for link in found.links if not link.startswith(("#", "data:"))]
    assert not re.findall(r"url\((?!#)", html)
    assert not found.tags & {"script", "link", "iframe", "object"}
    assert "default-src 'none'" in html
    assert len(set(found.ids)) == len(found.ids)
    assert {link[1:] for link in found.links if link.startswith("#")} <= set(found.ids)
    assert {link[1:] for link in re.findall(r"url\((#[^)]+)\)", html)} <= set(found.ids)


def test_names_from_users_cannot_become_markup() -> None:
    names = [SCRIPT, '" onload="x', "$x$ &amp;"]
    data = prepared(
        names, notes=[SCRIPT], split=split(names, missing=[{"class": SCRIPT, "side": "test", "why": SCRIPT}])
    )
    tokens = [mistake(true=SCRIPT, predicted=SCRIPT, token=7)]
    html, _ = page(
        run(name=SCRIPT, config={"a": SCRIPT}, versions={SCRIPT: SCRIPT}, stages={SCRIPT: {"seconds": 1}}),
        data,
        evaluation(names, mistakes=tokens, baseline={"verdict": SCRIPT}),
        events(),
        {7: SCRIPT},
    )
    found = Page(html)
    assert "script" not in found.tags
    assert found.words.count(SCRIPT) > 10
    assert '" onload="x' in found.words
    assert "$x$ &amp;" in found.words


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("files", "words"),
    [
        pytest.param({}, ["'evaluate' has not finished", "'prepare' has not finished", "No training"], id="nothing"),
        pytest.param({"prepared": prepared()}, ["'evaluate' has not", "cap per class"], id="prepared only"),
        pytest.param(
            {"events": events()},
            ["No training has finished", "Training loss is of single batches"],
            id="training under way",
        ),
        pytest.param({"evaluation": evaluation(baseline=None)}, ["No baseline was asked for"], id="no baseline"),
        pytest.param(
            {"evaluation": evaluation(mistakes=[])}, ["every prediction on the test side is right"], id="perfect"
        ),
        pytest.param({"prepared": prepared(split=None)}, ["was not divided"], id="no split"),
    ],
)
def test_what_is_missing_is_said(files: dict[str, Any], words: list[str], tmp_path: Any) -> None:
    folder = write_run(str(tmp_path), run={}, **files)
    found = Page(storage.read_bytes(report(folder)).decode())
    assert [word for word in words if word not in found.words] == []


@pytest.mark.usefixtures("undrawn")
def test_every_part_of_an_evaluation_beside_the_metrics_may_lack() -> None:
    found = evaluation(intervals=None)
    for name in ("bootstrap", "speed", "mistakes", "per_token_type"):
        del found[name]
    assert "Confusion matrix" in Page(page({}, None, found, [])[0]).words


def test_no_run_folder_is_refused(tmp_path: Any) -> None:
    with pytest.raises(MissingInputError, match=r"run\.json"):
        report(str(tmp_path))
    write_run(str(tmp_path), run=run())
    (tmp_path / "events.jsonl").write_text('{"stage": "train"}\n{"sta')
    with pytest.raises(InputError, match=r"events\.jsonl"):
        report(str(tmp_path))
    assert not (tmp_path / "report.html").exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("difference", "kind"), [([0.1, 0.2], "better"), ([-0.2, -0.1], "worse"), ([-0.1, 0.1], "open"), (None, "open")]
)
def test_the_verdict_is_coloured_by_its_interval(difference: Any, kind: str) -> None:
    baseline = {**evaluation()["baseline"], "difference": difference}
    html = page(run(), None, evaluation(baseline=baseline), [])[0]
    assert f'class="verdict {kind}"' in html


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_learnt_nothing_is_named() -> None:
    words = "The model has collapsed: it calls all <b> rows 'B'."
    html = page(run(), None, evaluation(learnt_nothing={"kind": "collapsed", "words": words}), [])[0]
    assert (
        html.count("The model has collapsed: it calls all &lt;b&gt; rows") == 2
    )  # beside the verdict, and above metrics


@pytest.mark.usefixtures("undrawn")
def test_tokens_are_named_and_vote_once(tmp_path: Any) -> None:
    votes = {"tokens": 53, **measured()}
    rival = {**measured(), "per_token_type": {"metrics": {"accuracy": 0.123}, "intervals": {}}}
    found = evaluation(
        unit="token",
        mistakes=[mistake(token=1, position=4), mistake(token=9)],
        per_token_type=votes,
        baseline={"logistic_regression": rival, "majority": None, "verdict": "Even."},
    )
    folder = write_run(str(tmp_path), run=run(), evaluation=found)
    storage.write_json(storage.join(folder, "model", "tokenizer.json"), {"model": {"vocab": {"<pad>": 0, "GATA1": 1}}})
    words = Page(storage.read_bytes(report(folder)).decode()).words
    assert "GATA1" in words
    assert "53 tokens held out" in words
    assert "0.123" in words


@pytest.mark.usefixtures("undrawn")
def test_fifty_classes_keep_their_full_names() -> None:
    names = [f"CD8-positive, alpha-beta memory T cell, CD45RO-positive (donor {i})" for i in range(50)]
    html, _ = page(run(), prepared(names), evaluation(names, np.eye(50, dtype=int)), events())
    assert all(f'<td class="long">{name}</td>' in html for name in names)


@pytest.mark.usefixtures("undrawn")
def test_predictions_of_unlabelled_data_are_counted() -> None:
    stages = {"predict": {"result": {"counts": {"B": 1, "T": 3}}}}
    words = Page(page(run(stages=stages), None, None, [])[0]).words
    assert "75.0 %" in words


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({}, "Every class is on every side", id="fine"),
        pytest.param(
            {"groups": {"count": 8, "crossing": 0}, "column": "donor"}, "None of 8 groups ('donor')", id="groups"
        ),
        pytest.param(
            {"missing": [{"class": "X", "side": "test", "why": "1 row"}]}, "'X' is not on the test", id="class"
        ),
        pytest.param({"near_duplicates": {"checked": 7, "crossing": 0}}, "No row nearly repeats", id="none alike"),
        pytest.param(
            {"near_duplicates": {"checked": 7, "crossing": 2, "copies": 1, "examples": [[3, 17, 0.98]]}},
            "rows 3 and 17 (98.0 % alike)",
            id="alike",
        ),
    ],
)
def test_the_audit_is_told_in_words(changes: dict[str, Any], expected: str) -> None:
    assert any(expected in line for line in checks(split(**changes)))


@pytest.mark.usefixtures("undrawn")
def test_only_steps_that_dropped_rows_have_a_column() -> None:
    words = Page(page(run(), prepared(), None, [])[0]).words
    assert "after cap per class" in words
    assert "after filter" not in words
    assert "Nothing was dropped by: filter, labelling" in words


def test_a_huge_drawing_becomes_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_SVG", 10)
    part = parts.figure(new_figure(1, 1), "x", 'says "so"', "", {})
    assert part["svg"].startswith('<img alt="says &quot;so&quot;" src="data:image/png;base64,')


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (0.1234, "0.123"),
        (-0.5, "−0.500"),
        (12.34, "12.3"),
        (1234.5, "1,234"),
        (12345, "12,345"),
        ("a", "a"),
    ],
)
def test_numbers_have_three_digits(value: Any, words: str) -> None:
    assert written(value) == words


@pytest.mark.parametrize(
    ("part", "of", "words"),
    [
        (1, 1, "100 %"),
        (0, 1, "0 %"),
        (99_999, 100_000, "> 99.9 %"),
        (1, 100_000, "< 0.1 %"),
        (1, 3, "33.3 %"),
        (1, 0, "–"),
    ],
)
def test_shares_never_round_to_all_or_nothing(part: float, of: float, words: str) -> None:
    assert percent(part, of) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "–"), (0.01, "< 0.1 s"), (4.21, "4.2 s"), (59.99, "1 min 00 s"), (188, "3 min 08 s"), (7500, "2 h 05 min")],
)
def test_durations(seconds: float | None, words: str) -> None:
    assert duration(seconds) == words


def test_bounds_of_nothing_are_a_dash() -> None:
    assert bounds(None) == "–"
    assert bounds([-0.1, 0.2]) == "−0.100 to 0.200"


def test_long_lists_of_settings_are_cut() -> None:
    cut = shortened({"genes": list(range(490)), "columns": ["a", "b"]})
    assert cut["columns"] == ["a", "b"]
    assert len(cut["genes"]) == 6
    assert "485 more" in cut["genes"][-1]


def test_the_most_frequent_confusions_come_first() -> None:
    (found,) = most_confused(NAMES, COUNTS, "row")
    assert found["rows"] == [["NK", "B", "2", "20.0 %"], ["B", "NK", "1", "16.7 %"], ["NK", "T", "1", "10.0 %"]]
    assert most_confused(NAMES, np.eye(3, dtype=int), "row") == []
