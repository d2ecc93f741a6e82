"""What is done to a driver at a random moment; each fault returns how the drivers ended."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from drivers import ended, ends_within

Codes = list[int | str]


class Round(Protocol):
    """What a fault may use of a round."""

    dice: random.Random
    lasts: float  # seconds of an undisturbed driver
    place: Path
    nodes: Any  # those that the driver's Ray is made of, where it is not its own
    full: Path | None  # a file system of its own with the run's output, where one can be mounted

    def start(self, before: Callable[[], None] = lambda: None) -> int: ...

    def server(self, method: str, *arguments: Any, **options: Any) -> None: ...


def moment(round: Round) -> float:
    return round.dice.uniform(0, 1.05) * round.lasts


def signalled(number: signal.Signals) -> Callable[[Round], Codes]:
    """Up to three drivers in a row, each of which meets the signal."""

    def fault(round: Round) -> Codes:
        codes: Codes = []
        for _ in range(round.dice.choice((1, 1, 1, 2, 3))):
            process = round.start()
            if not ends_within(process, moment(round)):
                os.kill(process, number)
            codes.append(ended(process))
        return codes

    return fault


def held(round: Round) -> Codes:
    """A driver is stopped, another one ends, the first goes on."""
    first = round.start()
    if ends_within(first, moment(round)):
        return [ended(first)]
    os.kill(first, signal.SIGSTOP)
    try:
        second = ended(round.start())
    finally:
        os.kill(first, signal.SIGCONT)
    return [ended(first), second]


def two(round: Round) -> Codes:
    """Two drivers at once, the second one a random while later."""
    first = round.start()
    ends_within(first, round.dice.choice((0.0, moment(round))))
    second = round.start()
    return [ended(first), ended(second)]


def small_files(round: Round) -> Codes:
    """No file can grow beyond a size: writing fails in the middle of it."""
    size = int(10 ** round.dice.uniform(2, 5))
    return [ended(round.start(lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))))]


def full_disk(round: Round) -> Codes:
    """The file system of the run's folder is full at some point; there is room again when the driver has ended."""
    assert round.full is not None
    resized(round.full.parent, int(10 ** round.dice.uniform(4.2, 5.7)))
    try:
        return [ended(round.start())]
    finally:
        resized(round.full.parent, 2**28)


def resized(mounted: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(mounted)], check=True)


def from_storage(kind: str, *arguments: Any) -> Callable[[Round], Codes]:
    """The storage has a fault from a random moment on, for a while or for longer than the driver lives."""

    def fault(round: Round) -> Codes:
        process = round.start()
        try:
            if not ends_within(process, moment(round)):
                round.server(kind, *arguments)
                ends_within(process, round.dice.choice((0.2, 2.0, 10.0, 60.0)) * round.dice.random())
        finally:
            round.server("heal")
        return [ended(process)]

    return fault


def removed(round: Round) -> Codes:
    """A node goes, with or without notice, and another one joins."""
    process = round.start()
    if not ends_within(process, moment(round)):
        round.nodes.lose(round.dice.randrange(2), round.dice.choice((signal.SIGKILL, signal.SIGTERM)))
    return [ended(process)]


ANYWHERE: dict[str, Callable[[Round], Codes]] = {
    "kill -9": signalled(signal.SIGKILL),
    "SIGTERM": signalled(signal.SIGTERM),
    "SIGSTOP, SIGCONT": held,
    "two drivers": two,
    "files too large": small_files,
}
FOLDER = {"full disk": full_disk}
NODES = {"node removed": removed}
S3 = {
    "S3 slow": from_storage("delay", 0.3),
    "S3 503": from_storage("fail", "503 SlowDown"),
    "S3 500": from_storage("fail", "500 InternalError"),
    "S3 403": from_storage("fail", "403 AccessDenied"),
    "S3 resets": from_storage("fail", "reset"),
    "S3 cuts": from_storage("fail", "cut"),
    "S3 never answers": from_storage("fail", "silence"),
}
