"""Scoring in parts: consecutive rows that a process anywhere can score, and the one result that they become again."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from .. import storage
from ..config.compute import ComputeSpec
from ..data.sequences import Sequences
from ..model.device import place_model
from ..model.inference import WINDOW_LOGITS, WINDOW_TOKENS, cut, stream
from ..model.load import Trained, load_trained
from ..model.scores import Scores
from ..model.task import task_of
from ..progress import Progress
from ..types import Map
from .predictions import PredictionTable, copy_tables, parquet_writer

PARTS = 64
LEAST_BATCHES = 8  # sorted by length together: fewer waste more on padding
MOST_ROWS = 65_536


@dataclass(frozen=True, kw_only=True)
class RemoteScorer:
    """Other processes that score, and the URLs where they find the model and the dataset whose rows are scored."""

    map: Map
    model: str
    dataset: str
    compute: ComputeSpec
    tokenizer: str | None = None


@dataclass(frozen=True)
class Part:
    """``rows`` are row numbers of the dataset; ``table`` and ``pickle`` name its predictions below a folder."""

    number: int
    rows: np.ndarray

    def table(self, folder: str) -> str:
        return storage.join(folder, f"part-{self.number:05d}.parquet")

    def pickle(self, folder: str) -> str:
        return storage.join(folder, f"part-{self.number:05d}.pkl")


def divide(trained: Trained, sequences: Sequences, batch_size: int) -> list[Part]:
    """Consecutive rows, about a 64th of the tokens each, but neither a few batches only nor more than memory holds.

    They follow from the data alone: with any number of workers the same rows share a batch.
    """
    lengths = np.minimum(sequences.lengths, trained.max_length).astype(np.int64)
    least = LEAST_BATCHES * batch_size * lengths.mean() if len(lengths) else 1
    share = lengths / min(WINDOW_TOKENS, max(least, lengths.sum() / PARTS))
    logits = trained.task.unit_counts(lengths) * len(trained.class_map)
    share = np.maximum(share, np.maximum(1 / MOST_ROWS, logits / WINDOW_LOGITS))
    rows = [sequences.rows[inside] for inside in cut(share, 1)]
    return [Part(number, inside) for number, inside in enumerate(rows or [sequences.rows])]


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores parts in the process that it is sent to, which opens model and data once for all its parts.

    ``hidden`` marks token ids whose labels are not shown. Predictions go to files below ``folder``.
    """

    model: str
    tokenizer: str | None
    dataset: str
    compute: ComputeSpec
    task: str
    label_column: str | None
    hidden: np.ndarray | None
    batch_size: int
    table: PredictionTable
    folder: str

    @classmethod
    def of(
        cls,
        remote: RemoteScorer,
        trained: Trained,
        sequences: Sequences,
        batch_size: int,
        table: PredictionTable,
        folder: str,
        **more: Any,
    ) -> Self:
        """For parts of these rows of the dataset that ``remote`` names."""
        return cls(
            model=remote.model,
            tokenizer=remote.tokenizer,
            dataset=remote.dataset,
            compute=remote.compute,
            task=trained.task.kind,
            label_column=trained.task.label_column if sequences.labelled else None,
            hidden=sequences.hidden,
            batch_size=batch_size,
            table=table,
            folder=folder,
            **more,
        )

    @cached_property
    def _opened(self) -> tuple[Trained, str, Sequences]:
        trained = load_trained(self.model, task_of(self.task), self.tokenizer)
        precision = place_model(trained.model, self.compute)
        sequences = Sequences.open(self.dataset, self.label_column)
        return trained, precision, sequences.view(hidden_tokens=self.hidden)

    def stream(self, part: Part) -> tuple[Sequences, Iterator[Scores]]:
        """The rows of the part, and their scores."""
        trained, precision, sequences = self._opened
        rows = sequences.view(part.rows)
        return rows, stream(trained, rows, batch_size=self.batch_size, precision=precision)

    def __call__(self, part: Part) -> Any:
        """Write the predictions of the part; returns what is to be known about them."""
        raise TypeError(f"{type(self).__name__} must say what it does with a part")


@contextmanager
def part_folder(url: str) -> Iterator[str]:
    """A new folder for the parts of the file at ``url``; gone afterwards, and so is what a killed attempt left."""
    folder = f"{url}.parts"
    storage.remove(folder)
    with storage.removed_on_failure(folder):
        yield storage.join(folder, uuid.uuid4().hex)
    storage.remove(folder)


def gather(map: Map, scorer: Scorer, parts: list[Part], url: str, what: str, take: Callable[[Part, Any], None]) -> None:
    """Have all parts scored; their tables become the file at ``url``, and ``take`` gets each result, in row order.

    No more than a piece of one part is in memory here.
    """
    results = map(scorer, parts)
    try:
        with Progress(sum(len(part.rows) for part in parts), what) as progress, parquet_writer(url) as append:
            for part, result in zip(parts, results, strict=True):
                copy_tables(part.table(scorer.folder), append)
                take(part, result)
                progress.update(len(part.rows))
    finally:  # the workers stop before the folder they write to is removed
        close = getattr(results, "close", None)
        if close is not None:
            close()
