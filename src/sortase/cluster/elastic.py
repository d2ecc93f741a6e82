"""How many workers a training has room for: the number that is asked for, or what a range allows at the moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Set
from contextlib import suppress

from ..config.compute import ComputeSpec, WorkerRange
from ..errors import InfrastructureError
from .connect import imported
from .resources import Node, asked_workers, room

LOOK_SECONDS = 2.0
GROW_SECONDS = 60.0  # between two looks whether a running training could have more workers


class Size:
    """Room for workers on the nodes that are alive. Ray's own elastic policy counts nodes that are gone for a while."""

    def __init__(self, compute: ComputeSpec):
        self.compute = compute
        self.leaving: set[str] = set()
        self._next = time.monotonic() + GROW_SECONDS

    @property
    def is_range(self) -> bool:
        return isinstance(self.compute.workers, WorkerRange)

    def ask_autoscaler(self, workers: int) -> None:
        """Have room for so many workers made, or kept, where the cluster can grow; 0 takes that back."""
        from ray.autoscaler.sdk import request_resources

        if self.is_range:
            each = {name: amount for name, amount in asked_workers(self.compute).each.items() if amount}
            with suppress(ValueError):  # amounts that no autoscaler of this Ray understands: it grows on demand then
                request_resources(bundles=[each] * workers)

    def wait(self, should_stop: Callable[[], bool]) -> int:
        """Workers to start now; a range waits for its least."""
        if not self.is_range:
            return self.compute.max_workers
        deadline = time.monotonic() + self.compute.start_timeout
        while (found := self.possible()) < self.compute.min_workers and not should_stop():
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"compute.workers needs at least {self.compute.min_workers} workers; there was room for {found} in "
                    f"the {self.compute.start_timeout:g} s of compute.start_timeout"
                )
            time.sleep(LOOK_SECONDS)
        self._next = time.monotonic() + GROW_SECONDS
        return max(found, self.compute.min_workers)

    def possible(self, running: int = 0) -> int:
        """Workers for which there is room beside ``running`` ones, these included; at most the range's most."""
        asked = asked_workers(self.compute)
        in_all = sum(room(asked, node) for node in _alive(self.leaving))
        free = imported().available_resources()
        unused = min(
            (int(free.get(name, 0) / each + 1e-6) for name, each in asked.each.items() if each), default=in_all
        )
        return min(in_all, running + unused, self.compute.max_workers)

    def could_grow(self, running: int) -> bool:
        """Whether a running training of a range could have more workers; asked now and then."""
        if not self.is_range or time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + GROW_SECONDS
        return self.possible(running) > running


def _alive(leaving: Set[str]) -> list[Node]:
    return [
        Node(node["NodeManagerAddress"], node["Resources"], node.get("Labels") or {})
        for node in imported().nodes()
        if node["Alive"] and node["NodeID"] not in leaving
    ]
