"""A model that has learnt nothing is named, with what helps; every training from Python ends with its verdict."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from sortase import GenericClassifier
from sortase.config.model import ModelSpec
from sortase.config.train import TrainSpec
from sortase.demo import sources
from sortase.progress import announce
from sortase.score.collapse import Training, learnt_nothing
from tokenize_data import run as tokenized

CLASSES = ["B", "NK", "T"]


def matrix(*rows: list[int]) -> np.ndarray:
    return np.array(rows)


def judged(counts: np.ndarray, training: Training | None = None, interval: Any = None) -> dict[str, Any] | None:
    found = {"confusion_matrix": counts.tolist(), "intervals": {"mcc": interval}, "metrics": {"mcc": 0.011}}
    return learnt_nothing(found, CLASSES[: len(counts)], "row", training)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        pytest.param(
            matrix([30, 0, 0], [20, 0, 0], [10, 0, 0]), "calls 100% of the 60 rows 'B', which 50% are", id="one class"
        ),
        pytest.param(matrix([97, 0, 0], [48, 2, 0], [50, 0, 0]), "finds 2 of the 100 others", id="nearly"),
        pytest.param(matrix([970, 0], [30, 0]), "calls 100% of the 1,000 rows 'B', which 97% are", id="rare others"),
        pytest.param(matrix([3, 0], [2, 0]), "finds 0 of the 2 others", id="few rows"),
    ],
)
def test_a_collapsed_model_is_named(counts: np.ndarray, words: str) -> None:
    found = judged(counts, interval=[-0.1, 0.1])
    assert found is not None
    assert words in found["words"]
    assert found["class"] == "B"


@pytest.mark.parametrize(
    "counts",
    [
        pytest.param(matrix([970, 0], [2, 28]), id="others are rare and found"),
        pytest.param(matrix([30, 3, 3], [5, 20, 5], [4, 4, 9]), id="it has learnt"),
        pytest.param(matrix([90, 5, 5], [85, 10, 5], [90, 5, 5]), id="one class often, not nearly always"),
        pytest.param(matrix([97, 0], [3, 0]), id="hardly any other"),
        pytest.param(matrix([50, 0, 0], [0, 0, 0], [0, 0, 0]), id="a single class in the test"),
        pytest.param(matrix([0, 0], [0, 0]), id="nothing"),
    ],
)
def test_other_models_are_not(counts: np.ndarray) -> None:
    assert judged(counts) is None


def test_guessing_is_told_by_the_interval() -> None:
    guesses = matrix([20, 12, 10], [19, 11, 10], [21, 9, 12])
    found = judged(guesses, interval=[-0.08, 0.1])
    assert found is not None
    assert found["kind"] == "chance"
    assert "correlation of 0.011 (0 is chance, 95 % interval -0.080 to +0.100)" in found["words"]
    assert judged(guesses, interval=[0.01, 0.2]) is None
    assert judged(matrix([2, 2], [2, 2]), interval=[-1.0, 1.0]) is None  # so few rows tell nothing


@pytest.mark.parametrize(
    ("settings", "model", "steps", "helps", "silent"),
    [
        pytest.param(
            {}, {"config": {}}, 15, ["pretrained checkpoint", "num_train_epochs is 3", "1e-3"], ["frozen"], id="new",
        ),
        pytest.param(
            {"learning_rate": 1e-6}, {"checkpoint": "hub/name"}, 900, ["higher learning_rate than 1e-06"],
            ["random weights", "more steps"], id="too small",
        ),
        pytest.param(
            {"learning_rate": 2e-3}, {"checkpoint": "hub/name", "freeze_layers": 4}, None,
            ["lower learning_rate than 0.002", "freeze_layers is 4"], ["more steps"], id="too large",
        ),
        pytest.param(
            {"class_weights": "balanced"}, {"checkpoint": "hub/name"}, 900, ["another learning_rate"],
            ["class_weights"], id="nothing stands out",
        ),
    ],
)  # fmt: skip
def test_advice_follows_the_settings(
    settings: dict[str, Any], model: dict[str, Any], steps: int | None, helps: list[str], silent: list[str]
) -> None:
    counts = matrix([60, 0, 0], [20, 0, 0], [20, 0, 0])
    found = judged(counts, Training(TrainSpec(**settings), ModelSpec(**model), steps))
    assert found is not None
    assert all(words in found["words"] for words in helps)
    assert not any(words in found["words"] for words in silent)
    assert ("class_weights: balanced" in found["words"]) == ("class_weights" not in settings)


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("sortase")
    before = logger.level, logger.propagate, list(logger.handlers)
    yield logger
    logger.level, logger.propagate, logger.handlers = before
    logger.setLevel(before[0])


def test_the_notebook_on_blood_cells_ends_with_its_verdict(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    """700 real cells and stFormer's defaults: three epochs at 5e-5, here of a small model with random weights."""
    logger.propagate = False  # as in a process without logging; pytest has its own
    layer = {"layer": "raw", "values": "log1p", "columns": ["bulk_labels"], "max_length": 32}
    cells = tokenized(sources.blood_cells(), tmp_path, **layer)
    torch.manual_seed(2)
    shape = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 128}
    BertForSequenceClassification(BertConfig(vocab_size=1000, **shape)).save_pretrained(tmp_path / "final")
    classifier = GenericClassifier(
        "bulk_labels", nproc=1, training_args={"num_train_epochs": 3, "learning_rate": 5e-5}, compute={"device": "cpu"}
    )
    data, class_map = classifier.prepare_data(cells.dataset_path, str(tmp_path / "tmp"), "blood")
    capfd.readouterr()
    classifier.train(str(tmp_path / "final"), data, str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    shown = [line for line in capfd.readouterr().err.splitlines() if line.startswith("The ")]
    assert shown == [written["baseline"]["verdict"], written["learnt_nothing"]["words"]]
    assert (written["learnt_nothing"]["kind"], written["learnt_nothing"]["class"]) == (
        "collapsed",
        "Dendritic",
    )  # the commonest
    assert "does not beat logistic regression" in shown[0]
    assert "more steps than" in shown[1]

    classifier.train(str(tmp_path / "final"), data, str(tmp_path / "out"))  # taken up again, it says the same
    assert [line for line in capfd.readouterr().err.splitlines() if line.startswith("The ")] == shown
    classifier.evaluate(str(tmp_path / "out"), data, class_map, str(tmp_path / "scored"))
    assert "The model has collapsed" in capfd.readouterr().err


def test_a_line_is_shown_once_and_where_the_program_wants_it(
    capsys: pytest.CaptureFixture[str], logger: logging.Logger
) -> None:
    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    lines: list[str] = []
    logger.propagate = False
    announce("no logging")
    assert capsys.readouterr().err == "no logging\n"
    logger.addHandler(logging.NullHandler())
    announce("a library's handler", logging.WARNING)
    assert capsys.readouterr().err == "a library's handler\n"
    logger.addHandler(Kept())
    announce("quiet program")  # its level is WARNING: information is not shown by it
    assert (lines, capsys.readouterr().err) == ([], "quiet program\n")
    announce("100 % bad", logging.WARNING)
    logger.setLevel(logging.INFO)
    announce("talkative program")
    assert (lines, capsys.readouterr().err) == (["100 % bad", "talkative program"], "")
    logger.setLevel(logging.ERROR)
    announce("unwanted", logging.WARNING)
    assert (len(lines), capsys.readouterr().err) == (2, "")
