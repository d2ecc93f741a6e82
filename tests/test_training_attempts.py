"""A training from Python is an attempt like any other: it has an outcome, listens to `sortase cancel`, and reports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path
from typing import Any

import pytest

from cluster_data import finished_steps, wait_until
from makers import architecture, dataset
from patience import PATIENCE
from sortase import GenericClassifier, storage
from sortase.cli import main
from sortase.errors import CancelledError, FencedError, InfrastructureError, MissingExtraError, WorkFailedError
from sortase.runs.folder import RunFolder
from sortase.runs.overview import overview

ARGUMENTS = {"num_train_epochs": 1, "per_device_train_batch_size": 16}


@pytest.fixture
def prepared(tmp_path: Path) -> str:
    source = dataset()
    names = ["abc"[label] for label in source["label"]]
    source.remove_columns("label").add_column("cell_type", names).save_to_disk(str(tmp_path / "cells.dataset"))
    return GenericClassifier("cell_type").prepare_data(str(tmp_path / "cells.dataset"), str(tmp_path / "data"), "x")[0]


@pytest.fixture
def train(prepared: str, root: str) -> Callable[..., str]:
    def trained(arguments: dict[str, Any] | None = None, own: dict[str, Any] | None = None, **options: Any) -> str:
        url = storage.join(root, "out")
        classifier = GenericClassifier(
            "cell_type", training_args={**ARGUMENTS, **(arguments or {})}, compute={"device": "cpu"}, **(own or {})
        )
        classifier.train(None, prepared, url, model_config=architecture(), **options)  # type: ignore[arg-type]
        return url

    return trained


def test_status_tells_what_became_of_it(train: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    url = train()
    told = overview(RunFolder(url))
    assert (told.attempt, told.state, told.exit_code, list(told.stages)) == (1, "succeeded", 0, ["train", "evaluate"])
    train()
    assert overview(RunFolder(url)).attempt == 2
    assert "train: finished earlier with the same inputs, skipped" in capsys.readouterr().err
    assert main(["cancel", url]) == 2
    assert f"nothing works on {url}" in capsys.readouterr().err


def test_a_failure_is_told(train: Callable[..., str], root: str) -> None:
    with pytest.raises(WorkFailedError) as caught:
        train({"learning_rate": 1e30})
    told = overview(RunFolder(storage.join(root, "out")))
    assert (told.state, told.exit_code, told.error) == ("failed", 1, f"WorkFailedError: {caught.value}")


def test_cancel_keeps_a_checkpoint_from_which_the_same_call_goes_on(train: Callable[..., str], root: str) -> None:
    url = storage.join(root, "out")
    command = [sys.executable, "-m", "sortase", "cancel", url]
    long = {"num_train_epochs": 1000, "save_strategy": "steps", "save_steps": 10, "eval_strategy": "no"}

    def cancel() -> subprocess.CompletedProcess[str]:
        wait_until(lambda: finished_steps(url), "a checkpoint")
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    with ThreadPoolExecutor(1) as pool:
        cancelling = pool.submit(cancel)
        with pytest.raises(CancelledError, match="checkpoint"):
            train(long)
    assert cancelling.result().returncode == 0, cancelling.result().stderr
    told = overview(RunFolder(url))
    assert (told.state, told.exit_code) == ("cancelled", 5)
    assert told.checkpoint is not None


def test_one_that_was_taken_over_publishes_nothing(train: Callable[..., str], root: str, monkeypatch: Any) -> None:
    import sortase.api.training as training

    later, fit = RunFolder(storage.join(root, "out"), ""), training.train

    def overtaken(*arguments: Any, **named: Any) -> Any:
        later.begin()
        return fit(*arguments, **named)

    monkeypatch.setattr(training, "train", overtaken)
    with pytest.raises(FencedError, match=r"attempt 2 .* has taken over"):
        train()
    assert not storage.exists(storage.join(later.url, "model.safetensors"))


def test_it_reports(train: Callable[..., str]) -> None:
    url = train()
    assert not storage.exists(storage.join(url, "report.html"))
    train(report=True)
    page = storage.read_bytes(storage.join(url, "report.html")).decode()
    assert "was not divided" not in page
    assert "has not finished" not in page
    assert "Data kept and dropped" in page
    assert storage.exists(storage.join(url, "figures", "confusion_matrix.svg"))
    assert "trained from new weights" in storage.read_bytes(storage.join(url, "README.md")).decode()
    prepared = storage.read_json(storage.join(url, "data", "prepare.json"))
    assert sum(side["rows"] for side in prepared["split"]["sides"].values()) == 120
    assert prepared["split"]["near_duplicates"] is not None
    assert list(overview(RunFolder(url)).stages) == ["train", "evaluate", "report"]


def test_a_dataset_of_its_own_is_the_test_side_of_the_report(
    train: Callable[..., str], prepared: str, tmp_path: Path
) -> None:
    from datasets import load_from_disk

    load_from_disk(prepared).select(range(30)).save_to_disk(str(tmp_path / "other.dataset"))
    url = train(report=True, eval_dataset=str(tmp_path / "other.dataset"))
    sides = storage.read_json(storage.join(url, "data", "prepare.json"))["split"]["sides"]
    assert sides["test"]["rows"] == 30 == sum(sides["test"]["per_class"].values())
    assert sides["train"]["rows"] + sides["validation"]["rows"] == 120


def test_trackers_are_told(train: Callable[..., str], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    url = train({"report_to": "tensorboard"})
    assert [name for name in storage.list_files(storage.join(url, "tracking")) if "tfevents" in name]
    assert json.loads(storage.read_bytes(storage.join(url, "run.json")))["config"]["tracking"]["to"] == ["tensorboard"]


def test_a_tracker_that_is_not_installed(train: Callable[..., str], monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.setattr("sortase.train.tracking.importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="wandb"):
        train(own={"tracking": {"to": ["wandb"]}})
    assert not storage.exists(storage.join(root, "out"))


def test_memory_is_looked_at_before_anything_is_written(
    train: Callable[..., str], monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.setattr("sortase.pipeline.preflight_model.machine_memory", lambda: 1000)
    with pytest.raises(InfrastructureError, match=r"cannot be trained here.*this machine has 1000 bytes"):
        train()
    assert {name.partition("/")[0] for name in storage.list_files(storage.join(root, "out"))} == {"events", "logs"}


def test_storage_is_set_for_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.api.classifier.configure", lambda spec: given.append(spec.region))
    given = list[str]()
    GenericClassifier("cell_type", storage={"region": "eu-west-3"})
    GenericClassifier("cell_type")
    assert given == ["eu-west-3"]


def test_a_notebook_shows_how_good_it_is(prepared: str, tmp_path: Path) -> None:
    classifier = GenericClassifier("cell_type", training_args=ARGUMENTS, compute={"device": "cpu"})
    url = str(tmp_path / "a<b")
    trainer: Any = classifier.train(None, prepared, url, model_config=architecture())  # type: ignore[arg-type]
    evaluation = json.loads(Path(url, "evaluation.json").read_text())
    page = trainer._repr_html_()
    assert f"<code>{escape(url)}</code>" in page
    assert (
        "<td>{:.3f}</td><td>{:.3f} to {:.3f}</td>".format(
            evaluation["metrics"]["accuracy"], *evaluation["intervals"]["accuracy"]
        )
        in page
    )
    assert escape(evaluation["baseline"]["verdict"]) in page
    found = classifier.evaluate(url, prepared, None, str(tmp_path / "scored"))  # type: ignore[arg-type]
    assert json.loads(json.dumps(found)) == found
    assert f"<td>{found['eval_macro_f1']:.3f}</td>" in found._repr_html_()  # type: ignore[attr-defined]
    unscored: Any = classifier.train(
        None,
        prepared,
        str(tmp_path / "all"),
        test_size=0,
        model_config=architecture(),  # type: ignore[arg-type]
    )
    assert "No row was held out" in unscored._repr_html_()
