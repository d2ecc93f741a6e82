"""Predictions of a saved model, from Python."""

from __future__ import annotations

import numpy as np

from .. import arguments as check
from ..data.sequences import IGNORED, Sequences
from ..model.inference import stream
from ..model.load import load_trained
from ..model.task import task_of
from ..score.made_model import check_model
from ..score.predict import check_readable


@check.public(
    model_dir=check.model,
    dataset_path=check.dataset_or_path,
    classifier_type=check.choice("sequence", "cell", "token", "gene"),
    batch_size=check.count(1),
    num_workers=check.count(),
    return_logits=check.flag,
)
def predict_from_checkpoint(
    model_dir: str,
    dataset_path: str,
    classifier_type: str = "sequence",
    batch_size: int = 32,
    num_workers: int = 4,
    return_logits: bool = False,
) -> list[int] | tuple[list[int], np.ndarray]:
    """Predict class ids for a saved dataset with a saved model.

    Args:
        model_dir: folder or URL of a model saved with its tokenizer.
        dataset_path: folder or URL of a dataset with ``input_ids``.
        classifier_type: ``sequence`` (``cell``) or ``token`` (``gene``); must be the model's kind.
        batch_size: rows in a forward pass.
        num_workers: kept for compatibility; batches are gathered from memory-mapped data without workers.
        return_logits: also return the logits.

    Returns:
        One id a row in row order (sequence), or one id an input token, flattened in row order (token); with
        ``return_logits`` also float32 logits ``[predictions, classes]``. Tokens beyond the model's longest sequence
        were not read: their id is -100, their logits are NaN, and a warning counts the rows.

    Raises:
        MissingInputError: a path leads to nothing.
        InputError: the model is of the other kind or damaged, or the dataset holds tokens that it does not know.
    """
    with check.naming("model_dir"):
        check_model(model_dir)
        trained = load_trained(model_dir, task_of(classifier_type))
    with check.naming("dataset_path"):
        sequences = Sequences.open(dataset_path)
        check_readable(trained, sequences)
    ends = np.cumsum(trained.task.unit_counts(sequences.lengths), dtype=np.int64)
    starts = np.concatenate([[0], ends])
    ids = np.full(starts[-1], IGNORED)
    logits = np.full((starts[-1], len(trained.class_map)) if return_logits else 0, np.nan, dtype=np.float32)
    for found in stream(trained, sequences, batch_size=batch_size, setting="batch_size"):
        places = starts[found.rows] + found.positions
        ids[places] = found.logits.argmax(axis=1)
        if return_logits:
            logits[places] = found.logits
    return (ids.tolist(), logits) if return_logits else ids.tolist()
