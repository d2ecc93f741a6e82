"""A wish to stop ends any stage between two parts of its work, and the same command makes what it would have made."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from cluster_data import wait_until
from makers import architecture
from patience import PATIENCE
from sortase import stopping
from sortase.config.run import Config
from sortase.data.shards import Shard, features_of, publish, with_features, write_shard
from sortase.errors import CancelledError, StorageError
from sortase.model import baseline
from sortase.pipeline.run import run
from sortase.runs.attempts import Attempt
from sortase.runs.folder import RunFolder, now
from sortase.runs.stop import ask_to_stop
from tokenize_data import annotated, matrix, saved

STAGES = ["tokenize", "prepare", "evaluate", "predict", "report"]
TIMED = ("evaluation.json", "report.html", "README.md")  # they tell how long something took, or when it was


def config_of(output: Path, counts: str) -> Config:
    return Config.model_validate(
        {
            "run": {"name": "small", "output": str(output)},
            "tokenize": {"input": counts},
            "data": {},
            "labels": {"task": "sequence", "column": "type"},
            "model": {"config": architecture()},
            "train": {"num_train_epochs": 1},
            "evaluate": {"bootstrap": 30, "batch_size": 4},
            "predict": {"dataset": str(output.parent / "new.dataset"), "batch_size": 4},
            "compute": {"device": "cpu"},
        }
    )


@pytest.fixture(scope="module", autouse=True)
def several_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sortase.prepare.tokenize.SHARD_CELLS", 20)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("finished")
    counts = saved(folder, annotated(matrix()))
    config = config_of(folder / "runs", counts)
    run(config, only="tokenize")
    shutil.copytree(folder / "runs" / "small" / "data" / "tokenized.dataset", folder / "new.dataset")
    run(config)
    return config


def before(stage: str, finished: Config, folder: Path) -> Config:
    """A copy of it in which this stage, and those after it, have not been done."""
    shutil.copytree(finished.run.output, folder / "runs")
    for name in STAGES[STAGES.index(stage) :]:
        (folder / "runs" / "small" / "stages" / f"{name}.json").unlink()
    moved = finished.run.model_copy(update={"output": str(folder / "runs")})
    return finished.model_copy(update={"run": moved})


def folder_of(config: Config) -> RunFolder:
    return RunFolder(str(Path(config.run.output) / config.run.name))


class Stopping:
    """Somebody who asks to stop once the run has said ``words``, and ``then`` is true."""

    def __init__(self, words: str, then: Callable[[], Any] = lambda: True):
        self.words, self.then = words, then
        self.heard = False

    def log(self, line: str) -> None:
        self.heard |= line == self.words

    def __call__(self) -> bool:
        return self.heard and bool(self.then())


def made(config: Config, stage: str) -> dict[str, Any]:
    files = folder_of(config).mark(stage)["files"]
    return {name: None if name.endswith(TIMED) else content for name, content in files.items()}


def stopped(config: Config, stage: str, stopping: Stopping, **options: Any) -> None:
    words = rf"^stopped in stage '{stage}'; the same command does it again$"
    with pytest.raises(CancelledError, match=words):
        run(config, only=stage, log=stopping.log, should_stop=stopping, **options)
    assert stopping.heard
    assert folder_of(config).mark(stage) is None


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_stops_and_is_done_again_to_the_same_bytes(stage: str, finished: Config, tmp_path: Path) -> None:
    config = before(stage, finished, tmp_path)
    stopped(config, stage, Stopping(f"{stage}: starting"))
    run(config, only=stage)
    assert made(config, stage) == made(finished, stage)


@pytest.mark.parametrize(("stage", "dataset"), [("tokenize", "tokenized.dataset"), ("prepare", "labeled.dataset")])
def test_what_was_half_written_is_gone(stage: str, dataset: str, finished: Config, tmp_path: Path) -> None:
    config = before(stage, finished, tmp_path)
    data = Path(config.run.output) / "small" / "data"
    for old in data.glob(f"*{dataset}"):
        shutil.rmtree(old)
    stopped(config, stage, Stopping(f"{stage}: starting", lambda: list(data.glob(f"*{dataset}/data-*.arrow"))))
    assert not list(data.glob(f"*{dataset}/*"))
    run(config, only=stage)
    assert made(config, stage) == made(finished, stage)


def test_baselines_are_left_behind(finished: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library fits them, and listens to nobody."""
    fits, go_on = threading.Event(), threading.Event()

    def fit(*_: Any) -> None:
        fits.set()
        go_on.wait(PATIENCE)

    config = before("evaluate", finished, tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(baseline.LEARNERS, ("row", "row"), ("a slow one", fit))
        try:
            stopped(config, "evaluate", Stopping("evaluate: fitting the baselines", fits.is_set))
        finally:
            go_on.set()
    run(config, only="evaluate")
    assert made(config, "evaluate") == made(finished, "evaluate")


def test_a_stage_stops_when_another_process_asks(finished: Config, tmp_path: Path) -> None:
    config = before("prepare", finished, tmp_path)
    starting = Stopping("prepare: starting")

    def asks() -> bool:
        """And waits until that was heard."""
        if starting.heard and ask_to_stop(folder_of(config)):
            (listener,) = [each for each in threading.enumerate() if each.name == "stop-request"]
            listener.join(PATIENCE)
            starting.heard = False
        return False

    with pytest.raises(CancelledError, match=r"^stopped in stage 'prepare'"):
        run(config, only="prepare", log=starting.log, should_stop=asks)
    assert folder_of(config).mark("prepare") is None


def test_a_stop_stays_one_where_storage_fails_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: RunFolder) -> None:
        raise StorageError("no answer")

    attempt = Attempt(RunFolder(str(tmp_path)), 1, now())
    with pytest.raises(CancelledError, match=r"^stopped$"), attempt.at_work():
        monkeypatch.setattr(RunFolder, "fence", fails)
        raise CancelledError("stopped")


