"""What is asked of a cluster against what it has, found out before anything is started."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..config.compute import ComputeSpec, TaskGroup
from ..errors import InfrastructureError
from .connect import imported

NAMED = 8  # nodes that a message lists one by one
ROUNDING = 1e-6
GPU_GIB = {  # of the largest card sold under a name that Ray gives to accelerators
    "T4": 16,
    "V100": 32,
    "L4": 24,
    "A10G": 24,
    "L40S": 48,
    "A100-40G": 40,
    "A100-80G": 80,
    "A100": 80,
    "H20": 141,
    "H100": 96,
    "H200": 141,
    "B200": 192,
    "B300": 288,
}
Amounts = Mapping[str, float]


@dataclass(frozen=True)
class Node:
    name: str
    resources: Amounts
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Asked:
    """``least`` processes of one kind must find room at the same time; up to ``wanted`` are used."""

    what: str
    setting: str
    least: int
    wanted: int
    each: Amounts
    labels: Mapping[str, str]

    def __str__(self) -> str:
        labels = [f"label {name}={value}" for name, value in self.labels.items()]
        return f"{self.least} {self.what} with " + " and ".join([_words(self.each), *labels]) + " each"


def gpus_per_worker(compute: ComputeSpec) -> float:
    """What ``compute`` says, else 1 where the cluster has a GPU, or can grow to one, and the device is not the CPU."""
    if compute.gpus_per_worker is not None:
        return compute.gpus_per_worker
    if compute.device == "cpu":
        return 0.0
    has = any(amounts.get("GPU", 0) > 0 for amounts in (imported().cluster_resources(), _most(compute)))
    return 1.0 if has or compute.device == "cuda" else 0.0


def device_memory(compute: ComputeSpec) -> int | None:
    """Bytes of the largest GPU that a training worker can get; None where it gets none, or the kind is not known."""
    if gpus_per_worker(compute) == 0 or _most(compute):
        return None
    prefix = "accelerator_type:"
    kinds = [
        next((name.removeprefix(prefix) for name in node.resources if name.startswith(prefix)), "")
        for node in _nodes()
        if node.resources.get("GPU", 0) > 0
    ]
    if not kinds or not all(kind in GPU_GIB for kind in kinds):
        return None
    return max(GPU_GIB[kind] for kind in kinds) * 2**30


def check_resources(compute: ComputeSpec, *, trials: int | None = None) -> list[str]:
    """Lines about what was asked and where it finds room; Ray must be connected.

    ``trials``: of a sweep, at the same time. Not all of them, nor all tasks, need room at once; training workers do.

    Raises InfrastructureError for what can never be started: neither on the nodes there are nor, as far as it is
    known, on those that an autoscaler can add.
    """
    nodes, most = _nodes(), _most(compute)
    return [_check(asked, nodes, most) for asked in _all_asked(compute, trials)]


def _all_asked(compute: ComputeSpec, trials: int | None) -> Iterator[Asked]:
    for name, group in (("prepare", compute.prepare), ("score", compute.score)):
        if group.workers:
            yield _asked_group(name, group)
    if compute.max_workers or trials:
        yield asked_workers(compute, trials or 1)


def asked_workers(compute: ComputeSpec, trials: int = 1) -> Asked:
    """The workers of a training, or of so many at the same time."""
    return Asked(
        "training workers",
        "compute.workers",
        max(1, compute.min_workers),
        max(1, compute.max_workers) * trials,
        {"CPU": compute.cpus_per_worker, "GPU": gpus_per_worker(compute), **compute.resources_per_worker},
        compute.labels,
    )


def _asked_group(name: str, group: TaskGroup) -> Asked:
    amounts = {"CPU": group.cpus, "GPU": group.gpus, "memory": float(group.memory or 0), **group.resources}
    return Asked(f"{name} workers", f"compute.{name}", 1, group.workers, amounts, group.labels)


def _nodes() -> list[Node]:
    return [
        Node(node["NodeManagerAddress"], node["Resources"], node.get("Labels") or {})
        for node in imported().nodes()
        if node["Alive"]
    ]


def _most(compute: ComputeSpec) -> Amounts:
    """What the cluster can grow to: as declared, else as its autoscaler says; empty where it does not grow."""
    if compute.most:
        return compute.most
    state = imported()._private.state.state
    return state.get_max_resources_from_cluster_config() or {}


def _check(asked: Asked, nodes: list[Node], most: Amounts) -> str:
    fit = sum(room(asked, node) for node in nodes)
    if fit >= asked.wanted:
        return f"cluster: room for {asked.wanted} {asked.what} with {_words(asked.each)} each"
    if fit >= asked.least:
        return f"cluster: room for {fit} of {asked.wanted} {asked.what} with {_words(asked.each)} each at a time"
    total = Counter({name: sum(node.resources.get(name, 0) for node in nodes) for name in asked.each})
    reach = {name: max(total[name], most.get(name, 0)) for name in asked.each}
    if most and all(asked.least * amount <= reach[name] + ROUNDING for name, amount in asked.each.items()):
        return f"cluster: {asked} wait for the autoscaler, there is room for {fit} now"
    grown = f"; it can grow to {_words(reach)}" if most else ""
    raise InfrastructureError(
        f"{asked.setting} asks for {asked}, but the cluster has room for {fit}: {_listed(nodes, asked)}{grown}. "
        f"Ask for less, or name in compute.most what the cluster's autoscaler can add up to"
    )


def room(asked: Asked, node: Node) -> int:
    """How many fit on this node. All are alike, so filling node by node is the best packing."""
    if not all(_matches(node.labels.get(name), value) for name, value in asked.labels.items()):
        return 0
    fits = [int(node.resources.get(name, 0) / amount + ROUNDING) for name, amount in asked.each.items() if amount > 0]
    return min(fits, default=asked.wanted)


def _matches(label: str | None, selector: str) -> bool:
    """Ray's label selectors: ``value``, ``!value``, ``in(a, b)``, ``!in(a, b)``."""
    wanted = selector.removeprefix("!")
    among = re.fullmatch(r"in\((.*)\)", wanted)
    values = [value.strip() for value in among[1].split(",")] if among else [wanted]
    return (label in values) != selector.startswith("!")


def _listed(nodes: list[Node], asked: Asked) -> str:
    if not nodes:
        return "it has no nodes"
    names = [name for name, amount in asked.each.items() if amount > 0]
    offers = [_offer(node, names, asked.labels) for node in nodes]
    if len(nodes) <= NAMED:
        return "; ".join(f"node {node.name} has {offer}" for node, offer in zip(nodes, offers, strict=True))
    return "; ".join(f"{count} nodes have {offer}" for offer, count in Counter(offers).most_common())


def _offer(node: Node, names: list[str], labels: Mapping[str, str]) -> str:
    amounts = _words({name: node.resources.get(name, 0) for name in names}, zero=True)
    return ", ".join([amounts, *(f"label {name}={node.labels.get(name, 'none')}" for name in labels)])


def _words(amounts: Amounts, zero: bool = False) -> str:
    """``2 CPU, 1 GPU, 4.0 GiB memory``; what is not asked for is left out."""
    shown = [(name, amount) for name, amount in amounts.items() if amount > 0 or zero]
    return ", ".join(
        f"{amount / 2**30:.1f} GiB {name}" if name == "memory" else f"{amount:g} {name}" for name, amount in shown
    )
