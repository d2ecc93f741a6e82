"""A sweep: trials on Ray Tune, of which storage remembers all that a later attempt needs to continue.

Ray Tune places trials, keeps their processes, and ends those that fall behind. Which trials there are, what they are
given, and what became of them is ours: it lies below ``tune/`` in the run folder.
"""

from __future__ import annotations

import logging
import os
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from statistics import median
from typing import Any

from ..config.tune import TuneSpec
from ..errors import CancelledError, ConfigError, SortaseError, WorkFailedError
from ..pipeline.executor import TuneResult
from ..redact import redacted
from ..runs.events import Events, read_events
from ..runs.folder import RunFolder
from ..storage.scratch import Scratch
from ..train.leaderboard import Leaderboard, Status, Trial, name_of, take_model, trial_folder
from ..train.request import TrainRequest
from ..types import Log
from .channel import Board, SilentBoardError, check_time, open_board
from .connect import connected, imported
from .ray_space import read_space
from .search import Proposals, proposals
from .trial_resources import Slots, find_slots

PASSING = 3  # exit code of errors that may not come again: storage, cluster
POLL_SECONDS = 0.5


def tune(
    spec: TuneSpec,
    request: TrainRequest,
    folder: RunFolder,
    events: Events,
    log: Log,
    should_stop: Callable[[], bool],
) -> TuneResult:
    """Search, and save the best trial's model below ``folder.model``; it is durable when this returns.

    Called again for the same folder it continues: finished trials are not trained again, others go on from their
    checkpoints.

    Raises:
        ConfigError: a hyperparameter is unknown, or trials are never evaluated.
        InfrastructureError: not even one trial finds room.
        WorkFailedError: all trials failed.
        CancelledError: ``should_stop`` said so, or a later attempt owns the run; checkpoints are stored.
    """
    metric, mode = spec.compared_by(request.settings.metric)
    if request.settings.arguments["eval_strategy"] == "no" and "eval_strategy" not in spec.space:
        raise ConfigError("tune needs evaluations to compare trials, but train.eval_strategy is 'no'")
    with connected(request.compute):
        read = read_space(spec.space)
        slots = find_slots(spec, request.compute, log)
        for note in request.settings.notes:
            log(f"tune: {note}")
        log(f"tune: {spec.trials} trials, {slots.trials} at a time")
        rows = Leaderboard(folder, lower=mode == "min")
        rows.load()
        rows.trials = {number: row for number, row in rows.trials.items() if number < spec.trials}
        search = proposals(spec.search, read, request.seed, mode, len(rows.trials))
        sweep = _Sweep(spec, request, rows, slots, search, (metric, mode), events, log)
        started = time.monotonic()
        analysis = sweep.run(should_stop)
        return sweep.result(analysis, time.monotonic() - started)


