"""A training described by where its data lies, so that a process anywhere can take it up."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Self

from ..config.compute import ComputeSpec
from ..config.model import ModelSpec
from ..config.run import Config
from ..config.tracking import TrackingSpec
from ..config.train import TrainSpec
from ..model.task import task_of
from ..prepare.subsets import Splits, read_splits
from ..runs.folder import RunFolder
from .job import TrainJob
from .tracking import tracking_for

_WHERE = ("dataset", "split")


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """Plain values and URLs, small and picklable. ``dataset`` and ``split`` are what prepare wrote."""

    task: str
    dataset: str
    split: str
    class_map: dict[str, int]
    model: ModelSpec
    settings: TrainSpec
    compute: ComputeSpec
    seed: int
    batch_size: int
    vocabulary: str | None = None
    tracking: TrackingSpec = field(default_factory=TrackingSpec)
    name: str = "run"

    @classmethod
    def of(
        cls,
        config: Config,
        folder: RunFolder,
        *,
        dataset: str,
        split: str,
        class_map: dict[str, int],
        vocabulary: str | None,
    ) -> Self:
        """The training that a configuration describes, on what was prepared; ``folder`` is the run's."""
        return cls(
            task=config.labels.task,
            dataset=dataset,
            split=split,
            class_map=class_map,
            model=config.model,
            settings=config.train,
            compute=config.compute,
            seed=config.run.seed,
            batch_size=config.evaluate.batch_size,
            vocabulary=vocabulary,
            tracking=tracking_for(config.tracking, folder),
            name=config.run.name,
        )

    def job(self) -> TrainJob:
        """Open the data (a remote dataset once a node) and say what to train on it."""
        return self.on(read_splits(self.dataset, self.split, task_of(self.task)))

    def on(self, sides: Splits) -> TrainJob:
        """The same with data that are open already."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _WHERE}
        return TrainJob(**{**own, "task": task_of(self.task)}, train=sides.train, validation=sides.validation)
