"""Training on Ray workers: the same weights however many there are, and whatever becomes of them."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster_data import (
    finished_steps,
    folder_at,
    request,
    train_here,
    train_there,
    wait_until,
    worker_pids,
)
from makers import weights
from sortase.errors import CancelledError, FencedError, InputError
from sortase.runs.events import read_events
from sortase.runs.folder import RunFolder

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

KINDS = ["sequence", "token"]
LONG = {"num_train_epochs": 40, "save_steps": 20, "eval_strategy": "no"}


@pytest.fixture(scope="module", autouse=True)
def ray_here() -> Iterator[None]:
    ray.init(address="local", num_cpus=3, include_dashboard=False, namespace="sortase", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def long_weights(root: Path) -> dict[str, np.ndarray]:
    """Of an undisturbed long training in one process."""
    train_here(request("sequence", str(root), **LONG), root / "straight")
    return weights(root / "straight")


def assert_close(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    assert left.keys() == right.keys()
    furthest = max(float(np.abs(left[name] - right[name]).max()) for name in left)
    assert furthest < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_workers_and_zero_only_divide_the_work(kind: str, root: Path) -> None:
    """One worker, accumulation, two workers and ZeRO: same batches, losses and weights."""
    ways: dict[str, dict[str, Any]] = {
        "accumulated": {"per_device_train_batch_size": 4},
        "one": {"compute": {"workers": 1}},
        "two": {"compute": {"workers": 2}},
        "zero": {
            "compute": {"workers": 2, "deepspeed": 2 if kind == "sequence" else 3},
            "per_device_train_batch_size": 2,
        },
    }
    if kind == "token":
        del ways["one"]
    alone = root / f"{kind}-alone"
    train_here(request(kind, str(root)), alone)
    for name, changes in ways.items():
        url = root / f"{kind}-{name}"
        asked = request(kind, str(root), **changes)
        summary = train_there(asked, url) if "compute" in changes else train_here(asked, url)
        assert summary["workers"] == asked.compute.max_workers or 1
        assert_close(weights(url), weights(alone))
        assert losses(url) == pytest.approx(losses(alone), abs=1e-5)


def losses(url: Path) -> list[float]:
    return [event["loss"] for event in read_events(RunFolder(str(url))) if "loss" in event]


def test_killed_worker_costs_one_crash_and_changes_nothing(root: Path, long_weights: dict[str, np.ndarray]) -> None:
    url, said = root / "killed", []

    def kill() -> None:
        wait_until(lambda: finished_steps(url), "a checkpoint")
        os.kill(worker_pids("ray::RayTrainWorker")[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    summary = train_there(request("sequence", str(root), {"workers": 2}, **LONG), url, log=said.append)
    killer.join()
    assert (summary["crashes"], summary["preemptions"], summary["starts"]) == (1, 0, 2)
    assert summary["resumed_from"] >= 20
    assert any("was lost" in line for line in said)
    assert_close(weights(url), long_weights)


def test_a_lost_controller_is_a_crash_that_is_survived(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an actor of Ray's that starts the workers, and may be killed as they may."""
    from ray.train.torch import TorchTrainer

    url, fit, said, lost = root / "controller", TorchTrainer.fit, list[str](), list[int]()

    def dying(trainer: TorchTrainer) -> Any:
        if lost:
            return fit(trainer)
        lost.append(1)
        raise ray.exceptions.ActorDiedError

    monkeypatch.setattr(TorchTrainer, "fit", dying)
    summary = train_there(request("sequence", str(root), {"workers": 1}), url, log=said.append)
    assert (summary["crashes"], summary["starts"]) == (1, 2)
    assert any("the training's controller was lost: ActorDiedError" in line for line in said)


def test_stop_keeps_a_checkpoint_and_a_damaged_one_is_passed_over(
    root: Path, long_weights: dict[str, np.ndarray]
) -> None:
    url = root / "stopped"
    asked = request("sequence", str(root), {"workers": 2}, **LONG)
    with pytest.raises(CancelledError, match="continues from there"):
        train_there(asked, url, should_stop=lambda: len(finished_steps(url)) >= 2)
    *_, before, newest = finished_steps(url)
    assert newest % 20
    (state,) = (url / "checkpoints" / f"step-{newest:08d}").glob("*/rng_state_1.pth")
    state.write_bytes(state.read_bytes()[:-1])
    summary = train_there(asked, url)
    assert summary["resumed_from"] == before
    assert_close(weights(url), long_weights)


def test_later_driver_fences_off_the_earlier(root: Path) -> None:
    url = root / "fenced"
    asked = request("sequence", str(root), {"workers": 1, "max_failures": 0}, **LONG)

    def take_over() -> None:
        wait_until(lambda: finished_steps(url), "a checkpoint")
        folder_at(url)

    other = threading.Thread(target=take_over)
    other.start()
    with pytest.raises(FencedError, match="taken over"):
        train_there(asked, url)
    other.join()
    assert not (url / "model").exists()


def test_errors_that_would_repeat_themselves_end_the_training_at_once(root: Path) -> None:
    asked = replace(request("sequence", str(root), {"workers": 2}), class_map={"a": 0, "b": 1})
    said: list[str] = []
    with pytest.raises(InputError, match="there are 2 classes"):
        train_there(asked, root / "wrong", log=said.append)
    assert not any("starting again" in line for line in said)
