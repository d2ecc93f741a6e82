"""Helm's releases over time: schedules that fire, upgrades, and nothing that stays behind."""

from __future__ import annotations

from typing import Any

from live import CHART, Cluster, released, small_run, until, values

from sortase import storage


def owned(cluster: Cluster, release: str) -> set[str]:
    """Everything in the namespace that bears the release's label."""
    selector = f"app.kubernetes.io/instance={release}"
    core, batch = cluster.core, cluster.batch
    from kubernetes import client

    rbac, net = client.RbacAuthorizationV1Api(), client.NetworkingV1Api()
    listed: list[Any] = []
    for call in (
        core.list_namespaced_pod,
        core.list_namespaced_config_map,
        core.list_namespaced_service_account,
        batch.list_namespaced_cron_job,
        rbac.list_namespaced_role,
        rbac.list_namespaced_role_binding,
        net.list_namespaced_network_policy,
    ):
        listed += call(cluster.namespace, label_selector=selector).items
    custom = [
        item["metadata"]["name"]
        for kind in ("rayjobs", "rayclusters")
        for item in cluster.objects.list_namespaced_custom_object(
            "ray.io", "v1", cluster.namespace, kind, label_selector=selector
        )["items"]
    ]
    return {item.metadata.name for item in listed} | set(custom)


def test_a_schedule_fires(cluster: Cluster, cells: str, bucket: str) -> None:
    run = small_run("nightly", cells, f"{bucket}/runs", compute={"workers": 0}, train={"num_train_epochs": 1})
    given = values(run, mode="schedule", schedule={"cron": "* * * * *"})
    given["groups"] = {"train": {"enabled": False}}
    with released(cluster.namespace) as helm:
        helm.install(CHART, "nightly", given)
        (job,) = until(lambda: cluster.rayjobs("nightly"), "a RayJob", 150, cluster.describe)
        paused = {**given, "schedule": {"cron": "* * * * *", "suspend": True}}
        helm.upgrade(CHART, "nightly", paused)
        status = cluster.ended(job["metadata"]["name"])
        assert status["jobStatus"] == "SUCCEEDED", cluster.describe()
    assert storage.exists(f"{bucket}/runs/nightly/report.html")
    until(lambda: not cluster.rayjobs("nightly"), "the RayJob goes with its CronJob", 120, cluster.describe)


def test_upgrades_and_removals_leave_nothing_behind(cluster: Cluster, cells: str, bucket: str) -> None:
    first = small_run("changing", cells, f"{bucket}/runs", train={"num_train_epochs": 500})
    second = small_run("changing", cells, f"{bucket}/runs", train={"num_train_epochs": 501})
    with released(cluster.namespace) as helm:
        helm.install(CHART, "changing", values(first))
        (before,) = [job["metadata"]["name"] for job in cluster.rayjobs("changing")]
        until(lambda: cluster.pods(), "pods", 60)
        helm.upgrade(CHART, "changing", values(first, drainSeconds=15))
        assert [job["metadata"]["name"] for job in cluster.rayjobs("changing")] == [before], (
            "the same run is the same job"
        )
        helm.upgrade(CHART, "changing", values(second))

        def changed() -> list[str]:
            return [job["metadata"]["name"] for job in cluster.rayjobs("changing") if job["metadata"]["name"] != before]

        until(lambda: changed() and len(cluster.rayjobs("changing")) == 1, "one job, of the new configuration", 120)
        helm.uninstall("changing")
    until(lambda: not owned(cluster, "changing"), "everything goes", 180, lambda: str(owned(cluster, "changing")))
