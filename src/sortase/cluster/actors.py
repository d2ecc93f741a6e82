"""Parts of work on a pool of Ray actors: each loads what it needs once, and a lost one costs only its part."""

from __future__ import annotations

import math
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from .. import storage
from ..config.compute import TaskGroup
from ..config.storage import StorageSpec
from ..deadlines import shortened
from ..errors import InfrastructureError, SortaseError, WorkFailedError
from ..runs import logs
from ..stopping import check
from ..storage.written import Written, note, recording
from ..types import Map
from .channel import POLL_SECONDS
from .connect import imported

TRIES = 4
ENDING = 10.0  # seconds
AHEAD = 4  # parts for each actor that may wait for an earlier one


def actor_map(group: TaskGroup, start_timeout: float = 600) -> Map:
    """``map(function, items)`` on ``group.workers`` actors, results in order.

    The function is sent to an actor once and can keep there what it opens. An item whose actor dies is given to another
    one, ``TRIES`` times; an error that the function raises is raised here, and is not tried again. The actors end with
    the results, or when the generator is closed.

    Raises:
        InfrastructureError: no actor started within ``start_timeout`` seconds, or actors died again and again.
        WorkFailedError: the function raised an error that is not one of this package's.
    """
    return partial(_results, group, start_timeout)


def _results(
    group: TaskGroup, start_timeout: float, function: Callable[[Any], Any], items: Iterable[Any]
) -> Iterator[Any]:
    todo = list(items)
    pool = _Pool(group, start_timeout, function)
    try:
        for _ in range(min(max(1, group.workers), len(todo))):
            pool.start()
        yield from pool.results(todo)
    finally:
        pool.close()


class _Worker:
    """What an actor is."""

    def __init__(
        self, function: Callable[[Any], Any], reached: StorageSpec, keeps: logs.LogDestination | None, number: int
    ):
        storage.configure(reached)
        self.kept = ExitStack()
        self.kept.enter_context(logs.kept_logs(keeps, str(number)))
        self.function = function

    def ready(self) -> None:
        """Answers once the process has started."""

    def do(self, item: Any) -> tuple[Any, dict[str, Written]]:
        """What the function makes of the item, and which files it wrote meanwhile."""
        try:
            with recording() as record:
                value = self.function(item)
            return value, record
        except Exception:
            traceback.print_exc()
            self.kept.close()  # the driver ends the work, and this process with it
            raise

    def end(self) -> None:
        """Lets go of the function, which closes what it opened: a killed process would leave its temporary files."""
        del self.function
        self.kept.close()


class _Pool:
    """Actors, of which each starts, does an item or is idle.

    Ray could restart actors itself, but would wait for ever for room for the one whose node is gone, and its item with
    it; here whichever actor is idle takes the item.
    """

    def __init__(self, group: TaskGroup, start_timeout: float, function: Callable[[Any], Any]):
        self.ray = imported()
        self.group, self.start_timeout = group, start_timeout
        self.function = self.ray.put(function)
        self.running: dict[Any, tuple[Any, int | None]] = {}  # by what will come: the actor and its item, None to start
        self.idle: deque[Any] = deque()
        self.failures: Counter[int | None] = Counter()
        self.started = 0

    def start(self) -> None:
        group = self.group
        options = {
            "num_cpus": group.cpus,
            "num_gpus": group.gpus,
            "memory": group.memory,
            "resources": group.resources,
            "label_selector": group.labels,
        }
        told = (self.function, storage.configured(), logs.place(), self.started)
        actor = self.ray.remote(_Worker).options(**options).remote(*told)
        self.started += 1
        self.running[actor.ready.remote()] = (actor, None)

    def results(self, items: list[Any]) -> Iterator[Any]:
        waiting = deque(range(len(items)))
        finished: dict[int, Any] = {}
        given = 0
        while given < len(items):
            while self.idle and waiting and waiting[0] < given + AHEAD * max(1, self.group.workers):
                actor, number = self.idle.popleft(), waiting.popleft()
                self.running[actor.do.remote(items[number])] = (actor, number)
            if given in finished:
                yield finished.pop(given)
                given += 1
                continue
            again = self._next(finished)
            if again is not None:
                waiting.appendleft(again)

    def _next(self, finished: dict[int, Any]) -> int | None:
        """Wait for one thing to end; the number of an item that has to be done again."""
        working = any(number is not None for _, number in self.running.values())
        until = math.inf if working else time.monotonic() + self.start_timeout
        ready: list[Any] = []
        while not ready and time.monotonic() < until:
            check()
            ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=min(POLL_SECONDS, self.start_timeout))
        if not ready:
            raise InfrastructureError(
                f"no worker started within {self.start_timeout:g} s; each asks for {self._asked()}, "
                f"free in the cluster is {_words(self.ray.available_resources())}"
            )
        actor, number = self.running.pop(ready[0])
        try:
            value = self.ray.get(ready[0])
        except self.ray.exceptions.RayTaskError as error:
            raise _own(error) from error
        except self.ray.exceptions.RayError as error:
            self._lost(actor, number, error)
            return number
        self.idle.append(actor)
        if number is not None:
            finished[number], record = value
            note(record)
        return None

    def _lost(self, actor: Any, number: int | None, error: Exception) -> None:
        self.ray.kill(actor)
        self.failures[number] += 1
        if self.failures[number] == TRIES:
            what = "while they started" if number is None else f"doing part {number}"
            reason = str(error).strip().splitlines()[-1].strip()
            raise InfrastructureError(f"workers died {TRIES} times {what}: {reason}") from error
        self.start()

    def _asked(self) -> str:
        group = self.group
        asked = {"CPU": group.cpus, "GPU": group.gpus, "memory": group.memory or 0, **group.resources}
        labels = "".join(f", label {name}={value}" for name, value in group.labels.items())
        return _words(asked) + labels

    def close(self) -> None:
        """End the actors: those at work at once, idle ones when they have let go of what they opened."""
        for actor, _ in self.running.values():
            self.ray.kill(actor)
        if self.idle:
            ending = [actor.end.remote() for actor in self.idle]
            self.ray.wait(ending, num_returns=len(ending), timeout=shortened(ENDING))
        for actor in self.idle:
            self.ray.kill(actor)


def _own(error: Any) -> Exception:
    """The error that was raised in the worker."""
    cause = error.cause
    if isinstance(cause, SortaseError):
        return cause
    return WorkFailedError(f"a worker failed: {type(cause).__name__}: {cause}")


def _words(resources: dict[str, float]) -> str:
    parts = [f"{name} {amount:g}" for name, amount in sorted(resources.items()) if amount and "node:" not in name]
    return ", ".join(parts) or "nothing"
