"""Experiment trackers, each read back by its own library, offline."""

from __future__ import annotations

import importlib.util
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from makers import architecture, assert_same_weights, dataset, run_training, train_job, weights
from sortase import storage
from sortase.cli import main
from sortase.config.tracking import TrackingSpec
from sortase.errors import CancelledError, ConfigError, FencedError, MissingExtraError
from sortase.runs.events import Events
from sortase.runs.folder import RunFolder
from sortase.train.trackers import MLflow, TrackingContext
from sortase.train.tracking import check_tracking, tracked, tracking_for

pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's database

STEPS, EVALUATIONS = 24, [12, 24]
SETTINGS = {"logging_steps": 2, "save_steps": 6, "eval_strategy": "epoch"}
Steps = dict[str, list[int]]


def job(*names: str, **settings: Any) -> Any:
    spec = TrackingSpec(to=list(names), wandb_mode="offline", project="tests")  # type: ignore[arg-type]
    return replace(train_job(**{**SETTINGS, **settings}), tracking=spec, name="tiny")


class Crash(Exception):  # noqa: N818
    pass


class Crashing(Events):
    """Ends the attempt right after a step is told, whether or not there is a checkpoint of it."""

    def __init__(self, url: str, at: int):
        super().__init__(url)
        self.at = at

    def crash(self) -> None:
        raise Crash

    def write(self, stage: str, event: str, **values: Any) -> None:
        super().write(stage, event, **values)
        if event == "log" and values["step"] >= self.at:
            self.crash()


class Killing(Crashing):
    """Kills the process once MLflow and W&B have begun."""

    def crash(self) -> None:
        while any(self.folder.read(f"checkpoints/{name}.json") is None for name in ("mlflow", "wandb")):
            time.sleep(0.05)
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)


def attempt(url: str, asked: Any, at: int, events: type[Crashing] = Crashing) -> None:
    from sortase.train.job import train

    folder = RunFolder(url)
    folder.begin()
    train(asked, folder, events(folder, at), lambda text: None)


def stopped(url: str, asked: Any) -> None:
    """On request at step 9, with a checkpoint."""
    seen = iter([False] * 8 + [True] * 100)
    with pytest.raises(CancelledError):
        run_training(url, asked, should_stop=lambda: next(seen))


def crashed(url: str, asked: Any) -> None:
    """At step 10; the checkpoint is that of step 6."""
    with pytest.raises(Crash):
        attempt(url, asked, at=10)


def crashed_early(url: str, asked: Any) -> None:
    """At step 4, before the first checkpoint."""
    with pytest.raises(Crash):
        attempt(url, asked, at=4)


interruptions = pytest.mark.parametrize("interrupt", [stopped, crashed, crashed_early])


def logged() -> list[int]:
    return list(range(2, STEPS + 1, 2))


def of_tensorboard(folder: Path) -> Steps:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(folder))
    read.Reload()
    return {tag: [point.step for point in read.Scalars(tag)] for tag in read.Tags()["scalars"]}


