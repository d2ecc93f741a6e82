"""Experiment trackers, each read back by its own library, offline."""

from __future__ import annotations

import importlib.util
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from makers import run_training, train_job
from sortase import storage
from sortase.config.tracking import TrackingSpec
from sortase.errors import CancelledError, ConfigError, MissingExtraError
from sortase.pipeline.events import Events
from sortase.pipeline.run_folder import RunFolder
from sortase.pipeline.tracking import MLflow, check_tracking

pytestmark = pytest.mark.filterwarnings("ignore")
STEPS = 24
SETTINGS = {"logging_steps": 2, "save_steps": 6, "eval_strategy": "epoch"}


def job(*names: str, **settings: Any) -> Any:
    from dataclasses import replace

    spec = TrackingSpec(to=list(names), wandb_mode="offline", project="tests")
    return replace(train_job(**{**SETTINGS, **settings}), tracking=spec, name="tiny")


def interrupted(folder: str, asked: Any) -> None:
    """Stopped at step 9: its checkpoint is that of step 9, so it goes on there."""
    seen = iter([False] * 8 + [True] * 100)
    with pytest.raises(CancelledError):
        run_training(folder, asked, should_stop=lambda: next(seen))


def scalars(folder: Path) -> dict[str, list[int]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [point.step for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def wandb_records(content: bytes) -> Iterator[bytes]:
    """W&B's files are LevelDB logs after seven bytes: blocks of 32 KiB that hold whole records or parts of them."""
    place, parts = 7, b""
    while place + 7 <= len(content):
        length, kind = struct.unpack_from("<HB", content, place + 4)
        if kind == 0:  # the rest of the block is empty
            place += -place % 32768
            continue
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if 32768 - place % 32768 < 7:
            place += -place % 32768
        if kind in (1, 4):
            yield parts
            parts = b""


def logged() -> list[int]:
    return list(range(2, STEPS + 1, 2))


def test_tensorboard_beside_the_run_wherever_it_lies(root: str, tmp_path: Path) -> None:
    """Interrupted and continued: no step twice."""
    url = storage.join(root, "run")
    asked = job("tensorboard")
    interrupted(url, asked)
    run_training(url, asked)
    local = tmp_path / "read"
    storage.download(storage.join(url, "tracking", "tensorboard"), local)
    found = scalars(local)
    assert found["train/loss"] == logged()
    assert found["train/step_seconds"] == logged()
    assert found["eval/macro_f1"] == [12, 24]
    assert {"train/learning_rate", "train/tokens_per_second", "train/padding_share"} <= found.keys()


def test_mlflow_goes_on_in_the_same_run(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    asked = job("mlflow")
    interrupted(str(tmp_path), asked)
    run_training(tmp_path, asked)
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    (run,) = client.search_runs([client.get_experiment_by_name("tests").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny"
    assert run.data.params["train.learning_rate"] == "0.001"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")] == logged()
    assert [point.step for point in client.get_metric_history(run.info.run_id, "eval/macro_f1")] == [12, 24]


def test_mlflow_is_not_told_twice_what_a_killed_attempt_had_told(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    folder = RunFolder(str(tmp_path))
    spec = TrackingSpec(to=["mlflow"], mlflow_uri=f"sqlite:///{tmp_path}/m.db")
    for begun in (0, 2):  # the second attempt goes on from a checkpoint older than what was told
        tracker = MLflow(spec, folder, "run", {})
        tracker.begin(begun)
        for step in range(begun + 1, 6):
            tracker.log(step, {"train/loss": float(step)})
    tracker.end("failed")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/m.db")
    history = client.get_metric_history(folder.read("tracking/mlflow.json")["run_id"], "train/loss")
    assert [point.step for point in history] == [1, 2, 3, 4, 5]
    assert client.get_run(folder.read("tracking/mlflow.json")["run_id"]).info.status == "FAILED"


def test_wandb_offline_keeps_its_run_with_ours(root: str, tmp_path: Path) -> None:
    from wandb.proto.wandb_internal_pb2 import Record

    url = storage.join(root, "run")
    asked = job("wandb")
    interrupted(url, asked)
    run_training(url, asked)
    local = tmp_path / "read"
    storage.download(storage.join(url, "tracking", "wandb"), local)
    files = sorted(local.rglob("run-*.wandb"))
    names, steps = set(), []
    for path in files:
        for data in wandb_records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                names.add((record.run.run_id, record.run.project, record.run.display_name))
            if record.WhichOneof("record_type") == "history":
                values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                steps += [int(values["_step"])] if "train/loss" in values else []
    assert len(files) == 2
    assert names == {(storage.read_json(storage.join(url, "tracking", "wandb.json"))["id"], "tests", "tiny")}
    assert sorted(steps) == logged()


def test_a_tracker_that_fails_is_left_out_and_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sortase.pipeline.train import train

    def broken(self: MLflow, step: int, values: Any) -> None:
        raise ConnectionError("no route to the server")

    monkeypatch.setattr(MLflow, "log", broken)
    said: list[str] = []
    folder = RunFolder(str(tmp_path))
    folder.begin()
    train(job("mlflow", "tensorboard"), folder, Events(folder.path("events.jsonl")), said.append)
    assert sum("mlflow fails and is left out" in line and "no route" in line for line in said) == 1
    assert scalars(tmp_path / "tracking" / "tensorboard")["train/loss"] == logged()


def test_what_cannot_track_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="mlflow_uri"):
        check_tracking(TrackingSpec(to=["mlflow"]), RunFolder("s3://bucket/run"))
    with pytest.raises(ValidationError, match="credential"):
        TrackingSpec(to=["mlflow"], mlflow_uri="https://me:hidden-word@host")
    with pytest.raises(ValidationError, match="tensorboard"):
        TrackingSpec(to=["tensorbord"])  # type: ignore[list-item]
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else real(name))
    with pytest.raises(MissingExtraError, match=r"sortase\[wandb\]"):
        run_training(tmp_path, job("wandb"))
    assert not (tmp_path / "checkpoints").exists()
