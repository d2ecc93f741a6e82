"""What pods and events tell, in words: why something does not start, or was ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

HINTS = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "ErrImageNeverPull": "the image is not on the node",
    "InvalidImageName": "the image's name is invalid",
    "CreateContainerConfigError": "the container cannot be configured (a secret or config map is missing)",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be started",
    "CrashLoopBackOff": "the container ends again and again",
    "OOMKilled": "ended by the kernel: it used more memory than its limit (OOMKilled)",
    "Evicted": "evicted by its node",
}


def counted(pods: Iterable[Any]) -> tuple[str, ...]:
    """``head 1 Running``, ``train 2 Running, 1 Pending``: phases of each group's pods."""
    groups: dict[str, Counter[str]] = {}
    for pod in pods:
        labels = pod.metadata.labels or {}
        name = "head" if labels.get("ray.io/node-type") == "head" else labels.get("ray.io/group", "other")
        phase = "Terminating" if pod.metadata.deletion_timestamp else pod.status.phase
        groups.setdefault(name, Counter())[phase] += 1
    ordered = sorted(groups, key=lambda name: (name != "head", name))
    return tuple(
        f"{name} " + ", ".join(f"{count} {phase}" for phase, count in sorted(groups[name].items())) for name in ordered
    )


def troubles(pods: Iterable[Any], events: Iterable[Any], names: Iterable[str]) -> tuple[str, ...]:
    """Each trouble once. Of events, only warnings about objects whose names begin like one of ``names``, and only where
    their pods do not tell."""
    found = [line for pod in pods for line in _of_pod(pod)]
    if not found:
        starts = tuple(names)
        found = [
            f"{event.involved_object.name}: {event.reason}: {' '.join((event.message or '').split())}"
            for event in sorted(events, key=lambda event: str(event.last_timestamp or event.event_time or ""))
            if event.type == "Warning" and event.reason in WARNINGS and event.involved_object.name.startswith(starts)
        ][-3:]
    return tuple(dict.fromkeys(found))


WARNINGS = (  # of KubeRay and of the scheduler; others, such as probes of a pod that starts, come and go
    *("FailedToCreateHeadPod", "FailedToCreateWorkerPod", "FailedToCreateRayCluster", "FailedCreate", "FailedMount"),
    *("InvalidRayJobSpec", "InvalidRayClusterSpec", "ValidationFailed", "InvalidRayJobMetadata", "FailedScheduling"),
)


def _of_pod(pod: Any) -> Iterator[str]:
    name = pod.metadata.name
    if pod.metadata.deletion_timestamp:
        return
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            yield f"pod {name} cannot be scheduled: {condition.message}"
    if pod.status.phase == "Failed" and pod.status.reason in HINTS:
        yield f"pod {name}: {HINTS[pod.status.reason]}: {pod.status.message}"
    for container in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        waiting = container.state.waiting if container.state else None
        if waiting and waiting.reason in HINTS:
            yield f"pod {name}: {HINTS[waiting.reason]}: {waiting.message or container.image}"
        for ended in (
            container.state and container.state.terminated,
            container.last_state and container.last_state.terminated,
        ):
            if ended and ended.reason in HINTS:
                yield f"pod {name}: {HINTS[ended.reason]}"
