"""Sweeps on a real Ray of two CPUs: what trials are given, what becomes of them, and what survives."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster_data import folder_at, prepared, request, wait_until, worker_pids
from makers import assert_same_weights, weights
from sortase import storage
from sortase.config.check import validate
from sortase.config.tune import TuneSpec
from sortase.errors import CancelledError, ConfigError, InfrastructureError, WorkFailedError
from sortase.runs.events import Events, read_events
from sortase.runs.folder import RunFolder

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

SPACE = {"learning_rate": [1e-4, 1e-2], "weight_decay": [0.0, 0.1]}
BREAKING = {"optim": {"grid_search": ["adamw_torch", "lomo"]}}  # the package of the second is not installed
LONG = {"num_train_epochs": 30, "save_steps": 12}

DRIVER = """
import json, sys
from cluster_data import folder_at, request
from test_tune import search
asked = json.loads(sys.argv[1])
search(asked["root"], asked["url"], **asked["options"])
"""


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, namespace="sortase", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tune")


def search(
    root: str | Path,
    url: str | Path,
    *,
    workers: int = 0,
    train: dict[str, Any] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    log: Callable[[str], None] = lambda line: None,
    compute: dict[str, Any] | None = None,
    **settings: Any,
) -> Any:
    from sortase.cluster.sweep import tune

    asked = request("sequence", str(root), {"workers": workers, **(compute or {})}, **(train or {}))
    spec = validate(TuneSpec, {"trials": 2, "space": SPACE, "scheduler": "none", **settings}, "tune")
    folder = folder_at(url)
    return tune(spec, asked, folder, Events(folder), log, should_stop)


def board(url: str | Path) -> dict[str, dict[str, str]]:
    text = storage.read_bytes(storage.join(str(url), "tune", "leaderboard.csv")).decode()
    return {row["trial"]: row for row in csv.DictReader(io.StringIO(text))}


def trial_file(url: str | Path, number: int, name: str) -> Any:
    path = Path(str(url)) / "tune" / f"trial-{number:05d}" / name
    return json.loads(path.read_text()) if path.exists() else None


def test_eight_trials(root: Path) -> None:
    """Some are pruned, the best one's model is the run's, and started again nothing is trained again."""
    url = root / "eight"
    swept = search(root, url, workers=1, trials=8, scheduler="asha", train={"num_train_epochs": 3})
    rows, summary = board(url), swept.summary
    assert len(rows) == 8
    assert set(summary["counts"]) == {"done", "pruned"}
    assert summary["at_a_time"] == 2
    best = max((row for row in rows.values() if row["status"] == "done"), key=lambda row: float(row["metric"]))
    assert float(best["metric"]) == summary["value"]
    assert next(iter(rows)) == summary["best"]
    assert_same_weights(weights(url), weights(url / "tune" / summary["best"]))
    assert isinstance(swept.analysis, ray.tune.ExperimentAnalysis)
    assert len(swept.analysis.trials) == 8
    assert swept.analysis.best_result["macro_f1"] == summary["value"]
    assert summary["start_seconds"]["kept_process"] < summary["start_seconds"]["new_process"]
    pruned = int(next(name for name, row in rows.items() if row["status"] == "pruned")[-5:])
    assert len(trial_file(url, pruned, "progress.json")["evaluations"]) < 3
    timeline = [event["event"] for event in read_events(RunFolder(str(url))) if event["stage"] == "train"]
    assert timeline.count("evaluate") == 3

    before = {path: path.stat().st_mtime_ns for path in (url / "tune").rglob("progress.json")}
    again = search(root, url, workers=1, trials=8, scheduler="asha", train={"num_train_epochs": 3})
    assert {path: path.stat().st_mtime_ns for path in (url / "tune").rglob("progress.json")} == before
    assert board(url) == rows
    assert len(again.analysis.trials) == 8
    assert again.summary["best"] == summary["best"]


def test_trials_of_two_workers_do_not_stand_in_each_others_way(root: Path) -> None:
    url = root / "two"
    swept = search(root, url, workers=2, trials=2)
    assert swept.summary["counts"] == {"done": 2}
    assert swept.summary["at_a_time"] == 1
    assert swept.training["workers"] == 2
    assert weights(url)


def test_a_failing_trial_does_not_end_the_sweep(root: Path) -> None:
    url = root / "failing"
    swept = search(root, url, trials=3, space=BREAKING)
    assert [board(url)[f"trial-0000{i}"]["status"] for i in range(3)] == ["done", "failed", "done"]
    assert "lomo_optim" in trial_file(url, 1, "trial.json")["error"]
    assert swept.summary["parameters"] == {"optim": "adamw_torch"}


def test_all_failing_ends_the_sweep_with_the_first_error(root: Path) -> None:
    with pytest.raises(WorkFailedError, match=r"2 failed.*trial-00000: .*lomo_optim"):
        search(root, root / "all-failing", space={"optim": ["lomo", "adalomo"]})


def test_a_lost_process_and_a_stopped_sweep_cost_no_steps_before_the_checkpoint(root: Path) -> None:
    """One trial: its process is killed, then the sweep is stopped, then it ends."""
    url = root / "stopped"

    def evaluations() -> int:
        return len((trial_file(url, 0, "progress.json") or {"evaluations": []})["evaluations"])

    said: list[str] = []

    def kill() -> None:
        wait_until(lambda: evaluations() >= 3, "an evaluation")
        for pid in worker_pids("ray::_Inner") + worker_pids("ray::Trial"):  # at work, or between
            os.kill(pid, signal.SIGKILL)

    def is_lost() -> bool:
        return any("trial-00000 was lost" in line for line in said)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(CancelledError, match="1 of 1 trials unfinished"):
        search(root, url, trials=1, train=LONG, log=said.append, should_stop=lambda: is_lost() and evaluations() >= 8)
    killer.join()
    assert is_lost()
    swept = search(root, url, trials=1, train=LONG)
    assert swept.training["resumed_from"] >= 8 * 12
    assert [step for step, _ in trial_file(url, 0, "progress.json")["evaluations"]] == list(range(12, 361, 12))


def test_a_killed_driver_continues_with_the_same_trials(root: Path) -> None:
    """Ends as an undisturbed sweep does: trials are given the same, and finished ones are not run again."""
    prepared("sequence", str(root))
    url = root / "killed"
    options = {"trials": 4, "search": "optuna", "train": {"num_train_epochs": 6}}
    asked = json.dumps({"root": str(root), "url": str(url), "options": options})
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, asked], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (url / "tune" / "leaderboard.csv").exists(), "a finished trial")
    finally:
        driver.kill()
        driver.wait()
    finished = {name: row for name, row in board(url).items() if row["status"] == "done"}
    given = {i: file["parameters"] for i in range(4) if (file := trial_file(url, i, "trial.json"))}
    stamps = {name: (url / "tune" / name / "progress.json").stat().st_mtime_ns for name in finished}
    swept = search(root, url, **options)
    rows = board(url)
    assert swept.summary["counts"] == {"done": 4}
    assert {name: rows[name] for name in finished} == finished
    assert {name: (url / "tune" / name / "progress.json").stat().st_mtime_ns for name in finished} == stamps
    assert all(trial_file(url, i, "trial.json")["parameters"] == parameters for i, parameters in given.items())
    assert len({row["learning_rate"] for row in rows.values()}) == 4


def test_what_can_never_run_is_refused_before_anything_is_written(root: Path) -> None:
    with pytest.raises(InfrastructureError, match="3 CPU"):
        search(root, root / "large", cpus_per_trial=3)
    with pytest.raises(InfrastructureError, match="3 training workers"):
        search(root, root / "large", workers=3)
    with pytest.raises(ConfigError, match="'learning_rte'"):
        search(root, root / "large", space={"learning_rte": [1e-5, 1e-3]})
    with pytest.raises(ConfigError, match="eval_strategy is 'no'"):
        search(root, root / "large", train={"eval_strategy": "no"})
    assert not (root / "large" / "tune").exists()
