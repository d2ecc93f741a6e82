"""What every training worker does: join the others, open the data, and run the one kernel."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from .. import progress, storage
from ..config.storage import StorageSpec
from ..errors import CancelledError, FencedError
from ..runs import logs
from ..runs.events import Events, NoEvents
from ..runs.folder import RunFolder
from ..runs.made import belongs
from ..storage.written import recording
from ..train.job import train
from ..train.ranks import JoinedRanks
from ..train.request import TrainRequest
from .channel import Board, Metrics, StopWatch
from .gauges import Gauges


@dataclass(frozen=True)
class Work:
    """Small enough to be sent to every worker."""

    request: TrainRequest
    folder: RunFolder
    board: Board | None
    storage: StorageSpec = field(default_factory=storage.configured)
    keeps: logs.LogDestination | None = field(default_factory=logs.place)


def work(config: dict[str, Any]) -> dict[str, Any]:
    """Train; returns the ``summary`` and which ``files`` were written.

    Or why it ``stopped`` before the end, ``asked``, ``resize`` or ``preempted``, and the ids of the ``nodes`` that are
    taken away. ``reports`` are all that the board was given.
    """
    todo: Work = config["work"]
    storage.configure(todo.storage)
    ranks = JoinedRanks()
    with logs.kept_logs(todo.keeps, f"rank-{ranks.rank}"):
        return _work(todo, ranks)


def _work(todo: Work, ranks: JoinedRanks) -> dict[str, Any]:
    import ray.train

    board = todo.board
    assert board is not None
    leaving: list[str] = []
    reports: list[tuple[int, Metrics]] = []

    def drained() -> bool:
        info = ray.train.get_preemption_info()
        if info is not None:
            leaving[:] = info.preempted_node_ids
        return info is not None

    def log(line: str) -> None:
        if ranks.is_first:
            board.log(line)

    def report(step: int, metrics: Metrics) -> None:
        if ranks.is_first:
            board.report(len(reports), step, metrics)
            reports.append((step, metrics))

    progress.tell(log)
    watch = StopWatch(board, ranks, drained, time.monotonic)
    try:
        events = Events(todo.folder) if ranks.is_first else NoEvents()
        if ranks.is_first:
            events.listeners.append(Gauges(todo.request.name))
        with recording(partial(belongs, todo.folder.url)) as record:
            fitted, _ = train(todo.request.job(), todo.folder, events, log, watch, report=report, ranks=ranks)
    except FencedError:
        raise
    except CancelledError as error:
        reasons = ranks.gather(watch.reason)
        reason = next(reason for reason in ("asked", "preempted", "resize") if reason in reasons)
        return {"stopped": reason, "words": str(error), "nodes": leaving, "reports": reports}
    finally:
        watch.close()
    return {"summary": fitted.summary, "files": record, "reports": reports}
