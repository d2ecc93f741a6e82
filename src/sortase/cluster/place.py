"""Which way a configuration is computed: in this process, or on Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..config.compute import ComputeSpec
from ..pipeline.where import Here, Map, Where


@contextmanager
def placed(compute: ComputeSpec) -> Iterator[Where]:
    """Where to compute, connected as long as the block lasts."""
    if not compute.uses_ray:
        yield Here()
        return
    from .connect import connected

    with connected(compute):
        yield OnRay(compute)


class OnRay(Here):
    """Training on workers, and what else ``compute`` gives workers to; the rest in this process."""

    def __init__(self, compute: ComputeSpec):
        self.compute = compute
        self.prepare_map: Map | None = None
        self.score_map: Map | None = None

    def train(self, request, folder, events, say, should_stop):  # type: ignore[no-untyped-def]
        from .train import train

        if not request.compute.max_workers:
            return super().train(request, folder, events, say, should_stop)
        return train(request, folder, events, say, should_stop)
