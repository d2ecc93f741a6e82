"""What a driver and the training workers tell each other while they work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .connect import imported

POLL_SECONDS = 1.0


class _Board:
    """State of an actor that needs no CPU."""

    def __init__(self) -> None:
        self.stop: str | None = None
        self.lines: list[str] = []
        self.reports: list[tuple[int, dict[str, float]]] = []

    def ask_to_stop(self, reason: str) -> None:
        self.stop = self.stop or reason

    def should_stop(self) -> str | None:
        """Why, or None."""
        return self.stop

    def say(self, line: str) -> None:
        self.lines.append(line)

    def report(self, step: int, metrics: dict[str, float]) -> None:
        self.reports.append((step, metrics))

    def news(self) -> tuple[list[str], list[tuple[int, dict[str, float]]]]:
        """Lines and reports since the last call."""
        lines, reports = self.lines, self.reports
        self.lines, self.reports = [], []
        return lines, reports


def open_board() -> Any:
    """A board that lives as long as its handle."""
    return imported().remote(num_cpus=0)(_Board).remote()


class StopWatch:
    """Asks the board in the background whether the driver wants to stop, and all ranks together whether a node is to
    be taken away. Every rank calls it at every step."""

    def __init__(self, board: Any, ranks: Any, drained: Callable[[], bool], clock: Callable[[], float]):
        self.board, self.ranks, self.drained, self.clock = board, ranks, drained, clock
        self.reason: str | None = None
        self._asked: str | None = None
        self._next = clock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        ray = imported()
        while not self._over.wait(POLL_SECONDS):
            try:
                self._asked = self._asked or ray.get(self.board.should_stop.remote())
            except ray.exceptions.RayError:  # the driver is gone, and with it this process in a moment
                return

    def __call__(self) -> bool:
        if self.ranks.any(self.clock() >= self._next):
            self._next = self.clock() + POLL_SECONDS
            if self.drained():
                self.reason = "preempted"
        self.reason = self.reason or self._asked
        return self.reason is not None

    def close(self) -> None:
        self._over.set()
