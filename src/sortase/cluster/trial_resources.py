"""How much a trial takes, and how many trials at a time cannot stand in each other's way.

A trial in one process is an actor that holds its CPUs and GPUs. A trial of several workers is an actor that holds
nothing, beside a group of workers that Ray places all at once or not at all: with no more trials than there are places
for whole groups, every group gets its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config.compute import ComputeSpec, TaskGroup
from ..config.tune import TuneSpec
from ..types import Log
from .resources import _most, _nodes, asked_workers, check_resources, gpus_per_worker, room

NOTHING = {"memory": 1.0}  # a byte: Ray Tune refuses a trial without any resource, and a CPU would be a worker's


@dataclass(frozen=True)
class Slots:
    """``compute`` of each trial, the resources of its actor, and how many trials run at a time."""

    compute: ComputeSpec
    alone: bool
    trials: int
    bundle: dict[str, float]

    def resources(self) -> Any:
        from ray.tune import PlacementGroupFactory

        labels = {"bundle_label_selector": [self.compute.labels]} if self.alone and self.compute.labels else {}
        return PlacementGroupFactory([self.bundle], **labels)


def find_slots(spec: TuneSpec, compute: ComputeSpec, log: Log) -> Slots:
    """Ray must be connected.

    Raises:
        InfrastructureError: not even one trial finds room, now or with what an autoscaler can add.
    """
    alone = compute.max_workers <= 1 and compute.deepspeed is None
    one = _alone(spec, compute) if alone else _together(compute)
    for line in check_resources(one, trials=spec.trials):
        log(f"tune: {line}")
    most = min(spec.trials, max(1, _places(one) // one.max_workers), spec.max_concurrent or spec.trials)
    asked = asked_workers(one)
    bundle = {name: float(amount) for name, amount in asked.each.items() if amount} if alone else NOTHING
    return Slots(one.model_copy(update={"workers": 0}) if alone else one, alone, most, bundle)


def _alone(spec: TuneSpec, compute: ComputeSpec) -> ComputeSpec:
    gpus = spec.gpus_per_trial if spec.gpus_per_trial is not None else gpus_per_worker(compute)
    return _only(compute, 1, spec.cpus_per_trial or compute.cpus_per_worker, gpus)


def _together(compute: ComputeSpec) -> ComputeSpec:
    """A range of workers is settled once: trials that grow would take the room of others."""
    found = _places(_only(compute, compute.min_workers, compute.cpus_per_worker, gpus_per_worker(compute)))
    workers = min(max(found, compute.min_workers), compute.max_workers)
    return _only(compute, workers, compute.cpus_per_worker, gpus_per_worker(compute))


def _only(compute: ComputeSpec, workers: int, cpus: float, gpus: float) -> ComputeSpec:
    """Nothing else of the run is at work while trials are."""
    changes = {"workers": workers, "cpus_per_worker": cpus, "gpus_per_worker": gpus}
    return compute.model_copy(update={**changes, "prepare": TaskGroup(), "score": TaskGroup()})


def _places(compute: ComputeSpec) -> int:
    """Processes that find room on the nodes there are, or with what can be added."""
    asked = asked_workers(compute)
    now = sum(room(asked, node) for node in _nodes())
    most = _most(compute)
    grown = [int(most.get(name, 0) / amount + 1e-6) for name, amount in asked.each.items() if amount] if most else []
    return max(now, min(grown, default=0))