class _Sweep:
    """What Ray Tune's search asks and is told, one thread at a time."""

    def __init__(
        self,
        spec: TuneSpec,
        request: TrainRequest,
        rows: Leaderboard,
        slots: Slots,
        search: Proposals,
        compared: tuple[str, str],
        events: Events,
        log: Log,
    ):
        self.spec, self.request, self.rows, self.slots, self.search = spec, request, rows, slots, search
        self.metric, self.mode = compared
        self.events, self.log = events, log
        self.settled = {number: row for number, row in rows.trials.items() if row.settled}
        self.todo = deque(n for n in range(spec.trials) if n not in self.settled or self.settled[n].status != "failed")
        self.live: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.given: dict[int, float] = {}
        self.losses: Counter[int] = Counter()
        self.stopped = False
        self.error: SortaseError | None = None
        for number, row in sorted(self.settled.items()):
            self.search.learn(number, row.parameters, None if row.status == "failed" else row.metric)
        if self.settled:
            log(f"tune: {len(self.settled)} trials were finished before")

    def run(self, should_stop: Callable[[], bool]) -> Any:
        """Beside a loop of our own, so that Ray does not take over the driver's signals."""
        board = open_board()
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tune-driver")
        running = pool.submit(self._tune, board)
        try:
            while not running.done():
                self.stopped = self.stopped or should_stop() or self.error is not None
                if self.stopped:  # again and again: a board that was lost does not know
                    with suppress(SilentBoardError):
                        board.ask_to_stop("asked")
                check_time()
                time.sleep(POLL_SECONDS)
            return running.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _tune(self, board: Board) -> Any:
        from ray import tune

        from .trial import EVALUATIONS
        from .trial import Sweep as Known
        from .trial import Trial as Trainable
        from .tune_callbacks import Listener, Search

        known = Known(
            request=self.request,
            folder=self.rows.folder,
            slots=self.slots,
            metric=self.metric,
            lower=self.rows.lower,
            settled=self.settled,
            board=board,
        )
        scheduler = None
        if self.spec.scheduler == "asha":
            scheduler = tune.schedulers.ASHAScheduler(
                time_attr=EVALUATIONS,
                max_t=10**6,
                grace_period=self.spec.grace_period,
                reduction_factor=self.spec.reduction_factor,
                stop_last_trials=False,
            )
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(self.slots.trials)
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # the new one prints tables although verbose is 0
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # failed trials are told in our words
        scratch = Scratch("tune")
        analysis = tune.run(
            tune.with_parameters(Trainable, sweep=known),
            name="tune",
            metric=self.metric,
            mode=self.mode,
            num_samples=-1,
            search_alg=Search(self),
            scheduler=scheduler,
            callbacks=[Listener(self)],
            resources_per_trial=self.slots.resources(),
            storage_path=str(scratch.path),
            trial_name_creator=lambda trial: self.names[trial.trial_id],
            trial_dirname_creator=lambda trial: f"{self.names[trial.trial_id]}-{trial.trial_id}",
            reuse_actors=True,
            raise_on_failed_trial=False,
            verbose=0,
        )
        weakref.finalize(analysis, scratch.close)
        return analysis

    def next(self, trial_id: str) -> dict[str, Any] | None:
        """Hyperparameters of the next trial; None: not now. StopIteration: there is none any more."""
        if self.stopped or self.error is not None or not (self.todo or self.live):
            raise StopIteration
        if not self.todo or len(self.live) >= self.slots.trials:
            return None
        number = self.todo.popleft()
        row = self.rows.trials.get(number)
        if row is None or not row.settled:
            row = Trial(number=number, parameters=row.parameters if row else self.search.propose(number))
            self._put(row)
        self.live[trial_id] = number
        self.names[trial_id] = name_of(number)
        self.given[number] = time.time()
        return row.parameters

    def complete(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """A trial has ended, by itself or by asha."""
        number = self.live.pop(trial_id)
        if number in self.settled or result["status"] == "unfinished":
            return
        status: Status = "done" if result["status"] == "done" else "pruned"
        row = replace(self.rows.trials[number], status=status, **self._numbers(number, result))
        self._put(row)
        self.search.learn(number, row.parameters, row.metric)

    def fail(self, trial_id: str, error: Exception) -> None:
        """A trial whose process was lost, or whose storage did not answer, is tried again."""
        number = self.live.pop(trial_id)
        row = self.rows.trials[number]
        cause = _cause(error)
        passing = not isinstance(cause, SortaseError) or cause.exit_code == PASSING
        lost = isinstance(error, imported().exceptions.RayActorError)
        if lost or (isinstance(cause, SortaseError) and passing):
            self.losses[number] += 1
            if self.losses[number] <= self.request.compute.max_failures:
                self.log(f"tune: {row.name} was lost ({_words(cause)}); it goes on from its newest checkpoint")
                self.todo.appendleft(number)
                return
        self._put(replace(row, status="failed", error=_words(cause), final=not passing, finished=_now()))
        self.search.learn(number, row.parameters, None)

    def _numbers(self, number: int, result: Mapping[str, Any]) -> dict[str, Any]:
        began = result.get("began")
        start = began - self.given[number] + result.get("workers_seconds", 0.0) if began else None
        value = result[self.metric]
        return {
            "metric": float(value) if value == value else None,
            "step": result["step"],
            "evaluations": result["evaluations"],
            "seconds": result["seconds"],
            "start_seconds": None if start is None else round(start, 3),
            "fresh": result.get("fresh"),
            "finished": _now(),
        }

    def _put(self, row: Trial) -> None:
        """Write it down; an error stops the sweep, and is raised once Ray Tune has ended it."""
        try:
            self.rows.put(row)
        except SortaseError as error:
            self.error = error
            return
        if row.status != "unfinished":
            found = row.error or f"{self.metric} {row.metric}"
            self.log(f"tune: {row.name} {row.status}: {found}")
            self.events.write("tune", row.status, trial=row.name, metric=row.metric, words=row.error)

    def result(self, analysis: Any, seconds: float) -> TuneResult:
        """The best model in its place, and what run.json tells."""
        rows = self.rows
        self.events.flush()
        if self.error is not None:
            raise self.error
        unfinished = self.spec.trials - sum(row.status != "unfinished" for row in rows.trials.values())
        if unfinished:
            raise CancelledError(
                f"stopped on request with {unfinished} of {self.spec.trials} trials unfinished; "
                "their checkpoints are stored, the same command continues"
            )
        best = rows.best
        if best is None:
            first = next((row for _, row in sorted(rows.trials.items()) if row.error), None)
            words = f"the first error: {first.name}: {first.error}" if first else "none reached the end"
            raise WorkFailedError(f"no trial of {self.spec.trials} has a model ({_told(rows.counts())}); {words}")
        take_model(rows.folder, best)
        summary = {
            "trials": self.spec.trials,
            "best": best.name,
            "parameters": best.parameters,
            "metric": self.metric,
            "mode": self.mode,
            "value": best.metric,
            "counts": rows.counts(),
            "at_a_time": self.slots.trials,
            "workers": self.slots.compute.max_workers,
            "seconds": round(seconds, 3),
            "start_seconds": self._starts(),
            "table": [_told_row(row) for row in rows.ranked()],
        }
        folder = trial_folder(rows.folder, best.number)
        told = folder.description()
        self._take_timeline(folder)
        return TuneResult(analysis, summary, told.get("training") or {})

    def _starts(self) -> dict[str, float | None]:
        """Seconds from a trial's hyperparameters to its training, in a new process and in one that is kept."""
        kinds = {"new_process": True, "kept_process": False}
        found = {
            kind: [
                row.start_seconds
                for row in self.rows.trials.values()
                if row.fresh is fresh and row.start_seconds is not None
            ]
            for kind, fresh in kinds.items()
        }
        return {kind: round(median(values), 3) if values else None for kind, values in found.items()}

    def _take_timeline(self, folder: RunFolder) -> None:
        """The best trial's losses and metrics are the run's."""
        self.events.rewind("train", -1)
        self.events.extend(read_events(folder))
        self.events.flush()


def _told_row(row: Trial) -> dict[str, Any]:
    names = ("name", "status", "metric", "step", "seconds", "start_seconds", "finished", "parameters")
    return {name: getattr(row, name) for name in names}


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _cause(error: Any) -> Exception:
    """What the trial's process raised, without Ray's wrapping."""
    inner = getattr(error, "cause", None)
    return inner if isinstance(inner, Exception) else error


def _words(error: Exception) -> str:
    if isinstance(error, SortaseError):
        return str(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return str(redacted(f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]))
