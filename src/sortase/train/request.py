"""A training described by where its data lies, so that a process anywhere can take it up."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..config.compute import ComputeSpec
from ..config.model import ModelSpec
from ..config.tracking import TrackingSpec
from ..config.train import TrainSpec
from ..model.task import task_of
from ..prepare.subsets import read_splits
from .job import TrainJob


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

    def job(self) -> TrainJob:
        """Open the data (a remote dataset once a node) and say what to train on it."""
        task = task_of(self.task)
        sides = read_splits(self.dataset, self.split, task)
        return TrainJob(
            task=task,
            class_map=self.class_map,
            train=sides.train,
            validation=sides.validation,
            model=self.model,
            settings=self.settings,
            compute=self.compute,
            seed=self.seed,
            batch_size=self.batch_size,
            vocabulary=self.vocabulary,
            tracking=self.tracking,
            name=self.name,
        )
