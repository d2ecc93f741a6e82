"""What pods and events tell, in words: why something does not start, or was ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST = 300  # characters of Kubernetes' own words

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
    """Each trouble once, however many pods have it. Where pods do not tell: warnings about objects whose names begin
    like one of ``names``, and with which nothing went well since (events stay for an hour)."""
    having: dict[str, list[str]] = {}
    for pod in pods:
        for words in dict.fromkeys(_of_pod(pod)):
            having.setdefault(words, []).append(pod.metadata.name)
    if having:
        return tuple(f"pod {' and '.join(_shown(sorted(each)))}: {words}" for words, each in having.items())
    starts = tuple(names)
    found: dict[str, list[str]] = {}
    for event in sorted(events, key=lambda event: str(event.last_timestamp or event.event_time or "")):
        name = event.involved_object.name
        if event.type == "Normal":
            found.pop(name, None)
        elif event.reason in WARNINGS and name.startswith(starts):
            found.setdefault(name, []).append(f"{name}: {event.reason}: {_short(event.message)}")
    return tuple(dict.fromkeys([words for each in found.values() for words in each][-3:]))


def _shown(names: list[str]) -> list[str]:
    return names if len(names) < 3 else [names[0], f"{len(names) - 1} others"]


def _short(message: str | None) -> str:
    """One line, without what comes and goes while the same is tried again."""
    words = " ".join((message or "").split()).rpartition("ErrImagePull: ")[2]
    return words if len(words) <= LONGEST else f"{words[:LONGEST]}…"


WARNINGS = (  # of KubeRay and of the scheduler; others, such as probes of a pod that starts, come and go
    *("FailedToCreateHeadPod", "FailedToCreateWorkerPod", "FailedToCreateRayCluster", "FailedCreate", "FailedMount"),
    *("InvalidRayJobSpec", "InvalidRayClusterSpec", "ValidationFailed", "InvalidRayJobMetadata", "FailedScheduling"),
)


def _of_pod(pod: Any) -> Iterator[str]:
    if pod.metadata.deletion_timestamp:
        return
    for condition in pod.status.conditions or []:
        if condition.type == "PodScheduled" and condition.status == "False":
            yield f"cannot be scheduled: {_short(condition.message)}"
    if pod.status.phase == "Failed" and pod.status.reason in HINTS:
        yield f"{HINTS[pod.status.reason]}: {_short(pod.status.message)}"
    for container in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]:
        states = [state for state in (container.state, container.last_state) if state]
        for state in states:
            if state.waiting and state.waiting.reason in HINTS:
                yield f"{HINTS[state.waiting.reason]}: {_short(state.waiting.message) or container.image}"
            if state.terminated and state.terminated.reason in HINTS:
                yield HINTS[state.terminated.reason]
