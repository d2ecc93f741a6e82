"""The model card: valid for the hub, true to the run, safe with names from users, and runnable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from pydantic import ValidationError

from makers import VOCABULARY, architecture, rows
from report_data import COUNTS, NAMES, evaluation, measured, prepared, run, split
from sortase import storage
from sortase.cli import main
from sortase.config.card import CardSpec
from sortase.errors import MissingInputError
from sortase.report.card.card import card
from sortase.report.card.limits import beats_baseline, limits
from sortase.report.card.of_run import traced, write_card
from sortase.report.page.parts import written
from sortase.runs.folder import RunFolder, digest

LINEAGE = {
    "run": "s3://bucket/runs/blood",
    "created": "2026-01-02T03:04:05+00:00",
    "data": {"fingerprint": "f00d", "source": ["s3://bucket/a", "s3://bucket/b"]},
    "config": "c0ffee",
    "code": {"sortase": "0.1.0", "commit": None},
    "parents": [{"model": "blood", "version": "20260101T000000-00000000"}],
    "context": {"who": "ci", "why": None},
}
NASTY = [
    "a|b",
    "*x*",
    "- y",
    "1. z",
    "`q`",
    "<b>&amp;$x$",
    "細胞 β",
    "_u_ a_b",
    "[l](http://x)",
    "t\n---\nv",
    "yes: [1]",
]


ESCAPE = r"\\([!-/:-@\[-`{-~])"


def made(spec: dict[str, Any] | None = None, **parts: Any) -> str:
    """A card of the small run, with these parts changed."""
    known = {"run": run(), "prepare": prepared(), "evaluation": evaluation(), "lineage": LINEAGE, "model": None}
    settings = CardSpec(**(spec or {})).model_dump(mode="json")
    return card(spec=settings, **{**known, **parts})


def section(text: str, title: str) -> str:
    """What stands under a heading; the test fails where there is none."""
    return re.split(r"^## ", text.split(f"\n## {title}\n", 1)[1], flags=re.MULTILINE)[0]


def cells(text: str) -> list[list[str]]:
    """Rows of the first table, below its heads, as a reader sees them."""
    lines = next(part for part in text.split("\n\n") if part.strip().startswith("|")).strip().splitlines()[2:]
    split_up = [re.split(r"(?<!\\)\|", line.strip()[1:-1]) for line in lines]
    return [[re.sub(ESCAPE, r"\1", cell.strip()) for cell in line] for line in split_up]


def matrix(n: int) -> np.ndarray:
    return np.eye(n, dtype=int) * 30


class TestMetadata:
    def test_it_is_what_the_hub_reads(self) -> None:
        spec = {"license": "apache-2.0", "language": "en", "tags": ["biology", "sortase"], "base_model": "org/base"}
        data = ModelCard(made({**spec, "data_name": "org/cells"})).data
        assert data.license == "apache-2.0"
        assert data.language == ["en"]
        assert data.tags == ["biology", "sortase"]
        assert data.base_model == "org/base"
        assert data.datasets == ["org/cells"]
        assert (data.library_name, data.pipeline_tag) == ("transformers", "text-classification")
        assert data.model_name == "blood"

    def test_results_are_those_of_the_evaluation(self) -> None:
        found = evaluation()
        data = ModelCard(made(evaluation=found)).data
        assert data.eval_results
        results = {result.metric_name: result for result in data.eval_results}
        assert results["Macro F1"].metric_value == found["metrics"]["macro_f1"]
        assert results["Macro F1"].metric_args["interval_95"] == found["intervals"]["macro_f1"]
        assert results["Accuracy"].metric_value == found["metrics"]["accuracy"]
        assert results["Accuracy"].dataset_args == {"rows": 25}
        assert "Macro AUROC" not in results  # it is not defined there
        assert set(data.metrics) == {result.metric_type for result in data.eval_results}

    def test_tokens_are_told_from_rows(self) -> None:
        data = ModelCard(made(evaluation=evaluation(task="token", unit="token", rows=7))).data
        assert data.pipeline_tag == "token-classification"
        assert data.eval_results
        assert data.eval_results[0].dataset_args == {"rows": 7, "tokens": 25}

    def test_a_licence_of_ones_own(self) -> None:
        spec = {"license": "other", "license_name": "house: rules", "license_link": "LICENSE"}
        text = made(spec)
        data = ModelCard(text).data
        assert (data.license, data.license_name, data.license_link) == ("other", "house: rules", "LICENSE")
        assert "house: rules" in section(text, "Licence")

    def test_nothing_is_said_that_was_not_given(self) -> None:
        text = made(evaluation=None)
        data = ModelCard(text).data
        for name in ("license", "language", "base_model", "datasets", "metrics", "eval_results"):
            assert getattr(data, name) is None
        assert "No licence was given" in section(text, "Licence")

    def test_an_interval_without_width_is_no_interval(self) -> None:
        found = evaluation()
        found["intervals"] |= {"accuracy": [1.0, 1.0]}
        text = made(evaluation=found)
        results = {result.metric_name: result for result in ModelCard(text).data.eval_results or []}
        assert results["Accuracy"].metric_args is None
        assert "interval_95" in results["Macro F1"].metric_args
        by_name = {row[0]: row[2] for row in cells(section(text, "Results"))}
        assert by_name["accuracy"] == "–"
        assert "does not make it certain" in section(text, "Results")
        assert "does not make it certain" not in section(made(), "Results")

    @pytest.mark.parametrize(
        ("codes", "alone", "longer"),
        [
            pytest.param(["en", "deu"], ["en", "deu"], None, id="plain"),
            pytest.param("zh-Hant", ["zh"], ["zh-Hant"], id="script"),
            pytest.param(["pt-BR", "pt", "pt-PT"], ["pt"], ["pt-BR", "pt-PT"], id="regions of one"),
            pytest.param(["code", "multilingual"], ["code", "multilingual"], None, id="of the hub"),
        ],
    )
    def test_languages_as_the_hub_takes_them(self, codes: Any, alone: list[str], longer: Any) -> None:
        data = ModelCard(made({"language": codes})).data.to_dict()
        assert data["language"] == alone
        assert data.get("language_bcp47") == longer

    @pytest.mark.parametrize(
        ("name", "kind", "listed"),
        [
            pytest.param(None, "data-of-blood", None, id="not given"),
            pytest.param("Org/Cells", "Org/Cells", ["Org/Cells"], id="hub"),
            pytest.param("our own/atlas of cells", "our-own-atlas-of-cells", None, id="words"),
            pytest.param("細胞/β", "data", None, id="other letters"),
        ],
    )
    def test_the_identifier_of_the_data(self, name: str | None, kind: str, listed: Any) -> None:
        data = ModelCard(made({"data_name": name})).data
        assert data.eval_results and data.eval_results[0].dataset_type == kind
        assert data.datasets == listed

    @pytest.mark.parametrize("name", NASTY)
    def test_any_text_survives(self, name: str) -> None:
        data = ModelCard(made({"tags": [name], "data_name": name}, run=run(name=name))).data
        assert data.tags == [name, "sortase"]
        assert data.eval_results
        assert data.eval_results[0].dataset_name == name
        assert data.model_name == name

    @pytest.mark.parametrize(
        ("checkpoint", "files", "base"),
        [
            pytest.param("bert-base-cased", {}, "bert-base-cased", id="hub"),
            pytest.param("owner/name", {}, "owner/name", id="hub with owner"),
            pytest.param("owner/name", {"owner/name": "1f"}, None, id="a folder of that name"),
            pytest.param("s3://bucket/model", {}, None, id="URL"),
            pytest.param("registry://blood@champion", {}, None, id="registry"),
            pytest.param("/models/bert", {}, None, id="path"),
            pytest.param(None, {}, None, id="new"),
        ],
    )
    def test_the_base_model_is_the_checkpoint_of_the_hub(self, checkpoint: Any, files: Any, base: Any) -> None:
        marks = {"train": {"inputs": "a", "settings": {"files": files}}}
        text = made(run=run(config={"model": {"checkpoint": checkpoint}}, stages=marks))
        assert ModelCard(text).data.base_model == base
        assert ("trained from new weights" in text) == (checkpoint is None)


class TestText:
    def test_metrics_stand_beside_the_baselines(self) -> None:
        found = evaluation()
        text = section(made(evaluation=found), "Results")
        assert found["baseline"]["verdict"] in text
        by_name = {row[0]: row[1:] for row in cells(text)}
        low, high = found["intervals"]["macro_f1"]
        theirs = [found["baseline"][name]["metrics"]["macro_f1"] for name in ("logistic_regression", "majority")]
        ours = written(found["metrics"]["macro_f1"])
        assert by_name["macro F1"] == [ours, f"{written(low)} to {written(high)}", *map(written, theirs)]
        assert by_name["AUROC"][:2] == ["–", "–"]
        assert "5.0 %" in section(made(evaluation=found), "Calibration")

    def test_classes_come_worst_first(self) -> None:
        found = evaluation()
        for row, f1 in zip(found["per_class"], (0.9, 0.1, 0.5), strict=True):
            row["f1"] = f1
        rows = cells(section(made(evaluation=found), "Classes, the worst first"))
        assert [row[0] for row in rows] == ["NK", "T", "B"]
        assert [row[4] for row in rows] == ["10", "9", "6"]

    def test_a_class_without_test_rows_has_no_figures(self) -> None:
        found = evaluation(matrix=COUNTS * np.array([[1], [0], [1]]))
        found["per_class"][1] |= {"precision": 0.0, "recall": 0.0, "f1": 0.0}
        rows = cells(section(made(evaluation=found), "Classes, the worst first"))
        assert rows[-1] == ["NK", "–", "–", "–", "0"]
        assert all("–" not in row[1:3] for row in rows[:-1])

    def test_classes_that_sides_lack_do_not_fill_the_card(self) -> None:
        missing = [{"class": f"class {i}", "side": "test", "why": "1 row"} for i in range(500)]
        text = made(prepare=prepared(split=split(missing=missing)))
        assert "So it is 492 times more" in section(text, "Split")
        assert "class 7" in section(text, "Split") and "class 8" not in text
        assert "and 492 more" in section(text, "Limits")

    def test_how_it_was_trained(self) -> None:
        told = section(made(), "Training").strip()
        assert told.startswith("20 optimizer steps (2 epochs); the weights are those of step 10, the best on the")
        assert told.endswith("by Matthews correlation (MCC).")
        once = {"steps": 1, "epochs": 1.0, "rows": 9, "best_step": None}
        assert section(made(run=run(training=once)), "Training").strip() == "1 optimizer step (1 epoch) on 9 rows."
        assert "## Training" not in made(run=run(training=None))

    def test_many_classes_are_cut_and_that_is_said(self) -> None:
        names = [f"class {i}" for i in range(500)]
        text = made(prepare=prepared(names), evaluation=evaluation(names, matrix(500)))
        for title, words in (("Data", "50 most frequent of 500"), ("Classes, the worst first", "50 worst of 500")):
            assert len(cells(section(text, title))) == 50
            assert words in section(text, title)
        assert len(text) < 30_000
        ModelCard(text)

    def test_names_cannot_break_tables_or_become_markup(self) -> None:
        text = made(
            {"authors": NASTY, "limits": NASTY, "data_name": NASTY[0]},
            prepare=prepared(NASTY, column="a|b`", notes=NASTY),
            evaluation=evaluation(NASTY, matrix(len(NASTY))),
        )
        seen = [" ".join(name.split()) for name in NASTY]
        assert [row[1] for row in cells(section(text, "Data"))] == seen
        assert sorted(row[0] for row in cells(section(text, "Classes, the worst first"))) == sorted(seen)
        assert {len(row) for row in cells(section(text, "Data"))} == {5}
        body = ModelCard(text).text
        assert not re.search(r"(?<!\\)<b>", body)
        assert not re.search(r"(?<!\\)\[l\]", body)
        assert not re.search(r"^-+$", body, re.MULTILINE)
        assert "column `` a|b` ``." in section(text, "Data")
        lines = section(text, "Authors").strip().splitlines()
        assert [re.sub(ESCAPE, r"\1", line) for line in lines] == [f"- {name}" for name in seen]

    def test_the_lineage_names_what_is_known_and_what_is_not(self) -> None:
        marks = {"train": {"inputs": "7ea"}}
        found = dict(cells(section(made(run=run(stages=marks)), "Lineage")))
        assert found["run"] == "`s3://bucket/runs/blood`"
        assert found["fingerprint of the data"] == "`f00d`"
        assert found["digest of the settings"] == "`c0ffee`"
        assert found["digest of all that training read"] == "`7ea`"
        assert found["data"] == "`s3://bucket/a, s3://bucket/b`"
        assert found["parents"] == "`blood 20260101T000000-00000000`"
        assert found["commit of the code"] == found["container image"] == found["trained"] == "not recorded"
        assert found["who"] == "`ci`"
        assert "why" not in found
        assert not any("champion" in name for name in found)

    def test_the_champion_that_it_was_to_succeed(self) -> None:
        marks = {"train": {"inputs": "7ea", "finished": "2026-01-02T03:04:05+00:00", "code": {"commit": "ab12"}}}
        checkpoint = {"model": {"checkpoint": "s3://bucket/models/blood"}}
        told = {"data": "d0", "settings": "5e", "champion": "2025-f00", "parent": "2025-f00"}
        known = run(stages=marks, retrain=told, config=checkpoint)
        found = dict(cells(section(made(run=known, lineage=traced(known, "runs/blood", marks["train"])), "Lineage")))
        assert found["champion when it was trained"] == "`2025-f00`"
        assert found["parents"] == "`s3://bucket/models/blood 2025-f00`"
        assert (found["fingerprint of the data"], found["digest of the settings"]) == ("`d0`", "`5e`")
        assert found["commit of the code"] == "`ab12`"

    def test_a_run_that_tells_nothing_has_a_card(self) -> None:
        text = made(run={}, prepare=None, evaluation=None, lineage=None)
        assert ModelCard(text).data.library_name == "transformers"
        assert dict(cells(section(text, "Lineage")))["run"] == "not recorded"

    def test_what_its_owner_says_comes_first(self) -> None:
        text = made({"description": "Names **cells**.", "intended_use": "Research.", "limits": "Human blood only."})
        assert text.index("Names **cells**.") < text.index("## Use")
        assert section(text, "Intended use").strip() == "Research."
        assert section(text, "Limits").strip().startswith("- Human blood only.")


def near(**changes: Any) -> dict[str, Any]:
    found = {"checked": 90, "similarity": 0.9, "copies": 0, "crossing": 0, "unverified": 0, "examples": []}
    return {**found, **changes}


def beside(difference: list[float] | None, ours: float = 0.83) -> dict[str, Any]:
    """An evaluation whose baseline reaches 0.83; its intervals are of nothing that was held out together."""
    baseline = {**evaluation()["baseline"], "difference": difference}
    metrics = {**measured()["metrics"], "macro_f1": ours}
    return evaluation(matrix=COUNTS * 10, metrics=metrics, baseline=baseline, bootstrap={"replicates": 0})


SOUND = {"strategy": "group", "column": "donor", "groups": {"count": 9, "crossing": 0}, "near_duplicates": near()}


def sound(**changes: Any) -> dict[str, Any]:
    return prepared(split=split(**{**SOUND, **changes}))


class TestLimits:
    def test_a_sound_run_has_but_one(self) -> None:
        assert len(limits(run(), sound(), beside([0.01, 0.2]))) == 1

    @pytest.mark.parametrize(
        ("parts", "words"),
        [
            pytest.param({"evaluation": None}, "not measured on rows that it has not seen", id="no test side"),
            pytest.param({"evaluation": beside([-0.2, -0.1])}, "does better: macro F1 0.830", id="beaten"),
            pytest.param({"evaluation": beside([-0.1, 0.1])}, "not shown to be better", id="perhaps beaten"),
            pytest.param({"evaluation": beside(None, 0.5)}, "at least as well: macro F1 0.830", id="even"),
            pytest.param({"evaluation": {**beside([0, 1]), "baseline": None}}, "not compared", id="no baseline"),
            pytest.param(
                {"evaluation": evaluation(bootstrap={})}, "'B' (6), 'T' (9), 'NK' (10)", id="few test examples"
            ),
            pytest.param(
                {"prepared": sound(sides={"test": {"rows": 9}, "train": {"rows": 9, "per_class": {"B": 9}}})},
                "Learnt from fewer than 20 rows each: 'B'",
                id="few to learn from",
            ),
            pytest.param({"prepared": sound(strategy="random")}, "divided at random", id="random"),
            pytest.param({"prepared": sound(strategy="column")}, "two sides was not looked at", id="column"),
            pytest.param({"prepared": sound(strategy="token")}, "another origin", id="tokens"),
            pytest.param(
                {"evaluation": {**beside([0.01, 0.2]), "bootstrap": {"replicates": 1000, "unit": "row"}}},
                "resampled rows, but whole groups of column `donor` were held out",
                id="rows resampled of whole groups",
            ),
            pytest.param({"prepared": sound(groups={"count": 9, "crossing": 4})}, "4 of 9 groups", id="groups"),
            pytest.param({"prepared": sound(near_duplicates=None)}, "was not looked at", id="no audit"),
            pytest.param({"prepared": sound(near_duplicates=near(crossing=5, copies=2))}, "2 of them", id="copies"),
            pytest.param({"prepared": sound(near_duplicates=near(unverified=3))}, "3 further rows", id="unverified"),
            pytest.param(
                {"prepared": sound(missing=[{"class": "a|b", "side": "test", "why": "1 row"}])},
                r"Class 'a\|b' is not on the test side",
                id="class absent from a side",
            ),
            pytest.param(
                {"prepared": sound(missing=[{"class": f"c|{i}", "side": "test", "why": "1 row"} for i in range(90)])},
                r"90 classes are not on the test side, having too little: 'c\|0' (1 row), ",
                id="many classes absent from a side",
            ),
            pytest.param(
                {"run": run(stages={"tokenize": {"result": {"cells": 10, "truncated": 3}}})},
                "3 of 10 cells were cut",
                id="cut by tokenization",
            ),
            pytest.param(
                {"run": run(training={"notes": ["2 of 9 sequences of the train side are cut to 8 tokens"]})},
                "2 of 9 sequences",
                id="cut in training",
            ),
            pytest.param(
                {"run": run(stages={"tokenize": {"result": {"genes": 10, "known_genes": 4}}})},
                "6 of 10 genes",
                id="unknown genes",
            ),
            pytest.param(
                {"prepared": {**sound(), "genes": {"missing_from_vocabulary": {"count": 1}, "per_class": {}}}},
                "1 labelled gene is not in the vocabulary",
                id="labelled genes missing",
            ),
            pytest.param(
                {"prepared": {**sound(), "classes": ["B", "NK"]}}, "cannot name them: 'T'", id="classes left out"
            ),
            pytest.param({"prepared": {**sound(), "units": {"B": 0, "T": 3}}}, "not learnt: 'B'", id="unseen class"),
        ],
    )
    def test_they_follow_from_the_facts(self, parts: dict[str, Any], words: str) -> None:
        known = {"run": run(), "prepared": sound(), "evaluation": beside([0.01, 0.2])}
        found = limits(**{**known, **parts})
        assert [line for line in found if words in line], found
        assert len(found) == 2

    def test_a_class_without_test_examples_is_not_bad_but_unknown(self) -> None:
        found = beside([0.01, 0.2])
        found["per_class"][0] |= {"recall": 0.0, "f1": 0.0, "support": 0}
        lines = limits(run(), sound(), found)
        assert "How well it finds one class without test examples is not known: 'B'." in lines
        assert len(lines) == 2
        missing = [{"class": "B", "side": "test", "why": "1 row"}]
        lines = limits(run(), sound(missing=missing), found)
        assert "Class 'B' is not on the test side: it has only 1 row." in lines
        assert len(lines) == 2

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            pytest.param({"recall": 0.2}, "half of the test examples of one class: 'B' (20.0 %)", id="recall"),
            pytest.param({"ece": 0.2}, "20.0 % off", id="calibration"),
            pytest.param({"mcc": -0.1}, "better than guessing", id="chance"),
        ],
    )
    def test_weak_figures_are_named(self, changes: dict[str, float], words: str) -> None:
        found = beside([0.01, 0.2])
        found["per_class"][0]["recall"] = changes.get("recall", 0.9)
        found["metrics"]["ece"] = changes.get("ece", 0.01)
        found["intervals"]["mcc"] = [changes.get("mcc", 0.5), 0.9]
        assert [line for line in limits(run(), sound(), found) if words in line]
        assert len(limits(run(), sound(), found)) == 2

    @pytest.mark.parametrize(
        ("found", "beats"),
        [
            pytest.param(beside([0.01, 0.2]), True, id="better"),
            pytest.param(beside([-0.01, 0.2]), False, id="perhaps"),
            pytest.param(beside(None, 0.9), True, id="better without intervals"),
            pytest.param(beside(None, 0.83), False, id="equal without intervals"),
            pytest.param(evaluation(baseline=None), None, id="alone"),
        ],
    )
    def test_the_baseline(self, found: dict[str, Any], beats: bool | None) -> None:
        assert beats_baseline(found) is beats


@pytest.mark.parametrize("limit", [2, None])
@pytest.mark.parametrize("family", ["bert", "esm", "distilbert"])
@pytest.mark.parametrize("task", ["sequence", "token"])
def test_its_code_runs(task: str, family: str, limit: int | None, tmp_path: Path) -> None:
    """With transformers alone; it gives the model's own answers for each row by itself."""
    import torch
    import transformers

    auto = getattr(transformers, f"AutoModelFor{task.capitalize()}Classification")
    names = dict(enumerate(NASTY[:3]))
    ids = {name: i for i, name in names.items()}
    settings = architecture(family, id2label=names, label2id=ids, initializer_range=0.5)
    torch.manual_seed(1)
    model = auto.from_config(transformers.AutoConfig.for_model(**settings)).eval()
    model.save_pretrained(tmp_path)
    text = made(evaluation=evaluation(task=task), model={"max_length": limit, "tokenizer": False})
    (block,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert "sortase" not in block
    printed: list[tuple[Any, ...]] = []
    exec(block.replace("path/to/this/folder", str(tmp_path)), {"print": lambda *values: printed.append(values)})
    asked = [[2, 3, 4][:limit], [5, 6]]
    with torch.no_grad():
        alone = [model(torch.tensor([row])).logits.reshape(-1, 3).softmax(dim=-1) for row in asked]
    answers = [answer for row in alone for answer in row]
    assert [values[-2] for values in printed] == [names[int(answer.argmax())] for answer in answers]
    assert [values[-1] for values in printed] == pytest.approx([float(answer.max()) for answer in answers], abs=1e-5)
    if task == "token":
        assert [values[0] for values in printed] == [token for row in asked for token in row]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"license": "Apache-2.0"}, "near: apache-2.0", id="case"),
        pytest.param({"license": "my own"}, "license: other", id="unknown licence"),
        pytest.param({"license": "other"}, "license_name", id="other without a name"),
        pytest.param({"license": "mit", "license_name": "x"}, "belong to license: other", id="name without other"),
        pytest.param({"license_link": "x"}, "belong to license: other", id="link without licence"),
        pytest.param({"language": "English"}, "'English' is not the code", id="language"),
        pytest.param({"tags": ["a", " "]}, "leave it out", id="blank tag"),
        pytest.param({"description": ""}, "leave it out", id="blank text"),
        pytest.param({"base_model": "s3://bucket/model"}, "owner/name", id="base model"),
        pytest.param({"licence": "mit"}, "licence", id="unknown key"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        CardSpec(**settings)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A run.yaml over a small dataset."""
    from datasets import Dataset

    ids = rows(120)
    columns = {"cell_type": ["BNT"[row[0] - 5] for row in ids], "donor": [f"d{i % 6}" for i in range(len(ids))]}
    Dataset.from_dict({"input_ids": ids, **columns}).save_to_disk(str(tmp_path / "cells.dataset"))
    settings = {
        "run": {"name": "small", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"task": "sequence", "column": "cell_type"},
        "split": {"strategy": "group", "column": "donor"},
        "model": {"config": architecture(vocab_size=VOCABULARY)},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 20},
        "compute": {"device": "cpu"},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def model_of(config: Path) -> Path:
    return config.parent / "runs" / "small" / "model"


def test_a_run_writes_it_and_writes_it_again_when_it_changes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForSequenceClassification

    assert main(["run", "-c", str(config)]) == 0
    folder, path = RunFolder(str(config.parent / "runs" / "small")), model_of(config) / "README.md"
    first = path.read_text()
    found = folder.read("evaluation.json")
    by_name = {row[0]: row[1] for row in cells(section(first, "Results"))}
    assert by_name["macro F1"] == written(found["metrics"]["macro_f1"])
    assert found["baseline"]["verdict"] in section(first, "Results")
    assert "No licence was given" in first
    mark, stages = folder.mark("report"), folder.stages()
    assert mark["result"]["card"] == str(path)
    before = {name: each["inputs"] for name, each in sorted(stages.items()) if name != "report"}
    assert mark["inputs"] == digest({"stages": before})  # as it was before there were cards
    weights = (model_of(config) / "model.safetensors").stat().st_mtime_ns

    capsys.readouterr()
    assert main(["run", "-c", str(config), "--set", "card.license=mit"]) == 0
    said = capsys.readouterr().err
    assert said.count("skipped") == 3
    assert "report: done" in said
    assert ModelCard(path.read_text()).data.license == "mit"
    assert (model_of(config) / "model.safetensors").stat().st_mtime_ns == weights
    assert main(["run", "-c", str(config), "--set", "card.license=mit"]) == 0
    assert capsys.readouterr().err.count("skipped") == 4
    AutoModelForSequenceClassification.from_pretrained(model_of(config))


def test_a_run_without_a_test_side_says_so(config: Path) -> None:
    assert main(["run", "-c", str(config), "--set", "split={strategy: random, test_size: 0}"]) == 0
    text = (model_of(config) / "README.md").read_text()
    assert "no rows were kept for a test" in section(text, "Results")
    assert ModelCard(text).data.eval_results is None
    assert "It was not measured" in section(text, "Limits")


def test_a_report_before_training_makes_no_model_folder(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", "-c", str(config)]) == 0
    assert main(["report", "-c", str(config)]) == 0
    assert not model_of(config).exists()
    with pytest.raises(MissingInputError, match="no trained model"):
        write_card(RunFolder(str(config.parent / "runs" / "small")), CardSpec())
    assert main(["train", "-c", str(config)]) == 0
    assert main(["report", "-c", str(config)]) == 0, capsys.readouterr().err
    assert "the run was not evaluated" in section((model_of(config) / "README.md").read_text(), "Results")


def test_figures_of_an_earlier_model_are_not_shown(root: str) -> None:
    folder = RunFolder(root)
    marks = {"train": {"inputs": "new"}, "evaluate": {"inputs": "e", "settings": {"train": "old"}}}
    for name, mark in marks.items():
        storage.write_json(folder.path("stages", f"{name}.json"), {"finished": name, **mark})
    for name, content in {"run.json": run(), "data/prepare.json": prepared(), "evaluation.json": evaluation()}.items():
        storage.write_json(folder.path(*name.split("/")), content)
    url = write_card(folder, CardSpec())
    assert url == storage.join(root, "model", "README.md")
    assert "the run was not evaluated" in storage.read_bytes(url).decode()
    marks["evaluate"]["settings"] = {"train": "new"}
    storage.write_json(folder.path("stages", "evaluate.json"), {"finished": "evaluate", **marks["evaluate"]})
    elsewhere = storage.join(root, "other", "README.md")
    assert write_card(folder, CardSpec(), LINEAGE, target=elsewhere) == elsewhere
    text = storage.read_bytes(elsewhere).decode()
    assert evaluation()["baseline"]["verdict"] in text
    assert "c0ffee" in text
    assert NAMES[0] in text


def test_credentials_in_a_lineage_are_hidden(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    storage.write_json(folder.path("run.json"), run())
    storage.write_json(folder.path("stages", "train.json"), {"inputs": "a", "finished": "b"})
    lineage = {**LINEAGE, "data": {"source": "https://user:pa55word@host/data"}}
    assert "pa55word" not in storage.read_bytes(write_card(folder, CardSpec(), lineage)).decode()
