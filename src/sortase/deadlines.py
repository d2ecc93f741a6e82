"""How long anything outside this process may take: each limit by its name, and the one way to keep it."""

from __future__ import annotations

import contextvars
import math
import os
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from typing import ClassVar, TypeVar

from .errors import ConfigError

T = TypeVar("T")
VARIABLE = "SORTASE_LIMITS"
LIMITS = {
    "storage-connect": 5.0,
    "storage-answer": 20.0,
    "storage-call": 300.0,
    "cache-lock": 600.0,
    "ray-port": 10.0,
    "ray-connect": 120.0,
    "ray-answer": 30.0,
    "nodes-answer": 60.0,
    "jobs-call": 60.0,
    "kubernetes-answer": 15.0,
    "kubernetes-call": 60.0,
    "hub-look": 60.0,
    "hub-download": 3600.0,
    "tracker-end": 60.0,
}
KILLED_AFTER = ("RAY_JOB_STOP_WAIT_TIME_S", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S")  # of a driver, of a node
RESERVE = 15.0  # seconds before this process is killed, or a third, at which what has not ended is given up
LAST = 0.5  # seconds for each call after that


class UnansweredError(TimeoutError):
    """No answer in the time that it was given. Each door says it in its own words."""


def limit(name: str) -> float:
    """Seconds; ``SORTASE_LIMITS="storage-answer=60 ray-port=10"`` sets others.

    Raises ConfigError for a name that is not there or a time that is not above 0.
    """
    return _told(os.environ.get(VARIABLE, "")).get(name, LIMITS[name])


@lru_cache(maxsize=1)
def _told(text: str) -> dict[str, float]:
    found = {}
    for part in text.split():
        name, _, value = part.partition("=")
        if name not in LIMITS:
            raise ConfigError(f"{VARIABLE} has no limit {name!r}; it has {', '.join(LIMITS)}")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] < math.inf:
            raise ConfigError(f"{VARIABLE}: {part!r} is not a number of seconds above 0, such as {name}=30")
    return found


class _End:
    """When calls end, once this process has been asked to end and is to be killed after a while."""

    at: ClassVar[float] = math.inf


def leave() -> None:
    """This process was asked to end. Where it is known how long that may take, no call outlasts it, and a service that
    fails is given up soon."""
    told = (os.environ.get(name, "") for name in KILLED_AFTER)
    seconds = next((float(value) for value in told if value.isdigit()), math.inf)
    _End.at = min(_End.at, time.monotonic() + seconds - min(RESERVE, seconds / 3))


def stay() -> None:
    """It goes on: who asked has got what they wanted."""
    _End.at = math.inf


def is_leaving() -> bool:
    """Whether this process will be killed at a known time."""
    return _End.at < math.inf


def is_over() -> bool:
    """Whether it is time to give up what has not ended: the rest until this process is killed is for saying so."""
    return time.monotonic() >= _End.at


def shortened(seconds: float) -> float:
    """So long, or until then."""
    return min(seconds, max(_End.at - time.monotonic(), LAST))


def within(seconds: float, work: Callable[[], T]) -> T:
    """What ``work`` returns or raises; UnansweredError once it has taken so long, or this process has to end.

    It works in a thread of its own, which is left behind then: nothing from outside can end it.
    """
    began = time.monotonic()

    def look() -> float:
        left = _left(began, seconds)
        if left <= 0:
            raise UnansweredError(f"no answer in {time.monotonic() - began:.0f} s")
        return left

    return beside(work, look)


def beside(work: Callable[[], T], look: Callable[[], float]) -> T:
    """What ``work`` returns or raises. Meanwhile ``look`` is called, which returns the seconds until it is called
    again; what it raises leaves the work behind in its thread."""
    outcome: list[tuple[T | None, BaseException | None]] = []
    over = threading.Event()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.append((context.run(work), None))
        except BaseException as error:  # noqa: BLE001 - it is raised again, where it is waited for
            outcome.append((None, error))
        over.set()

    threading.Thread(target=run, name="beside", daemon=True).start()
    while not over.wait(look()):
        pass
    value, error = outcome[0]
    if error is not None:
        raise error
    return value  # type: ignore[return-value]


def _left(began: float, seconds: float) -> float:
    """Until the next look: a request to end may shorten the time at any moment."""
    now = time.monotonic()
    last = max(_End.at, began + LAST)
    return min(began + seconds - now, last - now, 0.5)
