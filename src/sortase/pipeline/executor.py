"""Where the stages of a run are computed: the seam behind which a cluster stands.

The stages are the same everywhere. ``LocalExecutor`` computes all of them in this process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ConfigError
from ..types import Log, Map

if TYPE_CHECKING:
    from ..config.run import Config
    from ..config.tune import TuneSpec
    from ..runs.events import Events
    from ..runs.folder import RunFolder
    from ..train.request import TrainRequest


@dataclass(frozen=True)
class TuneResult:
    """A finished search: Ray's ``ExperimentAnalysis``, what run.json tells of it, and of the best trial's training."""

    analysis: Any
    summary: dict[str, Any]
    training: dict[str, Any]


class Executor(Protocol):
    """``prepare_map`` and ``score_map``: ``map(function, items)`` yields results in order, function and items pickle;
    None leaves it to the stage to use this process."""

    prepare_map: Map | None
    score_map: Map | None

    def check(self, config: Config) -> list[str]:
        """Lines about the room that there is for a run; InfrastructureError when it can never have what it asks for."""

    def check_paths(self, paths: Mapping[str, str], output: str | None) -> list[str]:
        """ConfigError when a process that works elsewhere does not see one of these paths, or the output folder; lines
        about what cannot be found out."""

    def train(
        self, request: TrainRequest, folder: RunFolder, events: Events, log: Log, should_stop: Callable[[], bool]
    ) -> dict[str, Any]:
        """Train and save the model below ``folder.model``; returns the summary for run.json."""

    def tune(
        self,
        spec: TuneSpec,
        request: TrainRequest,
        folder: RunFolder,
        events: Events,
        log: Log,
        should_stop: Callable[[], bool],
    ) -> TuneResult:
        """Search hyperparameters and save the best trial's model below ``folder.model``."""


class LocalExecutor:
    """Everything in this process."""

    prepare_map: Map | None = None
    score_map: Map | None = None

    def check(self, config: Config) -> list[str]:
        return []

    def check_paths(self, paths: Mapping[str, str], output: str | None) -> list[str]:
        return []

    def train(
        self, request: TrainRequest, folder: RunFolder, events: Events, log: Log, should_stop: Callable[[], bool]
    ) -> dict[str, Any]:
        from ..train.job import train

        fitted, _ = train(request.job(), folder, events, log, should_stop)
        return fitted.summary

    def tune(
        self,
        spec: TuneSpec,
        request: TrainRequest,
        folder: RunFolder,
        events: Events,
        log: Log,
        should_stop: Callable[[], bool],
    ) -> TuneResult:
        raise ConfigError(
            "a search of hyperparameters runs on Ray; use `sortase`, or executor=executor_for(..., always=True)"
        )
