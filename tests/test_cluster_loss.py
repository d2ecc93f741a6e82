"""Any node of a cluster may go: a head without CPUs, as the chart has it, and each worker's node taken in turn."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster_data import finished_steps, request, train_here, train_there, wait_until, worker_pids
from makers import weights
from sortase.errors import InfrastructureError

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LONG = {"num_train_epochs": 60, "save_steps": 20, "eval_strategy": "steps", "eval_steps": 60}
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 6}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs, which notices a lost node in seconds, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK}
    made = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=made.address, namespace="sortase", log_to_driver=False)
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    ray.shutdown()
    made.shutdown()


def trained(url: Path, compute: dict[str, Any], data: Path, deeds: list[Callable[[], None]], **told: Any) -> Any:
    """A training during which each of these happens once there is another checkpoint. They are done in this thread:
    Ray starts a node in no other."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        training = pool.submit(train_there, request("sequence", str(data), compute, **LONG), url, **told)
        for deed in deeds:
            newest = max(finished_steps(url), default=0)
            wait_until(lambda: training.done() or max(finished_steps(url), default=0) > newest, "a checkpoint")  # noqa: B023
            deed()
        return training.result()


def test_each_node_and_the_board_are_lost_in_turn(cluster: Any, tmp_path: Path) -> None:
    train_here(request("sequence", str(tmp_path), **LONG), tmp_path / "straight")
    first, second = cluster.worker_nodes
    said: list[str] = []
    evaluated: list[int] = []

    def replace(node: Any) -> None:
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)

    def lose_board() -> None:
        for board in worker_pids("ray::_Board"):
            os.kill(board, signal.SIGKILL)

    url = tmp_path / "run"
    deeds = [lambda: replace(first), lose_board, lambda: replace(second)]
    compute = {"workers": 2, "start_timeout": 300}
    told = {"log": said.append, "report": lambda step, metrics: evaluated.append(step)}
    summary = trained(url, compute, tmp_path, deeds, **told)
    assert (summary["crashes"], summary["starts"]) == (2, 3), said
    left, right = weights(url), weights(tmp_path / "straight")
    assert max(float(np.abs(left[name] - right[name]).max()) for name in left) < 1e-5
    assert sorted(set(evaluated)) == list(range(60, summary["steps"] + 1, 60))


def test_nothing_is_left_to_run_on(cluster: Any, tmp_path: Path) -> None:
    def lose_all() -> None:
        for node in list(cluster.worker_nodes):
            cluster.remove_node(node, allow_graceful=False)

    url = tmp_path / "run"
    with pytest.raises(InfrastructureError, match=r"did not start in time \(compute.start_timeout\)"):
        trained(url, {"workers": 2, "start_timeout": 60}, tmp_path, [lose_all])
    assert finished_steps(url)
