"""What is asked of a cluster against what it has."""

from __future__ import annotations

from ..config.compute import ComputeSpec
from .connect import imported


def gpus_per_worker(compute: ComputeSpec) -> float:
    if compute.gpus_per_worker is not None:
        return compute.gpus_per_worker
    has = imported().cluster_resources().get("GPU", 0) > 0
    return 1.0 if has and compute.device != "cpu" else 0.0
