"""A training on the workers of a Ray cluster, started again when some of them are lost.

Ray Train places the workers and joins them; checkpoints, resuming and the budgets of failures are ours. A preempted
worker costs nothing of the budget, a crash does, and an error of ours that would only repeat itself ends the training.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from .. import storage
from ..config.compute import ComputeSpec
from ..errors import CancelledError, InfrastructureError, SortaseError, WorkFailedError
from ..redact import redacted
from ..runs.events import Events
from ..runs.folder import RunFolder
from ..storage.scratch import Scratch
from ..storage.written import note
from ..train.callbacks import Report
from ..train.request import TrainRequest
from ..types import Log
from .channel import POLL_SECONDS, Board, Metrics, SilentBoardError, check_time, open_board
from .connect import connected
from .elastic import Size
from .resources import gpus_per_worker
from .worker import Work, work

RANGE_SECONDS = 60.0  # after which a range of workers looks again how many there is room for
SILENCES = 2  # of the board, after which a wish to stop cannot be passed on
REPEATED = 3  # exit code of errors that may pass: storage, cluster


def train(
    request: TrainRequest,
    folder: RunFolder,
    events: Events,
    log: Log,
    should_stop: Callable[[], bool],
    *,
    report: Report | None = None,
) -> dict[str, Any]:
    """Train on ``request.compute.workers`` workers; returns the summary for run.json.

    Raises:
        CancelledError: ``should_stop`` said so, or a later attempt owns the run; a checkpoint is stored.
        InfrastructureError: workers did not start in time, or were lost more often than ``compute.max_failures``.
        WorkFailedError, InputError, ...: what a worker met.
    """
    compute = request.compute
    events.flush()
    with connected(compute):
        size = Size(compute)
        size.ask_autoscaler(compute.max_workers)
        try:
            return _until_finished(Work(request, folder, None), size, events, log, should_stop, report)
        finally:
            size.ask_autoscaler(0)


def _until_finished(
    todo: Work, size: Size, events: Events, log: Log, should_stop: Callable[[], bool], report: Report | None
) -> dict[str, Any]:
    compute = size.compute
    told: dict[str, Any] = {"starts": 0, "crashes": 0, "preemptions": 0}

    def tell(event: str, words: str) -> None:
        events.another_writes()
        events.write("train", event, words=words)
        events.flush()

    while True:
        workers = size.wait(should_stop)
        if should_stop():
            raise CancelledError("stopped before the workers started; the same command continues")
        told["starts"] += 1
        started = time.monotonic()
        try:
            outcome = _start(todo, open_board(), workers, size, log, should_stop, report)
        except _NoRoom as error:
            if not size.is_range:
                raise InfrastructureError(str(error)) from error
            tell("waiting", str(error))
            continue
        except _Crash as crash:
            told["preemptions" if crash.preempted else "crashes"] += 1
            tell("lost", str(crash))
            if told["crashes"] > compute.max_failures:
                raise _final(crash, compute) from crash
            log(f"train: {crash}; starting again from the newest checkpoint")
            continue
        events.another_writes()
        if "summary" in outcome:
            note(outcome["files"])
            return {**outcome["summary"], **told, "wall_seconds": round(time.monotonic() - started, 3)}
        if outcome["stopped"] == "asked":
            raise CancelledError(outcome["words"])
        tell(outcome["stopped"], outcome["words"])
        if outcome["stopped"] == "preempted":
            told["preemptions"] += 1
            size.leaving.update(outcome["nodes"])
            log("train: a node is being taken away; the checkpoint is stored, continuing on what is left")
        else:
            log("train: there is room for more workers; the checkpoint is stored, continuing with them")


class _NoRoom(Exception):  # noqa: N818 - not an error where the number of workers may change
    """The workers did not start in time."""


class _Crash(Exception):  # noqa: N818 - not an error by itself: most are survived
    def __init__(self, words: str, preempted: bool, cause: SortaseError | None):
        super().__init__(words)
        self.preempted, self.cause = preempted, cause


def _final(crash: _Crash, compute: ComputeSpec) -> SortaseError:
    if crash.cause is not None:
        return crash.cause
    return WorkFailedError(f"{crash}; compute.max_failures {compute.max_failures} is used up")


def _start(
    todo: Work,
    board: Board,
    workers: int,
    size: Size,
    log: Log,
    should_stop: Callable[[], bool],
    report: Report | None,
) -> dict[str, Any]:
    """One group of workers, from its start to its end."""
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="train-driver")
    fitting = pool.submit(_fit, replace(todo, board=board), workers, size)
    heard = _Heard(board, log, report)
    try:
        while not fitting.done():
            wish = "asked" if should_stop() else "resize" if size.could_grow(workers) else None
            heard.news(wish)
            check_time()
            time.sleep(POLL_SECONDS / 2)
        heard.news(None)
        outcome = fitting.result()
        heard.reports(dict(enumerate(outcome["reports"])))
        return outcome
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Heard:
    """What the workers have told by the board. One that is lost holds nothing up: lines are lost with it."""

    def __init__(self, board: Board, log: Log, report: Report | None):
        self.board, self.log, self.report = board, log, report
        self.told: set[int] = set()
        self.silent = 0

    def news(self, wish: str | None) -> None:
        """Ask for a stop, where one is wished for, and pass on what is new.

        Raises CancelledError where a stop was asked for and the board stays silent.
        """
        try:
            if wish is not None:
                self.board.ask_to_stop(wish)
            lines, reports = self.board.news()
        except SilentBoardError as error:
            self.silent += 1
            if self.silent == 1:
                self.log(f"train: the workers go on, but are not heard at the moment ({error})")
            if wish == "asked" and self.silent >= SILENCES:
                raise CancelledError(
                    "stopped; the workers could not be asked for a checkpoint, the newest one is from before"
                ) from error
            return
        self.silent = 0
        for line in lines:
            self.log(line)
        self.reports(reports)

    def reports(self, found: Mapping[int, tuple[int, Metrics]]) -> None:
        """Those that were not passed on before, in order."""
        for number, (step, metrics) in sorted(found.items()):
            if number not in self.told:
                self.told.add(number)
                if self.report is not None:
                    self.report(step, metrics)


def _fit(todo: Work, workers: int, size: Size) -> dict[str, Any]:
    """Ray Train's part. It runs beside the driver's own loop, so that Ray does not take over its signals."""
    compute = size.compute
    from ray.exceptions import RayActorError
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    seconds = min(RANGE_SECONDS, compute.start_timeout) if size.is_range else compute.start_timeout
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(seconds)
    os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
    gpus = gpus_per_worker(compute)
    resources = {"CPU": compute.cpus_per_worker, **compute.resources_per_worker}
    if gpus:
        resources["GPU"] = gpus
    with Scratch("ray") as scratch:
        trainer = TorchTrainer(
            work,
            train_loop_config={"work": todo},
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=gpus > 0,
                resources_per_worker=resources,
                label_selector=compute.labels or None,
            ),
            torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
            run_config=RunConfig(
                name="train", storage_path=str(scratch), failure_config=FailureConfig(controller_failure_limit=0)
            ),
        )
        try:
            result = trainer.fit()
        except TrainingFailedError as error:
            record = todo.folder.path("logs", f"lost-{datetime.now(UTC):%Y%m%dT%H%M%S}.txt")
            storage.write_bytes(record, redacted(str(error)).encode())
            raise _understood(error) from error
        except RayActorError as error:  # the process that keeps Ray's books of this training
            raise _Crash(f"the training's controller was lost: {_first_line(error)}", False, None) from error
    return dict(result.return_value)


def _understood(error: Any) -> Exception:
    """The error of ours that ends the training, or a crash that may be survived."""
    from ray.exceptions import RayActorError
    from ray.train import ControllerError, PreemptionError

    if isinstance(error, PreemptionError):
        return _Crash("a node was taken away", True, None)
    if isinstance(error, ControllerError) and "Timeout" not in type(error.controller_failure).__name__:
        return _Crash(f"workers did not start: {_first_line(error.controller_failure)}", False, None)
    if isinstance(error, ControllerError):
        return _NoRoom(f"training workers did not start in time (compute.start_timeout): {_first_line(error)}")
    failures = error.worker_failures
    own = [cause for failure in failures.values() for cause in _causes(failure) if isinstance(cause, SortaseError)]
    for cause in own:
        if cause.exit_code != REPEATED:
            return cause
    if own:
        return _Crash(str(own[0]), False, own[0])
    lost = {rank: failure for rank, failure in failures.items() if isinstance(failure, RayActorError)}
    preempted = any(failure.preempted for failure in lost.values())
    rank, failure = next(iter((lost or failures).items()))
    return _Crash(f"training worker {rank} was lost: {_first_line(failure)}", preempted, None)


def _causes(error: BaseException | None) -> list[BaseException]:
    """The error, what it wraps, and what these came from."""
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        inner = (getattr(error, name, None) for name in ("_base_exc", "health_check_failure", "cause", "__cause__"))
        error = next((cause for cause in inner if isinstance(cause, BaseException)), None)
    return found


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return str(redacted(f"{type(error).__name__}: {lines[-1] if lines else ''}"[:500]))
