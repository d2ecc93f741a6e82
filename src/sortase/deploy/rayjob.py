"""A RayJob's status, read: https://ray-project.github.io/kuberay, RayJobStatus of ray.io/v1."""

from __future__ import annotations

from typing import Any

from .state import State, exit_code_of, failed

WAITING = {
    "": "accepted",
    "Initializing": "waiting for the cluster's pods",
    "Waiting": "waiting for a job",
    "Retrying": "failed, and is tried again on a new cluster",
    "Suspending": "being suspended",
    "Suspended": "suspended, as by a queue",
}


def state_of(rayjob: dict[str, Any]) -> State:
    """KubeRay tells of the deployment and, once it is there, of the job within."""
    status = rayjob.get("status") or {}
    deployment, job = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    words = " ".join(str(status.get("message", "")).split())
    if rayjob["metadata"].get("deletionTimestamp"):
        return State("waiting", "being deleted")
    if deployment == "Complete" and job == "SUCCEEDED":
        return State("succeeded", "succeeded", 0)
    if job == "STOPPED":
        return State("stopped", "stopped", 5)
    if deployment in ("Failed", "ValidationFailed", "Complete"):
        reason = status.get("reason") or deployment
        if reason == "AppFailed":
            return failed(f"failed: {words}")
        return State("failed", f"failed, {reason}: {words}", exit_code_of(reason))
    if deployment == "Running":
        return State("running", f"running{'' if job == 'RUNNING' else ', ' + (job or 'not started yet').lower()}")
    return State("waiting", WAITING.get(deployment, deployment))


def cluster_of(rayjob: dict[str, Any]) -> str | None:
    return (rayjob.get("status") or {}).get("rayClusterName") or None


def head_of(rayjob: dict[str, Any]) -> str | None:
    """The name of the head's pod."""
    status = (rayjob.get("status") or {}).get("rayClusterStatus") or {}
    return (status.get("head") or {}).get("podName") or None


def driver_began(rayjob: dict[str, Any]) -> str | None:
    """When Ray started the entrypoint, in RFC 3339; None before."""
    return ((rayjob.get("status") or {}).get("rayJobInfo") or {}).get("startTime") or None
