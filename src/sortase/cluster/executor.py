"""Which way a configuration is computed: in this process, or on Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..config.compute import ComputeSpec
from ..pipeline.executor import Executor, LocalExecutor, TuneResult
from ..types import Log

if TYPE_CHECKING:
    from ..config.run import Config
    from ..config.tune import TuneSpec
    from ..runs.events import Events
    from ..runs.folder import RunFolder
    from ..train.request import TrainRequest


@contextmanager
def executor_for(compute: ComputeSpec, *, always: bool = False) -> Iterator[Executor]:
    """Where to compute, connected as long as the block lasts. ``always``: on Ray also where ``compute`` has no workers,
    as a search of hyperparameters needs it."""
    if not (compute.uses_ray or always):
        yield LocalExecutor()
        return
    from .connect import connected

    with connected(compute):
        yield RayExecutor(compute)


class RayExecutor(LocalExecutor):
    """Training on workers, and what else ``compute`` gives workers to; the rest in this process."""

    def __init__(self, compute: ComputeSpec):
        if compute.prepare.workers:
            from .actors import actor_map

            self.prepare_map = actor_map(compute.prepare, compute.start_timeout)
        if compute.score.workers:
            from .actors import actor_map

            self.score_map = actor_map(compute.score, compute.start_timeout)

    def check(self, config: Config) -> list[str]:
        from .resources import check_resources

        if config.tune is None:
            return check_resources(config.compute)
        from .trial_resources import find_slots

        lines: list[str] = []
        find_slots(config.tune, config.compute, lines.append)
        return [*check_resources(config.compute.model_copy(update={"workers": 0})), *lines]

    def check_paths(self, paths: Mapping[str, str], output: str | None) -> list[str]:
        from .visible import check_visible

        return check_visible(paths, output)

    def train(
        self, request: TrainRequest, folder: RunFolder, events: Events, log: Log, should_stop: Callable[[], bool]
    ) -> dict[str, Any]:
        from .train import train

        if not request.compute.max_workers:
            return super().train(request, folder, events, log, should_stop)
        return train(request, folder, events, log, should_stop)

    def tune(
        self,
        spec: TuneSpec,
        request: TrainRequest,
        folder: RunFolder,
        events: Events,
        log: Log,
        should_stop: Callable[[], bool],
    ) -> TuneResult:
        from .sweep import tune

        return tune(spec, request, folder, events, log, should_stop)
