"""The chart's mode ``job`` on a live cluster."""

from __future__ import annotations

from live import CHART, Cluster, released, small_run, values
from sortase import storage


def test_small(cluster: Cluster, cells: str, bucket: str) -> None:
    run = small_run("small", cells, f"{bucket}/runs")
    with released(cluster.namespace) as helm:
        helm.install(CHART, "small", values(run))
        (job,) = cluster.rayjobs()
        status = cluster.ended(job["metadata"]["name"])
        print(status)
        assert status["jobStatus"] == "SUCCEEDED", cluster.describe()
    assert storage.exists(f"{bucket}/runs/small/model/model.safetensors")
