"""A cluster that stays: the chart's mode ``cluster``, to which jobs are submitted from outside with its token."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from live import CHART, POD, Cluster, released, small_run, sortase, until, values

from sortase import storage


@pytest.fixture(scope="module")
def address(cluster: Cluster) -> Iterator[str]:
    """Of the dashboard; the token is in the environment."""
    given = {**values({}), "mode": "cluster"}
    given["groups"] = {"train": {**POD, "replicas": 2, "cpus": 1}, "prepare": {"enabled": False}}
    del given["run"], given["job"]
    with released(cluster.namespace) as helm:
        helm.install(CHART, "team", given)

        def ready() -> bool:
            return any(each.get("status", {}).get("state") == "ready" for each in cluster.clusters())

        until(ready, "the RayCluster", 300, cluster.describe)
        (made,) = cluster.clusters()
        secret = cluster.core.read_namespaced_secret(made["metadata"]["name"], cluster.namespace)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_AUTH_MODE", "token")
            patch.setenv("RAY_AUTH_TOKEN", base64.b64decode(secret.data["auth_token"]).decode())
            yield f"http://{cluster.head().status.pod_ip}:8265"
    until(lambda: not cluster.pods(), "the pods go", 120, cluster.describe)


def configured(tmp_path: Path, run: dict[str, object]) -> str:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(run))
    return str(path)


def test_deepspeed_on_two_workers(address: str, cells: str, bucket: str, tmp_path: Path) -> None:
    """ZeRO-2, whose op was compiled into the image."""
    run = small_run("zero", cells, f"{bucket}/runs", compute={"deepspeed": 2})
    done = sortase("submit", "--address", address, "-c", configured(tmp_path, run))
    assert "train: done" in done.stdout
    training = storage.read_json(f"{bucket}/runs/zero/run.json")["training"]
    assert training["workers"] == 2
    assert storage.exists(f"{bucket}/runs/zero/model/model.safetensors")


@pytest.mark.parametrize("workers", [0, 2], ids=["single-process trials", "trials of two workers"])
def test_a_search(workers: int, address: str, cells: str, bucket: str, tmp_path: Path) -> None:
    run = small_run(
        f"search-{workers}",
        cells,
        f"{bucket}/runs",
        tune={"trials": 2, "space": {"learning_rate": [1e-4, 1e-2]}},
        compute={"workers": workers},
    )
    sortase("submit", "--address", address, "-c", configured(tmp_path, run))
    board = storage.read_bytes(f"{bucket}/runs/search-{workers}/tune/leaderboard.csv").decode().splitlines()
    assert len(board) == 3
    assert storage.exists(f"{bucket}/runs/search-{workers}/model/model.safetensors")


def test_ray_job_submit_from_outside_needs_the_token(
    address: str, cells: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With Ray's own command, and the configuration in storage."""
    run = small_run("outside", cells, f"{bucket}/runs", compute={"workers": 1})
    config = f"{bucket}/input/outside.yaml"
    storage.write_bytes(config, yaml.safe_dump(run).encode())
    words = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", address, "--"]
    words += ["sortase", "run", "--config", config]
    strangers = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    refused = subprocess.run(words, env={**strangers, "HOME": "/nonexistent"}, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "auth" in (refused.stdout + refused.stderr).lower()
    done = subprocess.run(words, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert storage.exists(f"{bucket}/runs/outside/report.html")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    wrong = sortase("submit", "--address", address, "-c", config, "--attempt", "7", code=2)
    assert "token" in wrong.stderr
