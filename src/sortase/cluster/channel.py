"""What a driver and the training workers tell each other while they work."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..deadlines import is_over, leave, limit, shortened
from ..errors import CancelledError
from .connect import imported

POLL_SECONDS = 1.0
Metrics = dict[str, float]


class SilentBoardError(Exception):
    """The board does not answer: its process was lost and is not there again yet, or the machine is too busy."""


def check_time() -> None:
    """Where processes elsewhere are waited for: CancelledError once this one has to end, and they are still at work."""
    if is_over():
        raise CancelledError(
            "stopped; the workers have not ended in the time until this process is killed, as when storage does not "
            "answer them: the newest checkpoint may be from before"
        )


class _Board:
    """State of an actor that needs no CPU. One that Ray has started again knows nothing: what is asked for is asked for
    again, and a training's result holds all reports."""

    def __init__(self) -> None:
        self.stop: str | None = None
        self.lines: list[str] = []
        self.reports: dict[int, tuple[int, Metrics]] = {}

    def ask_to_stop(self, reason: str) -> None:
        self.stop = self.stop or reason

    def should_stop(self) -> str | None:
        """Why, or None."""
        return self.stop

    def log(self, line: str) -> None:
        self.lines.append(line)

    def report(self, number: int, step: int, metrics: Metrics) -> None:
        self.reports[number] = (step, metrics)

    def news(self) -> tuple[list[str], dict[int, tuple[int, Metrics]]]:
        """Lines and numbered reports since the last call."""
        lines, reports = self.lines, self.reports
        self.lines, self.reports = [], {}
        return lines, reports


class Board:
    """The handle of one, for the driver and the workers; Ray's actor lives as long as the driver has it."""

    def __init__(self, actor: Any):
        self.actor = actor

    def ask_to_stop(self, reason: str) -> None:
        self._answer(self.actor.ask_to_stop.remote(reason))

    def should_stop(self) -> str | None:
        reason = self._answer(self.actor.should_stop.remote())
        return None if reason is None else str(reason)

    def log(self, line: str) -> None:
        self.actor.log.remote(line)

    def report(self, number: int, step: int, metrics: Metrics) -> None:
        self.actor.report.remote(number, step, metrics)

    def news(self) -> tuple[list[str], dict[int, tuple[int, Metrics]]]:
        lines, reports = self._answer(self.actor.news.remote())
        return lines, reports

    def _answer(self, asked: Any) -> Any:
        """SilentBoardError after the limit ``ray-answer``."""
        ray = imported()
        try:
            return ray.get(asked, timeout=shortened(limit("ray-answer")))
        except ray.exceptions.RayError as error:
            raise SilentBoardError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error


def open_board() -> Board:
    """A board on this process's own node, which lives as long as this process does; Ray starts it again if it is
    lost."""
    ray = imported()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
    kind = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board)
    return Board(kind.options(scheduling_strategy=here).remote())


class StopWatch:
    """Asks the board in the background whether the driver wants to stop, and all ranks together whether a node is to
    be taken away. Every rank calls it at every step."""

    def __init__(self, board: Board, ranks: Any, drained: Callable[[], bool], clock: Callable[[], float]):
        self.board, self.ranks, self.drained, self.clock = board, ranks, drained, clock
        self.reason: str | None = None
        self._asked: str | None = None
        self._next = clock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stop-watch", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            with suppress(SilentBoardError):  # it is asked again; where the driver is gone, so is this process soon
                self._asked = self._asked or self.board.should_stop()

    def __call__(self) -> bool:
        if self.ranks.any(self.clock() >= self._next):
            self._next = self.clock() + POLL_SECONDS
            if self.drained():
                self.reason = "preempted"
                leave()
        self.reason = self.reason or self._asked
        return self.reason is not None

    def close(self) -> None:
        self._over.set()
