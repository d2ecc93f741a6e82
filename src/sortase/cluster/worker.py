"""What every training worker does: join the others, open the data, and run the one kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from .. import progress, storage
from ..config.storage import StorageSpec
from ..errors import CancelledError, FencedError
from ..pipeline import logs
from ..pipeline.events import Events, NoEvents
from ..pipeline.ranks import JoinedRanks
from ..pipeline.request import TrainRequest
from ..pipeline.run_folder import RunFolder
from ..pipeline.train import train
from .board import StopWatch
from .gauges import Gauges


@dataclass(frozen=True)
class Work:
    """Small enough to be sent to every worker."""

    request: TrainRequest
    folder: RunFolder
    board: Any
    storage: StorageSpec = field(default_factory=storage.configured)
    keeps: logs.LogPlace | None = field(default_factory=logs.place)


def work(config: dict[str, Any]) -> dict[str, Any]:
    """Train; returns ``summary``, or why it ``stopped`` before the end: ``asked``, ``resize`` or ``preempted``, and
    then the ids of the ``nodes`` that are taken away."""
    todo: Work = config["work"]
    storage.configure(todo.storage)
    ranks = JoinedRanks()
    with logs.kept_logs(todo.keeps, f"rank-{ranks.rank}"):
        return _work(todo, ranks)


def _work(todo: Work, ranks: JoinedRanks) -> dict[str, Any]:
    import ray.train

    leaving: list[str] = []

    def drained() -> bool:
        info = ray.train.get_preemption_info()
        if info is not None:
            leaving[:] = info.preempted_node_ids
        return info is not None

    def say(line: str) -> None:
        if ranks.is_first:
            todo.board.say.remote(line)

    def report(step: int, metrics: dict[str, float]) -> None:
        if ranks.is_first:
            todo.board.report.remote(step, metrics)

    progress.tell(say)
    watch = StopWatch(todo.board, ranks, drained, time.monotonic)
    try:
        events = Events(todo.folder.path("events.jsonl")) if ranks.is_first else NoEvents()
        if ranks.is_first:
            events.listeners.append(Gauges(todo.request.name))
        fitted, _ = train(todo.request.job(), todo.folder, events, say, watch, report=report, ranks=ranks)
    except FencedError:
        raise
    except CancelledError as error:
        reasons = ranks.gather(watch.reason)
        reason = next(reason for reason in ("asked", "preempted", "resize") if reason in reasons)
        return {"stopped": reason, "words": str(error), "nodes": leaving}
    finally:
        watch.close()
    return {"summary": fitted.summary}