def of_mlflow(uri: str) -> tuple[Any, Steps]:
    """The only run, and its metrics."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
    return run, {name: [point.step for point in history] for name, history in histories.items()}


def of_wandb(folder: Path) -> tuple[set[tuple[str, str, str]], Steps]:
    """Id, project and name of the runs in a folder, and their metrics."""
    from wandb.proto.wandb_internal_pb2 import Record

    names, steps = set(), {}  # type: set[tuple[str, str, str]], Steps
    for path in sorted(folder.rglob("run-*.wandb")):
        for data in wandb_records(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                names.add((record.run.run_id, record.run.project, record.run.display_name))
            if record.WhichOneof("record_type") == "history":
                values = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                for name in values:
                    steps.setdefault(name, []).append(int(values["_step"]))
    return names, steps


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


@interruptions
def test_tensorboard_shows_no_step_twice(interrupt: Any, tmp_path: Path) -> None:
    asked = job("tensorboard")
    interrupt(str(tmp_path), asked)
    run_training(tmp_path, asked)
    found = of_tensorboard(tmp_path / "tracking" / "tensorboard")
    assert found["train/loss"] == logged()
    assert found["train/step_seconds"] == logged()
    assert found["eval/macro_f1"] == EVALUATIONS
    assert {"train/learning_rate", "train/grad_norm", "train/tokens_per_second", "train/padding_share"} <= found.keys()


@interruptions
def test_mlflow_goes_on_in_the_same_run(interrupt: Any, tmp_path: Path) -> None:
    asked = job("mlflow")
    interrupt(str(tmp_path), asked)
    run_training(tmp_path, asked)
    run, found = of_mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "tiny"
    assert run.data.params["train.learning_rate"] == "0.001"
    assert found["train/loss"] == logged()
    assert found["eval/macro_f1"] == EVALUATIONS


@interruptions
def test_wandb_goes_on_in_the_same_run(interrupt: Any, tmp_path: Path) -> None:
    asked = job("wandb")
    interrupt(str(tmp_path), asked)
    run_training(tmp_path, asked)
    names, found = of_wandb(tmp_path / "tracking" / "wandb")
    assert names == {(storage.read_json(str(tmp_path / "checkpoints" / "wandb.json"))["id"], "tests", "tiny")}
    assert len(list((tmp_path / "tracking" / "wandb").glob("offline-run-*"))) == 1
    assert found["train/loss"] == logged()
    assert found["eval/macro_f1"] == EVALUATIONS


def test_files_of_trackers_come_to_a_run_folder_on_s3(s3_url: str, tmp_path: Path) -> None:
    url = storage.join(s3_url, "run")
    asked = job("tensorboard", "wandb")
    crashed(url, asked)
    run_training(url, asked)
    storage.download(storage.join(url, "tracking"), tmp_path / "read")
    assert of_tensorboard(tmp_path / "read" / "tensorboard")["train/loss"] == logged()
    names, found = of_wandb(tmp_path / "read" / "wandb")
    assert len(names) == 1
    assert found["train/loss"] == logged()


@pytest.mark.slow
def test_a_killed_process_goes_on_in_the_same_places(tmp_path: Path) -> None:
    names = ("tensorboard", "mlflow", "wandb")
    code = f"import test_tracking as t; t.attempt({str(tmp_path)!r}, t.job(*{names}), 10, t.Killing)"
    alone = {
        name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"
    }  # not with W&B's process here
    ended = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, env=alone, capture_output=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    run_training(tmp_path, job(*names))
    assert of_tensorboard(tmp_path / "tracking" / "tensorboard")["train/loss"] == logged()
    assert of_mlflow(f"sqlite:///{tmp_path}/mlflow.db")[1]["train/loss"] == logged()
    assert of_wandb(tmp_path / "tracking" / "wandb")[1]["train/loss"] == logged()


def test_trackers_change_nothing_of_a_training(tmp_path: Path) -> None:
    run_training(tmp_path / "without", job())
    run_training(tmp_path / "with", job("tensorboard", "mlflow", "wandb"))
    assert_same_weights(weights(tmp_path / "without"), weights(tmp_path / "with"))
    assert not (tmp_path / "without" / "tracking").exists()


def test_trials_beginning_together_share_one_experiment(tmp_path: Path) -> None:
    """With classes and settings called as no service allows."""
    sweep = RunFolder(str(tmp_path))
    uri = tracking_for(TrackingSpec(to=["mlflow"]), sweep).mlflow_uri
    assert uri == f"sqlite:///{tmp_path}/mlflow.db"

    def trial(number: int) -> str:
        folder = RunFolder(sweep.path("tune", f"trial-{number}"))
        spec = TrackingSpec(to=["mlflow"], mlflow_uri=uri, project="tests")
        said: list[str] = []
        events = Events(folder)
        with tracked(spec, events, folder, f"run/trial-{number}", {"weights": {"CD4+ & CD8+": 2}}, said.append):
            events.rewind("train", -1)
            events.write("train", "evaluate", step=1, **{"eval_f1 of CD4+": 0.5})
        assert not said
        return str(folder.read("checkpoints/mlflow.json")["run_id"])

    with ThreadPoolExecutor(4) as pool:
        identities = set(pool.map(trial, range(4)))
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert {run.info.run_id for run in runs} == identities
    assert {run.info.run_name for run in runs} == {f"run/trial-{number}" for number in range(4)}
    assert {run.data.tags["sortase.sweep"] for run in runs} == {"run"}
    assert runs[0].data.params == {"weights.CD4_ _ CD8_": "2"}
    assert runs[0].data.metrics == {"eval/f1 of CD4_": 0.5}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(None, "FINISHED", id="finished"),
        pytest.param(CancelledError("stopped"), "KILLED", id="stopped"),
        pytest.param(ValueError("wrong"), "FAILED", id="failed"),
        pytest.param(FencedError("a later attempt goes on"), "RUNNING", id="fenced"),
    ],
)
def test_how_a_run_ends(error: Exception | None, status: str, tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    events = Events(folder)
    with (
        nullcontext() if error is None else pytest.raises(type(error), match=str(error)),
        tracked(job("mlflow").tracking, events, folder, "tiny", {"seed": 7}, lambda text: None),
    ):
        events.rewind("train", -1)
        if error is not None:
            raise error
    assert not events.listeners
    assert of_mlflow(f"sqlite:///{tmp_path}/mlflow.db")[0].info.status == status


def test_a_tracker_added_later_hears_of_all_steps(tmp_path: Path) -> None:
    crashed(str(tmp_path), job())
    run_training(tmp_path, job("mlflow"))
    found = of_mlflow(f"sqlite:///{tmp_path}/mlflow.db")[1]
    assert found["train/loss"] == logged()


def test_a_run_that_mlflow_has_lost_is_made_again(tmp_path: Path) -> None:
    told = TrackingContext(
        name="tiny",
        project="tests",
        settings={},
        folder=RunFolder(str(tmp_path)),
        local=tmp_path,
        mlflow_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )
    first, second = MLflow(told), MLflow(told)
    first.begin()
    first.client.delete_run(first.run_id)
    second.begin()
    second.log(7, {"train/loss": 1.0}, 1.0)
    run, found = of_mlflow(told.mlflow_uri)
    assert run.info.run_id == second.run_id != first.run_id
    assert found == {"train/loss": [7]}


def test_a_tracker_that_fails_is_left_out_and_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sortase.train.job import train

    def broken(self: MLflow, step: int, values: Any, when: float) -> None:
        raise ConnectionError("no route to https://me:hidden-word@host")

    monkeypatch.setattr(MLflow, "log", broken)
    said: list[str] = []
    folder = RunFolder(str(tmp_path))
    folder.begin()
    train(job("mlflow", "tensorboard"), folder, Events(folder), said.append)
    assert sum("mlflow fails and is left out" in line and "no route" in line for line in said) == 1
    assert not any("hidden-word" in line for line in said)
    assert of_tensorboard(tmp_path / "tracking" / "tensorboard")["train/loss"] == logged()


def test_a_tracker_that_hangs_does_not_hold_up_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sortase.train.job import train

    answered = threading.Event()
    monkeypatch.setattr(MLflow, "begin", lambda self: answered.wait())
    monkeypatch.setenv("SORTASE_LIMITS", "tracker-end=0.1")
    said: list[str] = []
    folder = RunFolder(str(tmp_path))
    folder.begin()
    try:
        fitted, _ = train(job("mlflow"), folder, Events(folder), said.append)
    finally:
        answered.set()
    assert fitted.summary["steps"] == STEPS
    assert sum("mlflow does not answer" in line for line in said) == 1


def test_what_cannot_track_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "wandb" else real(name))
    with pytest.raises(MissingExtraError, match=r"sortase\[wandb\]"):
        run_training(tmp_path, job("wandb"))
    assert not (tmp_path / "checkpoints").exists()


def test_run_yaml_names_the_trackers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The words reach the trackers, and what cannot work is said before anything is made."""
    import yaml

    dataset("sequence").rename_column("label", "kind").save_to_disk(str(tmp_path / "rows.dataset"))
    settings = {
        "run": {"name": "small", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "rows.dataset")},
        "labels": {"task": "sequence", "column": "kind"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "logging_steps": 1},
        "tracking": {"to": ["mlflow"], "project": "tests", "mlflow_uri": "mlruns"},
        "compute": {"device": "cpu"},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    assert main(["run", "-c", str(path)]) == 2
    assert "mlflow_uri" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    settings["tracking"].pop("mlflow_uri")
    path.write_text(yaml.safe_dump(settings))
    for stage in ("prepare", "train"):
        assert main([stage, "-c", str(path)]) == 0, capsys.readouterr().err
    run, found = of_mlflow(f"sqlite:///{tmp_path}/runs/small/mlflow.db")
    assert run.info.run_name == "small"
    assert len(found["train/loss"]) > 1