def test_who_listens_to_nobody_works_on() -> None:
    stopping.check()
    with stopping.heeding(lambda: True, "stopped"):
        with pytest.raises(CancelledError, match=r"^stopped$"):
            stopping.check()
        with stopping.listening_itself():
            stopping.check()
            assert stopping.or_leave(lambda: 5) == 5
    stopping.check()


def test_what_a_library_does_keeps_its_result_and_its_error() -> None:
    with stopping.heeding(lambda: False, "stopped"):
        assert stopping.or_leave(lambda: 5) == 5
        with pytest.raises(KeyError, match="missing"):
            stopping.or_leave(lambda: {}["missing"])


def large(url: str, rows: int = 60_000, length: int = 200) -> None:
    """A dataset of which copies and near-duplicates are looked for, for many seconds."""
    rng = np.random.default_rng(0)
    ids = pa.array(rng.integers(8, 60, rows * length, dtype=np.int32))
    lists = pa.ListArray.from_arrays(np.arange(0, rows * length + 1, length, dtype=np.int32), ids)
    table = pa.table({"input_ids": lists, "kind": pa.array(["x", "y"]).take(pa.array(rng.integers(0, 2, rows)))})
    features = features_of(table.schema)
    shard = write_shard(url, 0, with_features(table.schema, features), table.to_batches(max_chunksize=1000))
    assert isinstance(shard, Shard)
    publish(url, [shard], features, "large")


def test_a_terminated_command_ends_with_5_and_words(tmp_path: Path) -> None:
    large(str(tmp_path / "cells.dataset"))
    settings = {
        "run": {"name": "long", "output": str(tmp_path)},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"column": "kind"},
        "model": {"config": architecture()},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "sortase", "prepare", "-c", str(tmp_path / "run.yaml")]
    said = tmp_path / "said"
    with said.open("wb") as words, subprocess.Popen(command, stdout=words, stderr=words) as process:
        try:
            wait_until(lambda: process.poll() is not None or b"prepare: starting" in said.read_bytes(), "its start")
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        finally:
            process.kill()
    assert process.returncode == 5, said.read_text()
    assert "sortase prepare: stopped in stage 'prepare'; the same command does it again" in said.read_text()
    assert not (tmp_path / "long" / "stages" / "prepare.json").exists()
    assert not list((tmp_path / "long" / "data").glob("*"))
