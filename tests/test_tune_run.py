"""A search through the command and through GenericClassifier: what the run folder, the report and the caller get."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_data import prepared, wait_until
from makers import architecture, assert_same_weights, dataset, weights
from patience import PATIENCE
from sortase import GenericClassifier
from sortase.cli import main

ray = pytest.importorskip("ray")
pytest.importorskip("ray.tune")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SEARCH = {"trials": 2, "space": {"learning_rate": [1e-4, 1e-2], "freeze_layers": [0, 1]}}


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, namespace="sortase", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    source = dataset()
    names = [["a", "b", "c"][label] for label in source["label"]]
    source.remove_columns("label").add_column("cell_type", names).save_to_disk(str(tmp_path / "cells.dataset"))
    settings = {
        "run": {"name": "searched", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"task": "sequence", "column": "cell_type"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "tune": SEARCH,
        "evaluate": {"bootstrap": 50},
        "compute": {"device": "cpu"},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text())


def test_a_run_with_a_search(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best trial's model is what is scored and reported; made longer, it trains only what is new."""
    folder = config.parent / "runs" / "searched"
    assert main(["run", "-c", str(config)]) == 0, capsys.readouterr().err
    said = capsys.readouterr().err
    assert "preflight: " in said
    assert "tune: 2 trials, 2 at a time" in said
    told = read(folder, "run.json")
    assert list(told["stages"]) == ["prepare", "tune", "evaluate", "report"]
    best = told["tuning"]["best"]
    assert_same_weights(weights(folder), weights(folder / "tune" / best))
    assert told["training"] == read(folder / "tune" / best, "run.json")["training"]
    assert "Search of hyperparameters" in (folder / "report.html").read_text()
    assert (folder / "figures" / "tune_parallel.svg").exists()

    assert main(["run", "-c", str(config)]) == 0
    assert "tune: finished earlier with the same inputs, skipped" in capsys.readouterr().err
    assert main(["tune", "-c", str(config), "-s", "tune.trials=3"]) == 2
    assert "tune.trials 2 → 3" in capsys.readouterr().err
    assert main(["train", "-c", str(config)]) == 2
    assert "its model is made by stage 'tune'" in capsys.readouterr().err
    stamps = {path: path.stat().st_mtime_ns for path in folder.glob("tune/*/model/model.safetensors")}
    assert main(["tune", "-c", str(config), "-s", "tune.trials=3", "--replace"]) == 0, capsys.readouterr().err
    assert "2 trials were finished before" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert len((folder / "tune" / "leaderboard.csv").read_text().splitlines()) == 4


def test_training_and_search_do_not_share_a_model(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = {name: part for name, part in yaml.safe_load(config.read_text()).items() if name != "tune"}
    trained = config.parent / "train.yaml"
    trained.write_text(yaml.safe_dump(plain))
    assert main(["run", "-c", str(trained)]) == 0, capsys.readouterr().err
    folder = config.parent / "runs" / "searched"
    before = weights(folder)
    assert main(["tune", "-c", str(config)]) == 2
    assert "stage 'train' made the model" in capsys.readouterr().err
    assert_same_weights(weights(folder), before)


def test_what_cannot_be_compared_is_refused_when_it_is_read(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for change, words in {
        "split.validation_size=0": "split.validation_size is 0",
        "train.eval_strategy=no": "train.eval_strategy is 'no'",
        'tune.space={"learning_rte": [0.1, 0.2]}': "learning_rate",
    }.items():
        assert main(["run", "-c", str(config), "-s", change]) == 2
        assert words in capsys.readouterr().err
    assert not (config.parent / "runs").exists()


def test_a_stopped_command_exits_5_and_the_same_command_continues(config: Path) -> None:
    folder = config.parent / "runs" / "searched"
    settings = ["-s", "train.num_train_epochs=40", "-s", "tune.scheduler=none", "-s", "train.save_steps=8"]
    command = [sys.executable, "-m", "sortase.cli", "run", "-c", str(config), *settings]
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: any(folder.glob("tune/*/checkpoints/*/manifest.json")), "a checkpoint")
    driver.send_signal(signal.SIGTERM)
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 5, said
    assert "2 of 2 trials unfinished" in said
    assert main(["tune", "-c", str(config), *settings]) == 0
    resumed = [read(path, "run.json")["training"]["resumed_from"] for path in sorted(folder.glob("tune/trial-*"))]
    assert any(step and step >= 8 for step in resumed)


def test_the_classifier_searches(tmp_path: Path) -> None:
    data, _ = prepared("sequence", str(tmp_path))
    model = tmp_path / "architecture"
    from transformers import BertConfig

    BertConfig(**architecture()).save_pretrained(model)
    classifier = GenericClassifier(
        "cell_type",
        ray_config={
            "learning_rate": ray.tune.loguniform(1e-4, 1e-2),
            "weight_decay": [0.0, 0.1, 0.2],
            "seed": ray.tune.uniform(0, 100),
        },
        training_args={"num_train_epochs": 1, "evaluation_strategy": "epoch"},
        compute={"device": "cpu"},
    )
    output = str(tmp_path / "out")
    trainer = classifier.train(str(model), data, output, n_trials=2)
    told = read(tmp_path / "out", "run.json")
    parameters = told["tuning"]["parameters"]
    assert (trainer.args.learning_rate, trainer.args.seed) == (parameters["learning_rate"], int(parameters["seed"]))
    saved = weights(tmp_path / "out" / "tune" / told["tuning"]["best"])
    assert_same_weights({name: value.cpu() for name, value in trainer.model.state_dict().items()}, saved)
    assert (tmp_path / "out" / "predictions.parquet").exists()
    assert read(tmp_path / "out", "evaluation.json")["metrics"]
    analysis = classifier._ray_tune(str(model), data, output, None, 2, 0.2, None)
    assert isinstance(analysis, ray.tune.ExperimentAnalysis)
    assert len(analysis.trials) == 2
    assert analysis.best_result["macro_f1"] == told["tuning"]["value"]
