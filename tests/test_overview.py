"""What a run folder tells of its run, from real small runs and from timelines that stop in the middle."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from cluster_data import wait_until
from makers import architecture, rows
from sortase import storage
from sortase.cli import main
from sortase.errors import MissingInputError
from sortase.runs.folder import RunFolder
from sortase.runs.overview import overview
from sortase.runs.stop import ask_to_stop


@pytest.fixture
def config(tmp_path: Path, root: str) -> Path:
    ids = rows(60)
    Dataset.from_dict({"input_ids": ids, "kind": ["abc"[row[0] % 3] for row in ids]}).save_to_disk(tmp_path / "cells")
    settings = {
        "run": {"name": "x", "output": f"{root}/runs"},
        "data": {"dataset": str(tmp_path / "cells")},
        "labels": {"column": "kind"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 2},
        "evaluate": {"bootstrap": 20},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def folder(config: Path) -> RunFolder:
    return RunFolder(storage.join(yaml.safe_load(config.read_text())["run"]["output"], "x"))


def test_a_finished_run(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MissingInputError, match="nothing has begun"):
        overview(folder(config))
    assert main(["run", "-c", str(config)]) == 0
    seen = overview(folder(config))
    assert (seen.attempt, seen.state, seen.exit_code, seen.stage) == (1, "succeeded", 0, None)
    assert list(seen.stages) == ["prepare", "train", "evaluate", "report"]
    assert seen.steps == seen.step == 6
    assert seen.seconds_left is None
    assert 0 <= seen.metrics["macro_f1"] <= 1
    assert seen.checkpoint is not None
    assert seen.checkpoint.endswith("step-00000006")
    capsys.readouterr()
    assert main(["status", folder(config).url, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["run"]["state"] == "succeeded"
    assert main(["status", "-c", str(config)]) == 0
    assert "attempt    1, succeeded" in capsys.readouterr().out


def test_a_refused_run(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_SUBMISSION", "one")
    assert main(["run", "-c", str(config), "--set", "labels.column=kin"]) == 2
    seen = overview(folder(config))
    assert (seen.state, seen.exit_code) == ("refused", 2)
    assert seen.error is not None
    assert "'kind'" in seen.error
    assert any("exit code 2" in line for line in seen.lines())


def timeline(url: str, *events: dict[str, Any]) -> RunFolder:
    """A run under way whose driver was last heard of now."""
    run = RunFolder(url)
    run.begin()
    now = datetime.now(UTC).isoformat()
    storage.write_bytes(
        run.path("events.jsonl"), "".join(json.dumps({"time": now, **e}) + "\n" for e in events).encode()
    )
    return run


def test_a_training_under_way(root: str) -> None:
    log = {"stage": "train", "event": "log", "step_seconds": 0.5, "tokens_per_second": 1000.0, "loss": 1.0}
    run = timeline(
        f"{root}/x",
        {"stage": "prepare", "event": "start"},
        {"stage": "prepare", "event": "end"},
        {"stage": "train", "event": "start"},
        {"stage": "train", "event": "steps", "first": 0, "last": 100},
        {**log, "step": 10},
        {"stage": "train", "event": "evaluate", "step": 20, "eval_loss": 0.9},
        {**log, "step": 40},
    )
    seen = overview(run)
    assert (seen.state, seen.stage, seen.step, seen.steps) == ("working", "train", 40, 100)
    assert seen.seconds_left == pytest.approx(30)
    assert (seen.metrics, seen.metrics_step) == ({"eval_loss": 0.9}, 20)
    (line,) = [line for line in seen.lines() if line.startswith("stage")]
    assert line.split("train, ")[1] == "step 40 of 100 (40%), 2 steps/s, 1,000 tokens/s, about 30 s left"


def test_a_search_under_way(root: str) -> None:
    run = timeline(
        f"{root}/x",
        {"stage": "tune", "event": "start"},
        {"stage": "tune", "event": "running", "trial": "trial-0"},
        {"stage": "tune", "event": "done", "trial": "trial-0"},
        {"stage": "tune", "event": "running", "trial": "trial-1"},
    )
    assert overview(run).trials == {"done": 1, "running": 1}
    assert "trials     1 done, 1 running" in overview(run).lines()


def test_a_wish_to_stop_ends_the_attempt_it_names_and_no_other(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.runs.stop.EVERY", 0.05)
    run = folder(config)
    assert ask_to_stop(run) is None
    assert main(["prepare", "-c", str(config)]) == 0
    assert ask_to_stop(run) is None, "the attempt is over"

    def wish() -> None:
        wait_until(lambda: overview(run).checkpoint, "a checkpoint")
        storage.write_json(run.path("stop.json"), {"attempt": 2})

    with ThreadPoolExecutor() as pool:
        wished = pool.submit(wish)
        assert main(["train", "-c", str(config), "--set", "train.num_train_epochs=2000"]) == 5
        wished.result()
    seen = overview(run)
    assert (seen.attempt, seen.state) == (2, "cancelled")
    assert seen.checkpoint is not None
    again = RunFolder(run.url)
    again.begin()
    assert ask_to_stop(again) == 3
