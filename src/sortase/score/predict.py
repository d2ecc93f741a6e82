"""Predictions for data without labels, from a saved model alone."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from ..config.evaluate import PredictSpec
from ..data.checks import check_tokens, overlong
from ..data.sequences import Sequences
from ..errors import InputError
from ..model.inference import stream
from ..model.inputs import check_token_types
from ..model.load import Trained
from ..model.scores import Scores
from .parts import Part, RemoteScorer, Scorer, divide, gather, part_folder
from .predictions import PredictionTable, parquet_writer


def predict(
    trained: Trained, settings: PredictSpec, url: str, precision: str = "fp32", remote: RemoteScorer | None = None
) -> dict[str, int]:
    """Write the predictions for ``settings.dataset`` to a Parquet file; counts them by class.

    Rows stream from the dataset to the file, which appears once it is whole. With ``remote`` other processes compute
    the scores; the model's weights and ``precision`` are not used here then.
    """
    sequences = Sequences.open(settings.dataset)
    if unknown := [name for name in settings.columns if name not in sequences.columns]:
        raise InputError(f"unknown column '{unknown[0]}'; the dataset has {sorted(sequences.columns)}")
    check_readable(trained, sequences)
    table = PredictionTable(
        trained.classes,
        tokens=trained.task.unit == "token",
        labels=False,
        top_k=settings.top_k,
        threshold=settings.threshold,
        columns=settings.columns,
    )
    if remote is not None:
        counts = _in_parts(trained, sequences, settings.batch_size, table, url, remote)
    else:
        found = stream(
            trained,
            sequences,
            batch_size=settings.batch_size,
            precision=precision,
            what="predict",
            setting="predict.batch_size",
        )
        counts = _write(found, sequences, table, url)
    return dict(sorted(counts.items()))


def _write(found: Iterable[Scores], sequences: Sequences, table: PredictionTable, url: str) -> Counter[str]:
    """Stream the predictions to a file; counts them."""
    counts: Counter[str] = Counter()
    with parquet_writer(url) as append:
        for scores in found:
            part = table.of(scores, sequences)
            append(part)
            for entry in part.column("prediction").value_counts().to_pylist():
                counts[entry["values"]] += entry["counts"]
    return counts


@dataclass(frozen=True, kw_only=True)
class _Predictor(Scorer):
    def __call__(self, part: Part) -> Counter[str]:
        sequences, found = self.stream(part)
        return _write(found, sequences, self.table, part.table(self.folder))


def _in_parts(
    trained: Trained, sequences: Sequences, batch_size: int, table: PredictionTable, url: str, remote: RemoteScorer
) -> Counter[str]:
    counts: Counter[str] = Counter()
    with part_folder(url) as folder:
        predictor = _Predictor.of(remote, trained, sequences, batch_size, table, folder)
        parts = divide(trained, sequences, batch_size)
        gather(remote.map, predictor, parts, url, "predict", lambda part, found: counts.update(found))
    return counts


def check_readable(trained: Trained, sequences: Sequences) -> None:
    """Refuse what the model cannot read at all, and say what it cannot read whole."""
    check_tokens(sequences, trained.model.config.vocab_size)
    if note := check_token_types(sequences, trained.model):
        warnings.warn(note, stacklevel=3)
    if cut := overlong(sequences, trained.max_length):
        warnings.warn(
            f"{cut} of {len(sequences)} sequences are longer than the model reads; "
            f"only their first {trained.max_length} tokens count",
            stacklevel=4,
        )
