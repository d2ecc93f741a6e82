"""Models scored on the same rows, part by part and in turn, so that figures are paired and speeds are measured alike.

The rows are divided once, for all models: the same rows share a batch. In every process each model makes a forward pass
that does not count before it is timed, and who goes first alternates from part to part. Only forward passes are timed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from ..data.sequences import Sequences
from ..model.inference import stream
from ..model.load import Trained
from ..model.metrics.metrics import Metrics
from ..model.scores import Scores
from ..progress import Progress
from ..score.parts import Part, RemoteScorer, Scorer
from ..score.predictions import PredictionTable

WARMING = 4  # rows
TURNS = 4  # how often each model is timed at least, where speed decides


class PairedModel(Protocol):
    def stream(self, part: Part) -> tuple[Sequences, Iterator[Scores]]:
        """The rows of the part, and the model's scores."""


@dataclass(frozen=True)
class Local:
    """A model in this process; ``test`` is what parts are cut from."""

    trained: Trained
    test: Sequences
    batch_size: int
    precision: str

    @cached_property
    def _order(self) -> np.ndarray:
        return np.argsort(self.test.rows, kind="stable")

    def stream(self, part: Part) -> tuple[Sequences, Iterator[Scores]]:
        rows = self.test.view(self._order[np.searchsorted(self.test.rows, part.rows, sorter=self._order)])
        return rows, stream(self.trained, rows, batch_size=self.batch_size, precision=self.precision)


def remote_model(remote: RemoteScorer, trained: Trained, test: Sequences, batch_size: int) -> Scorer:
    """The same model wherever this is sent; it writes no files."""
    table = PredictionTable(trained.classes, tokens=False, labels=True)
    return Scorer.of(remote, trained, test, batch_size, table, folder="")


@dataclass(frozen=True)
class Rounds:
    """All models on a part of the rows; what is sent to other processes."""

    entrants: tuple[PairedModel, ...]
    metrics: Callable[[], Metrics]

    def __call__(self, part: Part) -> tuple[list[Metrics], list[float]]:
        into = [self.metrics() for _ in self.entrants]
        return into, self.play(part, into)

    def play(self, part: Part, into: list[Metrics]) -> list[float]:
        """Seconds of each model for the part, whose scores are added to ``into``."""
        self._warm(part)
        seconds = [0.0] * len(self.entrants)
        places = range(len(self.entrants))
        for place in places if part.number % 2 == 0 else reversed(places):
            _, found = self.entrants[place].stream(part)
            seconds[place] = _timed(found, into[place])
        return seconds

    def _warm(self, part: Part) -> None:
        if "warmed" not in self.__dict__:
            self.__dict__["warmed"] = True
            for entrant in self.entrants:
                for _ in entrant.stream(Part(part.number, part.rows[:WARMING]))[1]:
                    pass

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "warmed"}


def _timed(found: Iterator[Scores], metrics: Metrics) -> float:
    seconds = 0.0
    while True:
        started = time.perf_counter()
        scores = next(found, None)
        seconds += time.perf_counter() - started
        if scores is None:
            return seconds
        metrics.update(scores)


def score_all(
    rounds: Rounds, parts: list[Part], remote: RemoteScorer | None, timed: bool
) -> tuple[list[Metrics], list[float]]:
    """Metrics of each model, and its rows per second on one worker.

    ``timed``: a few parts are gone through again, so that each model is timed ``TURNS`` times at least.
    """
    turns = max(1, -(-TURNS // len(parts))) if timed else 1
    todo = [Part(number, part.rows) for number, part in enumerate(parts * turns)]
    total = [rounds.metrics() for _ in rounds.entrants]
    seconds = [0.0] * len(total)
    with Progress(sum(len(part.rows) for part in todo), "gate") as progress:
        for part, times in zip(todo, _played(rounds, todo, len(parts), remote, total), strict=True):
            seconds = [one + two for one, two in zip(seconds, times, strict=True)]
            progress.update(len(part.rows))
    rows = sum(len(part.rows) for part in todo)
    return total, [rows / max(each, 1e-9) for each in seconds]


def _played(
    rounds: Rounds, todo: list[Part], counting: int, remote: RemoteScorer | None, total: list[Metrics]
) -> Iterator[list[float]]:
    """Seconds of each part; of the first ``counting`` ones the scores go into ``total``."""
    if remote is None:
        for part in todo:
            yield rounds.play(part, total if part.number < counting else [rounds.metrics() for _ in total])
        return
    results = remote.map(rounds, todo)
    try:
        for part, (found, seconds) in zip(todo, results, strict=True):
            if part.number < counting:
                for mine, more in zip(total, found, strict=True):
                    mine.merge(more)
            yield seconds
    finally:
        if close := getattr(results, "close", None):
            close()