def test_mlflow_needs_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    far = RunFolder("s3://bucket/run")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match="mlflow_uri"):
        check_tracking(TrackingSpec(to=["mlflow"]), far)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "file:///tmp/mlruns")
    with pytest.raises(ConfigError, match=r"MLFLOW_TRACKING_URI .* folders"):
        check_tracking(TrackingSpec(to=["mlflow"]), far)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:hidden-word@host")
    check_tracking(TrackingSpec(to=["mlflow"]), far)
    assert tracking_for(TrackingSpec(to=["mlflow"]), far).mlflow_uri is None


def test_wandb_online_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, folder, keys = TrackingSpec(to=["wandb"]), RunFolder(str(tmp_path)), tmp_path / "netrc"
    for name in ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(keys))
    with pytest.raises(ConfigError, match=r"WANDB_API_KEY.*offline"):
        check_tracking(spec, folder)
    check_tracking(spec, folder, here=False)  # the workers' environment is another one
    keys.write_text("machine")
    with pytest.raises(ConfigError, match=r"the account of W&B cannot be read from .*netrc: "):
        check_tracking(spec, folder)
    keys.write_text("machine api.wandb.ai login user password of-a-test")
    keys.chmod(0o600)
    check_tracking(spec, folder)
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    with pytest.raises(ConfigError, match="WANDB_API_KEY"):
        check_tracking(spec, folder)
    monkeypatch.setenv("WANDB_API_KEY", "of-a-test")
    check_tracking(spec, folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        pytest.param({"mlflow_uri": "https://me:hidden-word@host"}, "credential", id="credential"),
        pytest.param({"mlflow_uri": "mlruns"}, "folders", id="folder"),
        pytest.param({"mlflow_uri": "file:///tmp/mlruns"}, "folders", id="file store"),
        pytest.param({"to": ["tensorbord"]}, "tensorboard", id="unknown"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words) as raised:
        TrackingSpec(**settings)
    assert "hidden-word" not in str(raised.value)
