"""One trial of a sweep: the one training kernel in a thread, which waits after every evaluation for Ray Tune's word.

A trial has no checkpoint of Ray's. Its folder in storage holds what it needs to continue, wherever it starts again.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ray.tune import Trainable

from .. import storage
from ..config.storage import StorageSpec
from ..deadlines import limit
from ..errors import CancelledError, ConfigError
from ..runs import logs
from ..runs.events import Events
from ..runs.folder import RunFolder
from ..runs.made import made
from ..storage.written import recording
from ..train.leaderboard import Trial as Row
from ..train.leaderboard import name_of, trial_folder
from ..train.request import TrainRequest
from ..train.trials import trial_seed, trial_settings
from .channel import POLL_SECONDS, Board, SilentBoardError
from .trial_resources import Slots

EVALUATIONS = "evaluations"  # what asha counts by
PROGRESS = "progress.json"


@dataclass(frozen=True)
class Sweep:
    """What all trials need to know. ``settled`` are those that an earlier attempt has finished."""

    request: TrainRequest
    folder: RunFolder
    slots: Slots
    metric: str
    lower: bool
    settled: Mapping[int, Row]
    board: Board
    storage: StorageSpec = field(default_factory=storage.configured)
    keeps: logs.LogDestination | None = field(default_factory=logs.place)


def trial_request(
    request: TrainRequest, number: int, parameters: Mapping[str, Any], slots: Slots, metric: str
) -> TrainRequest:
    """The training with these hyperparameters."""
    workers = request.compute.max_workers
    settings, model = trial_settings(request.settings, request.model, parameters, metric, workers)
    return replace(
        request,
        settings=settings,
        model=model,
        compute=slots.compute,
        seed=trial_seed(parameters, request.seed),
        name=f"{request.name}/{name_of(number)}",
    )


class Trial(Trainable):
    """Ray keeps the process for the next trial, so that imports are paid for once."""

    def setup(self, config: dict[str, Any], *, sweep: Sweep) -> None:
        storage.configure(sweep.storage)
        self.sweep = sweep
        self.fresh = True
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.attempt.end()
        self.fresh = False
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        number = int(self.trial_name.rpartition("-")[2])
        row = self.sweep.settled.get(number)
        self.attempt = Replay(self.sweep, row) if row else Attempt(self.sweep, number, dict(config), self.fresh)

    def step(self) -> dict[str, Any]:
        return self.attempt.next()

    def cleanup(self) -> None:
        self.attempt.end()


class Replay:
    """A trial that was finished before: its result once more, so that Ray and the search know of it."""

    def __init__(self, sweep: Sweep, row: Row):
        self.result = {sweep.metric: row.metric, EVALUATIONS: row.evaluations, "step": row.step, "status": row.status}

    def next(self) -> dict[str, Any]:
        return {**self.result, "done": True}

    def end(self) -> None: ...


class _Pruned(CancelledError):  # noqa: N818
    """Not an error: asha has ended the trial."""


class Attempt:
    """A training in a thread of its own, which is held after each evaluation until ``next`` is called again."""

    def __init__(self, sweep: Sweep, number: int, parameters: dict[str, Any], fresh: bool):
        self.sweep = sweep
        self.number = number
        self.folder = trial_folder(sweep.folder, number)
        self.parameters = parameters
        self.started = time.monotonic()
        self.told: dict[str, Any] = {"fresh": fresh}
        self.progress: dict[str, Any] = {"evaluations": [], "seconds": 0.0}
        self._before = self._started = 0.0
        self._results: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._go = threading.Semaphore(0)
        self._over = False
        self._stop_asked = False
        self._next_look = 0.0
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trial")
        self._running = self._pool.submit(self._train)
        self._running.add_done_callback(lambda future: self._results.put(None))

    def next(self) -> dict[str, Any]:
        """The next evaluation, or the end of the training; its error is raised."""
        self._go.release()
        result = self._results.get()
        return self._running.result() if result is None else result

    def end(self) -> None:
        """Make sure that nothing is at work any more."""
        self._over = True
        self._go.release()
        self._pool.shutdown(wait=True)

    def _train(self) -> dict[str, Any]:
        self._go.acquire()
        if self._over:
            return self._result("unfinished", None)
        try:
            with self._logs(), recording() as record:
                summary = self._summary()
        except _Pruned:
            return self._result("pruned", None)
        except CancelledError:
            if not self._should_stop():  # a later attempt at the sweep has taken this trial over
                raise
            return self._result("unfinished", None)
        if not self.progress["evaluations"]:
            raise ConfigError(
                "the training was never evaluated on the validation side, so that trials cannot be compared: it "
                "needs split.validation_size above 0 and train.eval_strategy other than 'no', often enough"
            )
        self.folder.describe(training=summary, files=made(self.folder.url, record))
        return self._result("done", summary["best_step"] or summary["steps"])

    @contextmanager
    def _logs(self) -> Iterator[None]:
        """The trial's log, and where workers of its own keep theirs."""
        role = "rank-0" if self.sweep.slots.alone else "driver"
        own = None if self.sweep.keeps is None else replace(self.sweep.keeps, doing=f"tune-{name_of(self.number)}")
        with logs.placed_at(own), logs.kept_logs(own, role):
            yield

    def _summary(self) -> dict[str, Any]:
        self.folder.begin()
        self.progress = self.folder.read(PROGRESS) or self.progress
        self._before = self.progress["seconds"]  # of earlier starts of this trial
        asked = trial_request(self.sweep.request, self.number, self.parameters, self.sweep.slots, self.sweep.metric)
        events = Events(self.folder)
        if self.sweep.slots.alone:
            from ..train import kernel  # noqa: F401 - the time that it takes to load belongs to the start
            from ..train.job import train as train_here

            self._begin()
            fitted, _ = train_here(asked.job(), self.folder, events, _silent, self._should_stop, report=self._report)
            return fitted.summary
        from .train import train

        self._begin()
        summary = train(asked, self.folder, events, _silent, self._should_stop, report=self._report)
        self.told["workers_seconds"] = round(summary["wall_seconds"] - summary["seconds"], 3)
        return summary

    def _begin(self) -> None:
        self.told["began"], self._started = time.time(), time.monotonic()

    def _report(self, step: int, metrics: dict[str, float]) -> None:
        """Write the evaluation down, hand it over, and wait."""
        if self.sweep.metric not in metrics:
            raise ConfigError(f"trials cannot be compared by {self.sweep.metric}; there are {sorted(metrics)}")
        earlier = [pair for pair in self.progress["evaluations"] if pair[0] < step]
        seconds = round(self._before + time.monotonic() - self._started, 3)
        self.progress = {"evaluations": [*earlier, [step, metrics[self.sweep.metric]]], "seconds": seconds}
        self.folder.fence()
        storage.write_json(self.folder.path(PROGRESS), self.progress)
        self._results.put(self._result("running", step))
        if not self._over:
            self._go.acquire()
        if self._over and self.sweep.slots.alone:
            raise _Pruned

    def _should_stop(self) -> bool:
        """Whether the driver wants to stop (looked up once a second), or this trial is over."""
        if not self._stop_asked and time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + POLL_SECONDS
            try:
                self._stop_asked = self.sweep.board.should_stop() is not None
            except SilentBoardError:  # each question holds the training up
                self._next_look = time.monotonic() + limit("ray-answer")
        return self._over or self._stop_asked

    def _result(self, status: str, step: int | None) -> dict[str, Any]:
        """``step``: whose metric counts; None takes the best one."""
        pairs = self.progress["evaluations"]
        sign = 1 if self.sweep.lower else -1
        chosen = next((pair for pair in pairs if pair[0] == step), None)
        best = chosen or min(pairs, key=lambda pair: sign * pair[1], default=[None, float("nan")])
        return {
            self.sweep.metric: best[1],
            EVALUATIONS: len(pairs),
            "step": best[0],
            "status": status,
            "seconds": self.progress["seconds"],
            "done": status != "running",
            **self.told,
        }


def _silent(line: str) -> None:
    """Trials say nothing by themselves; their timelines lie in their folders."""
