"""What is asked of a cluster against what a Ray of two CPUs has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

ray = pytest.importorskip("ray")

from sortase.cluster import resources  # noqa: E402
from sortase.cluster.resources import check_resources, device_memory, gpus_per_worker  # noqa: E402
from sortase.config.compute import ComputeSpec  # noqa: E402
from sortase.errors import InfrastructureError  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One node: two CPUs, one slot, a label.

    HOME stays: a process that has read its token does not write it to another one, and the servers would not start.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        yield ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            resources={"slot": 1},
            labels={"pool": "spot"},
            include_dashboard=False,
            log_to_driver=False,
        )
        ray.shutdown()


@pytest.mark.parametrize(
    ("compute", "words"),
    [
        pytest.param({"workers": 3}, ["3 training workers", "1 CPU each", "room for 2", "has 2 CPU"], id="workers"),
        pytest.param({"workers": 1, "cpus_per_worker": 4}, ["4 CPU each", "room for 0"], id="cpus"),
        pytest.param({"workers": 1, "gpus_per_worker": 0.5}, ["0.5 GPU each", "has 2 CPU, 0 GPU"], id="gpus"),
        pytest.param({"workers": 1, "device": "cuda"}, ["1 GPU each", "0 GPU"], id="cuda"),
        pytest.param({"workers": 1, "resources_per_worker": {"tpu": 1}}, ["1 tpu", "0 tpu"], id="resource"),
        pytest.param({"workers": 2, "resources_per_worker": {"slot": 1}}, ["room for 1", "1 slot"], id="slots"),
        pytest.param({"workers": 1, "labels": {"pool": "fixed"}}, ["pool=fixed", "pool=spot"], id="label"),
        pytest.param({"workers": 1, "labels": {"pool": "!spot"}}, ["pool=!spot"], id="not-label"),
        pytest.param({"workers": 1, "labels": {"zone": "a"}}, ["zone=a", "zone=none"], id="no-label"),
        pytest.param({"workers": {"min": 3, "max": 9}}, ["3 training workers", "room for 2"], id="elastic"),
        pytest.param({"prepare": {"workers": 2, "cpus": 3}}, ["compute.prepare", "3 CPU each"], id="prepare"),
        pytest.param({"score": {"workers": 2, "gpus": 1}}, ["compute.score", "1 GPU"], id="score"),
        pytest.param({"prepare": {"workers": 1, "memory": 2**50}}, ["1048576.0 GiB memory"], id="memory"),
        pytest.param({"workers": 9, "most": {"CPU": 8}}, ["9 training workers", "grow to 8 CPU"], id="most"),
        pytest.param({"workers": 3, "gpus_per_worker": 1, "most": {"CPU": 8}}, ["1 GPU"], id="most-without-gpu"),
    ],
)
def test_the_impossible_is_refused_with_what_was_asked_and_what_there_is(
    cluster: Any, compute: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(InfrastructureError) as refused:
        check_resources(ComputeSpec(**compute))
    assert refused.value.exit_code == 3
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("compute", "line"),
    [
        pytest.param({"workers": 2}, "room for 2 training workers with 1 CPU each", id="workers"),
        pytest.param({"workers": 4, "cpus_per_worker": 0.5}, "room for 4 training workers", id="fractions"),
        pytest.param({"workers": 1, "resources_per_worker": {"slot": 1}}, "1 CPU, 1 slot", id="resource"),
        pytest.param({"workers": 1, "labels": {"pool": "in(fixed, spot)"}}, "room for 1", id="label-among"),
        pytest.param({"workers": 1, "labels": {"pool": "!in(fixed)"}}, "room for 1", id="label-not-among"),
        pytest.param({"workers": {"min": 1, "max": 9}}, "room for 2 of 9 training workers", id="elastic"),
        pytest.param({"prepare": {"workers": 9}}, "room for 2 of 9 prepare workers", id="tasks-take-turns"),
        pytest.param({"workers": 9, "most": {"CPU": 9}}, "wait for the autoscaler, there is room for 2", id="most"),
        pytest.param(
            {"workers": 1, "device": "cuda", "most": {"CPU": 9, "GPU": 1}}, "1 CPU, 1 GPU each wait", id="most-gpu"
        ),
        pytest.param({"workers": 1, "labels": {"zone": "a"}, "most": {"CPU": 9}}, "zone=a each wait", id="most-label"),
    ],
)
def test_what_is_possible_is_said_in_a_line(cluster: Any, compute: dict[str, Any], line: str) -> None:
    (said,) = check_resources(ComputeSpec(**compute))
    assert line in said


def test_trials_need_room_for_one_at_a_time(cluster: Any) -> None:
    assert check_resources(ComputeSpec(), trials=8) == [
        "cluster: room for 2 of 8 training workers with 1 CPU each at a time"
    ]
    assert "room for 2 of 4 " in check_resources(ComputeSpec(workers=2), trials=2)[0]
    with pytest.raises(InfrastructureError, match="3 training workers"):
        check_resources(ComputeSpec(workers=3), trials=1)


def test_without_workers_nothing_is_asked(cluster: Any) -> None:
    assert check_resources(ComputeSpec()) == []


def test_workers_take_a_gpu_where_there_is_one(cluster: Any) -> None:
    assert gpus_per_worker(ComputeSpec(workers=1)) == 0
    assert gpus_per_worker(ComputeSpec(workers=1, most={"GPU": 2})) == 1
    assert gpus_per_worker(ComputeSpec(workers=1, most={"GPU": 2}, device="cpu")) == 0
    assert gpus_per_worker(ComputeSpec(workers=1, gpus_per_worker=0.25)) == 0.25


def test_nothing_is_left_waiting_after_a_refusal(cluster: Any) -> None:
    before = ray.available_resources()
    with pytest.raises(InfrastructureError):
        check_resources(ComputeSpec(workers=3))
    time.sleep(0.1)
    assert ray.available_resources() == before


def test_many_nodes_are_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [resources.Node(f"n{i}", {"CPU": 4 if i else 8}, {}) for i in range(20)]
    monkeypatch.setattr(resources, "_nodes", lambda: nodes)
    monkeypatch.setattr(resources, "_most", lambda compute: {})
    with pytest.raises(InfrastructureError, match="19 nodes have 4 CPU; 1 nodes have 8 CPU"):
        check_resources(ComputeSpec(workers=1, cpus_per_worker=16, gpus_per_worker=0))
    (line,) = check_resources(ComputeSpec(workers=20, cpus_per_worker=4, gpus_per_worker=0))
    assert "room for 20" in line
    with pytest.raises(InfrastructureError, match="room for 1:"):
        check_resources(ComputeSpec(workers=2, cpus_per_worker=5, gpus_per_worker=0))


@pytest.mark.parametrize(
    ("kinds", "compute", "gib"),
    [
        pytest.param(["T4", "A100-40G"], {}, 40, id="largest"),
        pytest.param(["T4", "of-tomorrow"], {}, None, id="unknown"),
        pytest.param([], {}, None, id="none"),
        pytest.param(["T4"], {"device": "cpu"}, None, id="not-used"),
        pytest.param(["T4"], {"most": {"GPU": 8}}, None, id="others-may-come"),
    ],
)
def test_memory_of_gpus_is_known_by_their_kind(
    monkeypatch: pytest.MonkeyPatch, cluster: Any, kinds: list[str], compute: dict[str, Any], gib: int | None
) -> None:
    gpus = [resources.Node(kind, {"GPU": 2, f"accelerator_type:{kind}": 1}, {}) for kind in kinds]
    monkeypatch.setattr(resources, "_nodes", lambda: [*gpus, resources.Node("head", {"CPU": 2}, {})])
    spec = ComputeSpec(**{"workers": 1, **({"device": "cuda"} if kinds else {}), **compute})
    assert device_memory(spec) == (gib * 2**30 if gib else None)


def test_an_autoscaler_that_says_its_maximum_is_heard(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = ray._private.state.state
    monkeypatch.setattr(state, "get_max_resources_from_cluster_config", lambda: {"CPU": 16, "GPU": 4})
    (line,) = check_resources(ComputeSpec(workers=4))
    assert "4 training workers with 1 CPU, 1 GPU each wait for the autoscaler" in line
