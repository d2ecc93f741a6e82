"""A node that is taken away, a driver that is killed, a range of workers: on a Ray of several real nodes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cluster_data import finished_steps, request, train_here, train_there, wait_until, worker_pids
from makers import architecture, dataset, weights
from patience import PATIENCE
from sortase.config.compute import ComputeSpec
from sortase.errors import ConfigError
from sortase.runs.events import read_events
from sortase.runs.folder import RunFolder

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LONG = {"num_train_epochs": 60, "save_steps": 20, "eval_strategy": "no"}


@pytest.fixture
def address() -> Iterator[str]:
    """A head with one CPU; further nodes join it."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, namespace="sortase", log_to_driver=False)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def join(address: str, log: Path) -> subprocess.Popen[bytes]:
    """A node with one CPU, as a pod runs it."""
    command = [str(Path(sys.executable).with_name("ray")), "start", "--block", f"--address={address}", "--num-cpus=1"]
    environment = {**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "20"}
    nodes = len(ray.nodes())
    process = subprocess.Popen(command, env=environment, stdout=log.open("wb"), stderr=subprocess.STDOUT)
    wait_until(lambda: len([node for node in ray.nodes() if node["Alive"]]) > nodes, "joining")
    return process


def test_node_that_is_taken_away_costs_no_crash(address: str, tmp_path: Path) -> None:
    """SIGTERM to a node: a checkpoint at the next step, and training continues on what is left."""
    train_here(request("sequence", str(tmp_path), **LONG), tmp_path / "straight")
    node = join(address, tmp_path / "node.log")
    url, said = tmp_path / "spot", []

    def take_away() -> None:
        wait_until(lambda: finished_steps(url), "a checkpoint")
        node.send_signal(signal.SIGTERM)

    taker = threading.Thread(target=take_away)
    taker.start()
    compute = {"workers": {"min": 1, "max": 2}, "max_failures": 0}
    summary = train_there(request("sequence", str(tmp_path), compute, **LONG), url, log=said.append)
    taker.join()
    node.wait(timeout=PATIENCE)
    assert summary["crashes"] == 0
    assert summary["preemptions"] == 1
    assert summary["workers"] == 1
    assert any("is being taken away; the checkpoint is stored" in line for line in said)
    (left,) = [event for event in read_events(RunFolder(str(url))) if event["event"] == "preempted"]
    assert f"step {summary['resumed_from']} of" in left["words"], "the checkpoint was not made at once"
    left, right = weights(url), weights(tmp_path / "straight")
    assert max(float(np.abs(left[name] - right[name]).max()) for name in left) < 1e-5


def configuration(folder: Path, **compute: Any) -> Path:
    """A run.yaml of a training that takes a while."""
    source = dataset()
    names = ["abc"[label] for label in source["label"]]
    source.remove_columns("label").add_column("cell_type", names).save_to_disk(str(folder / "cells.dataset"))
    settings = {
        "run": {"name": "small", "output": str(folder / "runs"), "seed": 7},
        "data": {"dataset": str(folder / "cells.dataset")},
        "labels": {"column": "cell_type"},
        "model": {"config": architecture(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)},
        "train": {**LONG, "learning_rate": 1e-3, "save_strategy": "steps", "global_batch_size": 8},
        "evaluate": {"bootstrap": 20},
        "compute": {"device": "cpu", **compute},
    }
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def start(config: Path, *options: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sortase", "run", "-c", str(config), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def test_killed_and_stopped_driver_starts_again_to_the_same_weights(tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    straight.mkdir()
    broken.mkdir()
    process = start(configuration(straight))
    assert process.wait(timeout=PATIENCE) == 0
    config, run = configuration(broken, workers=2), broken / "runs" / "small"

    process = start(config)
    wait_until(lambda: finished_steps(run) or process.poll() is not None, "a checkpoint")
    workers = worker_pids("ray::RayTrainWorker", process.pid)
    process.kill()
    _, said = process.communicate()
    assert workers, said.decode()
    wait_until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in workers), "the end of its workers")
    killed_at = finished_steps(run)[-1]

    process = start(config)
    wait_until(lambda: finished_steps(run)[-1] > killed_at or process.poll() is not None, "another checkpoint")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5, said.decode()
    assert b"continues from there" in said

    process = start(config, "--set", "compute.workers=1")
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said.decode()
    description = json.loads((run / "run.json").read_text())
    assert description["training"]["resumed_from"] >= killed_at
    left, right = weights(run), weights(straight / "runs" / "small")
    assert max(float(np.abs(left[name] - right[name]).max()) for name in left) < 1e-5


def test_a_range_of_workers_has_no_place_with_zero() -> None:
    from sortase.config.check import validate

    with pytest.raises(ConfigError, match="range"):
        validate(ComputeSpec, {"workers": {"min": 1, "max": 2}, "deepspeed": 2}, "compute")
