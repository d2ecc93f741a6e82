"""Evaluation as a whole: each labelled unit once, the same figures in all files, refusals write nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from sklearn import metrics as sk

from makers import CLASSES, architecture, dataset
from sortase.config.evaluate import EvaluateSpec
from sortase.data.sequences import Sequences
from sortase.errors import InputError
from sortase.model import inference
from sortase.model.load import Trained, build_model, load_config
from sortase.model.task import TASKS
from sortase.score.evaluate import EvaluateJob, evaluate, flat
from sortase.storage import pickles

LABELS = list(CLASSES)


def job(kind: str, test: Sequences, **changes: Any) -> EvaluateJob:
    model = build_model(TASKS[kind], CLASSES, None, load_config(None, architecture()), 1).eval()
    settings = EvaluateSpec(batch_size=16, bootstrap=40)
    defaults = {"train": None, "split_unit": "row", "settings": settings, "precision": "fp32", "seed": 0}
    return EvaluateJob(
        **{"trained": Trained(model, None, TASKS[kind], CLASSES, 64, 0), "test": test} | defaults | changes
    )


def opened(kind: str, n: int = 50) -> Sequences:
    return Sequences.open(dataset(kind, n), TASKS[kind].label_column)


def run(given: EvaluateJob, folder: Path) -> dict[str, Any]:
    return evaluate(given, str(folder), lambda text: None)


@pytest.mark.parametrize("kind", list(TASKS))
def test_files_and_figures_agree_with_scikit_learn(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """37 rows in batches of 16 and pieces of some rows: the uneven last batch counts, and nothing counts twice."""
    monkeypatch.setattr(inference, "PIECE_LOGITS", 100)
    found = run(job(kind, opened(kind).view(np.arange(37))), tmp_path)
    table = pq.read_table(tmp_path / "predictions.parquet")
    true, predicted = table.column("label").to_pylist(), table.column("prediction").to_pylist()
    assert found["units"] == table.num_rows
    places = table.select(["row", "position"] if kind == "token" else ["row"])
    assert places.group_by(places.column_names).aggregate([]).num_rows == table.num_rows
    assert found["metrics"]["macro_f1"] == pytest.approx(sk.f1_score(true, predicted, average="macro"))
    assert found["confusion_matrix"] == sk.confusion_matrix(true, predicted, labels=LABELS).tolist()
    low, high = found["intervals"]["accuracy"]
    assert low <= found["metrics"]["accuracy"] <= high
    pickled = pickles.load(str(tmp_path / "predictions.pkl"))
    assert [LABELS[i] for i in pickled["labels"]] == true
    assert [LABELS[i] for i in pickled["predictions"]] == predicted
    assert pickled["classes"] == LABELS
    assert json.loads((tmp_path / "evaluation.json").read_text()) == found


def test_flat_figures_are_those_of_the_evaluation(tmp_path: Path) -> None:
    found = run(job("token", opened("token")), tmp_path)
    values = flat(found)
    assert {f"eval_{name}": value for name, value in found["metrics"].items()}.items() <= values.items()
    assert values["eval_samples"] == 50 < values["eval_units"]


def test_held_out_tokens_are_scored_by_token_too(tmp_path: Path) -> None:
    sequences = opened("token")
    held_out = np.zeros(60, dtype=bool)
    held_out[[9, 11, 13, 15, 17, 19, 21]] = True
    test, train = sequences.view(hidden_tokens=~held_out), sequences.view(hidden_tokens=held_out)
    found = run(job("token", test, train=train, split_unit="token"), tmp_path)
    assert found["per_token_type"]["tokens"] == 7
    assert found["bootstrap"]["unit"] == "token"
    rival = found["baseline"]["logistic_regression"]
    assert rival["per_token_type"]["tokens"] == 7
    assert "macro F1" in found["baseline"]["verdict"]


def test_a_baseline_from_a_part_of_the_rows_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sortase.model import baseline

    monkeypatch.setattr(baseline, "MOST_TOKENS", 300)
    sequences = opened("sequence", 80)
    found = run(job("sequence", sequences.view(np.arange(30)), train=sequences.view(np.arange(30, 80))), tmp_path)
    learnt = found["baseline"]["logistic_regression"]["train_rows"]
    assert learnt < 50
    assert f"learnt from {learnt} of 50 rows" in found["baseline"]["verdict"]


def test_no_baseline_without_something_to_learn_from_or_when_not_asked_for(tmp_path: Path) -> None:
    sequences = opened("sequence")
    assert run(job("sequence", sequences), tmp_path)["baseline"] is None
    off = EvaluateSpec(baseline=False, bootstrap=0)
    found = run(job("sequence", sequences, train=sequences, settings=off), tmp_path)
    assert found["baseline"] is None
    assert found["intervals"] == {}


@pytest.mark.parametrize(
    ("kind", "columns", "message"),
    [
        pytest.param("sequence", {"label": [0, 3]}, "row 1 has label 3, but there are 3 classes", id="class"),
        pytest.param("token", {"labels": [[-100], [-100]]}, "2 rows to evaluate hold no labelled token", id="no label"),
        pytest.param("token", {"labels": [[0], [1, 2]]}, "row 1 has 1 tokens and 2 values in 'labels'", id="lengths"),
        pytest.param("sequence", {}, "no column 'label'", id="no column"),
    ],
)
def test_refusals_write_nothing(kind: str, columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": [[8], [9]], **columns})
    with pytest.raises(InputError, match=message):
        run(job(kind, Sequences.open(data, TASKS[kind].label_column)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_empty_side_is_refused_with_the_setting_that_fills_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"split\.test_size above 0"):
        run(job("sequence", opened("sequence").view(np.arange(0))), tmp_path)
    assert not list(tmp_path.iterdir())
