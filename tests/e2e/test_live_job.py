"""Runs on clusters of their own: the chart's mode ``job`` and `sortase submit`, on a live cluster."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from live import (
    CHART,
    POD,
    PREPARING,
    SMALL,
    Cluster,
    ended_with,
    events,
    last_step,
    released,
    small_run,
    sortase,
    submitted,
    until,
    values,
    weights,
)

from sortase import storage
from sortase.demo.runs import sequence_settings
from sortase.train.checkpoints import MANIFEST

LONG = {  # 1,440 steps, the same whatever the number of workers
    "num_train_epochs": 240,
    "save_steps": 40,
    "eval_strategy": "no",
    "logging_steps": 10,
    "global_batch_size": 16,
    "per_device_train_batch_size": 8,
}


@pytest.fixture
def files(tmp_path: Path, cluster: Cluster) -> Any:
    """Writes run.yaml and values.yaml; returns the words that name them."""

    def write(run: dict[str, Any], **changes: Any) -> list[str]:
        given = values(run, **changes)
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(given.pop("run")))
        (tmp_path / "values.yaml").write_text(yaml.safe_dump(given))
        return ["-c", str(tmp_path / "run.yaml"), "-f", str(tmp_path / "values.yaml"), "-n", cluster.namespace]

    return write


def test_the_demo_by_helm_with_preparation_on_a_group_of_its_own(cluster: Cluster, bucket: str) -> None:
    run = sequence_settings(f"{bucket}/runs")
    source = Path(run["tokenize"]["input"])
    run["tokenize"]["input"] = f"{bucket}/input/{source.name}"
    storage.write_bytes(run["tokenize"]["input"], source.read_bytes())
    run["train"]["num_train_epochs"] = 3
    run["evaluate"] = {"bootstrap": 50}
    run["compute"] = {"workers": 2, "device": "cpu", "prepare": {"workers": 1}}
    given = values(run)
    with released(cluster.namespace) as helm:
        helm.install(CHART, "demo", {**given, "groups": {**given["groups"], **PREPARING}})
        (job,) = cluster.rayjobs("demo")
        status = cluster.ended(job["metadata"]["name"])
        assert status["jobStatus"] == "SUCCEEDED", cluster.describe()
    folder = f"{bucket}/runs/blood-cell-types"
    for name in ("model/model.safetensors", "predictions.parquet", "evaluation.json", "report.html", "run.json"):
        assert storage.exists(f"{folder}/{name}"), name
    evaluation = storage.read_json(f"{folder}/evaluation.json")
    assert evaluation["metrics"]["macro_f1"] > 0.05
    logs = set(storage.list_files(f"{folder}/logs/attempt-1"))
    assert {"driver.log", "train-rank-0.log", "train-rank-1.log", "prepare-0.log", "outcome.json"} <= logs
    assert storage.read_json(f"{folder}/run.json")["training"]["workers"] == 2
    until(lambda: not cluster.pods(), "the pods go", 120)


def test_a_worker_that_is_taken_away_in_the_middle_changes_nothing(
    cluster: Cluster, cells: str, bucket: str, files: Any, tmp_path: Path
) -> None:
    run = small_run("taken", cells, f"{bucket}/runs", train=LONG)
    folder = f"{bucket}/runs/taken"
    alone = {**run, "run": {"name": "alone", "output": f"{bucket}/runs"}, "compute": {"workers": 0, "device": "cpu"}}
    (tmp_path / "alone.yaml").write_text(yaml.safe_dump(alone))
    with submitted(*files(run)) as process:
        until(lambda: last_step(folder) >= 100, "step 100", 300, cluster.describe)
        taken = cluster.workers("train")[0].metadata.name
        cluster.delete_pod(taken)
        code, output = ended_with(process)
    assert code == 0, output
    training = storage.read_json(f"{folder}/run.json")["training"]
    assert training["resumed_from"] > 0, training
    assert training["steps"] == 1440
    sortase("train", "-c", str(tmp_path / "alone.yaml"), code=2)  # not prepared yet: stages have an order
    sortase("prepare", "-c", str(tmp_path / "alone.yaml"))
    sortase("train", "-c", str(tmp_path / "alone.yaml"))
    for name, value in weights(f"{bucket}/runs/alone").items():
        torch.testing.assert_close(weights(folder)[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_lost_head_is_a_new_cluster_that_goes_on_from_storage(
    cluster: Cluster, cells: str, bucket: str, files: Any
) -> None:
    folder = f"{bucket}/runs/headless"
    words = files(small_run("headless", cells, f"{bucket}/runs", train=LONG), job={"backoffLimit": 1})
    with submitted(*words) as process:
        until(lambda: last_step(folder) >= 100, "step 100", 300, cluster.describe)
        cluster.core.delete_namespaced_pod(cluster.head().metadata.name, cluster.namespace, grace_period_seconds=0)
        code, output = ended_with(process)
    assert code == 0, output
    training = storage.read_json(f"{folder}/run.json")["training"]
    assert training["resumed_from"] >= 40, training
    assert json.loads(sortase("status", folder, "--json").stdout)["run"]["state"] == "succeeded"


def test_a_failing_run_ends_with_its_code_and_leaves_its_logs(
    cluster: Cluster, cells: str, bucket: str, files: Any
) -> None:
    """A loss that is not finite: found by the workers, told by the driver, by the job, by submit and by the folder."""
    words = files(small_run("failing", cells, f"{bucket}/runs", train={"learning_rate": 1e12, "max_grad_norm": 0.0}))
    failed = sortase("submit", *words, code=1)
    assert "not finite" in failed.stdout + failed.stderr
    until(lambda: not cluster.pods(), "the pods go", 120)
    told = sortase("status", f"{bucket}/runs/failing", "--json")
    assert json.loads(told.stdout)["run"]["exit_code"] == 1
    assert "not finite" in sortase("logs", f"{bucket}/runs/failing").stdout
    again = sortase("submit", *words, code=1)
    assert "attached" in again.stderr and "--attempt 2" in again.stderr


def test_what_cannot_be_scheduled_is_given_up_and_says_why(
    cluster: Cluster, cells: str, bucket: str, files: Any
) -> None:
    huge = {
        **POD,
        "resources": {"requests": {"cpu": "500", "memory": "1Gi"}, "limits": {"cpu": "500", "memory": "1Gi"}},
    }
    words = files(small_run("huge", cells, f"{bucket}/runs"), groups={"train": {**huge, "replicas": 2}})
    given_up = sortase("submit", *words, "--start-timeout", "15", code=3, seconds=180)
    assert "Insufficient cpu" in given_up.stderr
    until(lambda: not cluster.rayjobs("huge"), "the RayJob goes", 60)


def test_a_cancelled_run_keeps_its_checkpoint_and_goes_on_by_another_attempt(
    cluster: Cluster, cells: str, bucket: str, files: Any
) -> None:
    folder = f"{bucket}/runs/cancelled"
    words = files(
        small_run("cancelled", cells, f"{bucket}/runs", train={**LONG, "num_train_epochs": 5000, "save_steps": 50_000})
    )
    with submitted(*words) as process:
        until(lambda: last_step(folder) >= 30, "step 30", 300, cluster.describe)
        sortase("cancel", *words)
        code, output = ended_with(process)
    assert code == 5, output
    outcome = storage.read_json(f"{folder}/logs/attempt-1/outcome.json")
    assert outcome["state"] == "cancelled"
    (kept,) = [name for name in storage.list_files(f"{folder}/checkpoints") if name.endswith(MANIFEST)]
    assert int(kept.split("/")[0].removeprefix("step-")) >= 30
    assert not [line for line in events(folder) if line["stage"] == "evaluate"]


def test_workers_come_by_need(cluster: Cluster, cells: str, bucket: str, files: Any) -> None:
    """An elastic training on a group that begins empty."""
    run = small_run("elastic", cells, f"{bucket}/runs", compute={"workers": {"min": 1, "max": 2}})
    groups = {"train": {**POD, "replicas": 0, "minReplicas": 0, "maxReplicas": 2, "cpus": 1}}
    autoscaling = {"enabled": True, "idleTimeoutSeconds": 60, "resources": SMALL}
    sortase("submit", *files(run, groups=groups, autoscaling=autoscaling))
    assert storage.read_json(f"{bucket}/runs/elastic/run.json")["training"]["workers"] >= 1
