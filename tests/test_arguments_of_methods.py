"""The same for the methods, up to where their work would begin."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoConfig, AutoModelForSequenceClassification

import sortase
from makers import architecture
from odd_values import ODD
from refusal_data import ARGUMENTS, Ground, prepare_ground
from sortase import GenericClassifier
from test_arguments import (
    FITS,
    Fits,
    check,
    count,
    is_dict,
    is_fraction,
    is_list,
    is_path,
    is_rows,
    is_text,
    or_none,
)


class Reached(Exception):  # noqa: N818 - the end of what is tried
    """The work would begin."""


def reached(*arguments: Any, **named: Any) -> Any:
    raise Reached


WORK = (
    "sortase.runs.folder.RunFolder.begin",
    "sortase.api.scoring.evaluate",
    "sortase.prepare.prepare._write",
    "sortase.api.plots.save",
    "sortase.cluster.connect.imported",
)


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WORK:
        monkeypatch.setattr(name, reached)
    monkeypatch.setattr("sortase.runs.attempts.Attempt.end", lambda self, error: None)  # it failed in no way of its own


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    found = prepare_ground(tmp_path_factory.mktemp("ground"))
    labels = {"id2label": {0: "B", 1: "NK", 2: "T"}, "label2id": {"B": 0, "NK": 1, "T": 2}}
    config = AutoConfig.for_model(**architecture(), **labels)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(found.model)
    predictions = {"labels": [0, 1, 2], "probabilities": np.eye(3), "classes": ["B", "NK", "T"]}
    (found.root / "predictions.pkl").write_bytes(pickle.dumps(predictions))
    return found


def data_or_path(value: Any) -> bool:
    return is_path(value) or is_rows(value)


TRAINING: dict[str, Fits] = {
    "model_checkpoint": or_none(is_path),
    "dataset_path": is_path,
    "output_directory": is_path,
    "n_trials": count,
    "test_size": is_fraction,
    "tokenizer_name_or_path": or_none(is_path),
}
METHODS: dict[str, dict[str, Fits]] = {
    "prepare_data": {"input_data": data_or_path, "output_directory": is_path, "output_prefix": is_text},
    "_load_tokenizer": {"name_or_path": is_path},
    "train": {
        **TRAINING,
        "eval_dataset": or_none(data_or_path),
        "split": or_none(is_dict),
        "model_config": or_none(is_dict),
    },
    "_ray_tune": {**TRAINING, "eval_dataset_path": or_none(data_or_path)},
    "evaluate": {
        "model_directory": is_path,
        "eval_dataset_path": data_or_path,
        "id_class_dict_file": or_none(is_path),
        "output_directory": is_path,
        "tokenizer_name_or_path": or_none(is_path),
    },
    "plot_confusion_matrix": {"output_directory": is_path, "output_prefix": is_text, "class_order": is_list},
    "plot_predictions": {
        "predictions_file": is_path,
        "id_class_dict_file": is_path,
        "title": is_text,
        "output_directory": is_path,
        "output_prefix": is_text,
        "class_order": or_none(is_list),
    },
}


def usual(ground: Ground, method: str, output: Path) -> dict[str, Any]:
    tune = {"n_trials": 1, "test_size": 0.2, "eval_dataset_path": None, "tokenizer_name_or_path": None}
    training = {"model_checkpoint": ground.checkpoint, "dataset_path": ground.data}
    scored = {"model_directory": ground.model, "eval_dataset_path": ground.data}
    return {
        "prepare_data": {"input_data": ground.cells, "output_prefix": "x"},
        "train": training,
        "_ray_tune": {**training, **tune},
        "evaluate": {**scored, "id_class_dict_file": ground.__getattr__("class_map.pkl")},
        "plot_confusion_matrix": {"conf_mat": [[1]], "output_prefix": "x", "class_order": ["a"]},
        "plot_predictions": {
            "predictions_file": ground.__getattr__("predictions.pkl"),
            "id_class_dict_file": ground.__getattr__("class_map.pkl"),
            "title": "t",
            "output_prefix": "x",
            "class_order": ["B"],
        },
    }.get(method, {}) | ({} if method == "_load_tokenizer" else {"output_directory": output})


@pytest.mark.parametrize(("method", "argument"), [(m, a) for m, arguments in METHODS.items() for a in arguments])
def test_wrong_values_are_refused_by_name(method: str, argument: str, ground: Ground, tmp_path: Path) -> None:
    classifier = GenericClassifier(
        "cell_type", training_args=ARGUMENTS, ray_config={"learning_rate": [1e-5, 1e-3]}, nproc=1
    )
    fits = METHODS[method][argument]
    arguments = usual(ground, method, tmp_path / "out")

    def call(**given: Any) -> None:
        try:
            getattr(classifier, method)(**given)
        except Reached:
            assert fits(given[argument]), f"{argument}={given[argument]!r} was not refused"

    tried = [value for value in ODD if not (argument == "input_data" and is_rows(value))]  # these name the column
    refused = [check(call, argument, arguments, value, fits) for value in tried]
    assert any(refused)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argument", FITS["predict_from_checkpoint"])
def test_predictions(argument: str, ground: Ground) -> None:
    arguments = {"model_dir": ground.model, "dataset_path": ground.data}
    fits = FITS["predict_from_checkpoint"][argument]
    refused = [check(sortase.predict_from_checkpoint, argument, arguments, value, fits) for value in ODD]
    assert any(refused)
