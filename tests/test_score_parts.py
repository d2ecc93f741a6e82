"""Scores in parts are those of the whole, wherever the parts are computed."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makers import dataset
from score_data import assert_same_evaluation, assert_same_table, place
from sortase import storage
from sortase.data.sequences import Sequences
from sortase.errors import WorkFailedError
from sortase.model.task import TASKS
from sortase.score import parts, predictions
from sortase.score.parts import divide
from sortase.storage import pickles

KINDS = list(TASKS)


@pytest.mark.parametrize(("kind", "hidden"), [("sequence", False), ("token", False), ("token", True)])
def test_an_evaluation_in_parts_is_that_of_the_whole(kind: str, hidden: bool, root: str, tmp_path: Path) -> None:
    made = place(root, kind, tmp_path)
    made.evaluate("whole", hidden=hidden)
    made.evaluate("parts", map, hidden=hidden)
    assert_same_evaluation(made, "whole", "parts")


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_in_parts_are_those_of_the_whole(kind: str, root: str, tmp_path: Path) -> None:
    made = place(root, kind, tmp_path)
    options: dict[str, Any] = {"columns": ["donor"], "top_k": 2, "threshold": 0.4}
    assert made.predict("whole.parquet", **options) == made.predict("parts.parquet", map, **options)
    assert_same_table(made.url("whole.parquet"), made.url("parts.parquet"))
    assert not storage.exists(made.url("parts.parquet.parts"))


def test_too_many_probabilities_for_a_pickle_are_left_out_in_parts_too(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(predictions, "MOST_PICKLED", 200)
    made = place(str(tmp_path), "sequence", tmp_path)
    made.evaluate("whole")
    made.evaluate("parts", map)
    assert_same_evaluation(made, "whole", "parts")
    assert pickles.load(made.url("parts", "predictions.pkl"))["probabilities"] is None


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 37, 3000])
def test_parts_hold_every_row_once_and_in_order(kind: str, rows: int, tmp_path: Path) -> None:
    made = place(str(tmp_path), kind, tmp_path)
    sequences = Sequences.open(dataset(kind, 3000), TASKS[kind].label_column).view(np.arange(rows)[::2])
    divided = divide(made.trained, sequences, batch_size=2)
    assert np.array_equal(np.concatenate([part.rows for part in divided]), np.arange(rows)[::2])
    assert [part.number for part in divided] == list(range(len(divided)))
    tokens = [sequences.lengths[np.isin(sequences.rows, part.rows)].sum() for part in divided]
    assert max(tokens) <= max(sequences.lengths.sum() / 64, 16 * sequences.lengths.mean() if rows else 0)
    assert len(divided) >= min(64, rows // 40)


def test_parts_of_large_data_fit_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place(str(tmp_path), "token", tmp_path)
    monkeypatch.setattr(parts, "LEAST_BATCHES", 1000)
    sequences = Sequences.open(dataset("token", 500), "labels")
    assert len(divide(made.trained, sequences, 4)) == 1
    monkeypatch.setattr(parts, "MOST_ROWS", 100)
    assert 90 < max(len(part.rows) for part in divide(made.trained, sequences, 4)) <= 100
    monkeypatch.setattr(parts, "WINDOW_LOGITS", 300)
    assert max(sequences.lengths[part.rows].sum() for part in divide(made.trained, sequences, 4)) <= 100


def failing(closed: list[bool]) -> Callable[..., Iterator[Any]]:
    """A map whose third result is an error; notes whether it was closed."""

    def mapped(function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        try:
            for number, item in enumerate(items):
                if number == 2:
                    raise WorkFailedError("the third part failed")
                yield function(item)
        finally:
            closed.append(True)

    return mapped


def test_a_part_that_fails_leaves_nothing(root: str, tmp_path: Path) -> None:
    made, closed = place(root, "sequence", tmp_path), []
    with pytest.raises(WorkFailedError, match="third part"):
        made.evaluate("parts", failing(closed))
    with pytest.raises(WorkFailedError, match="third part"):
        made.predict("p.parquet", failing(closed))
    assert closed == [True, True]
    assert not storage.list_files(made.url("parts"))
    assert not storage.list_files(made.url("p.parquet.parts")) and not storage.exists(made.url("p.parquet"))


def test_what_a_killed_attempt_left_is_removed(root: str, tmp_path: Path) -> None:
    made = place(root, "sequence", tmp_path)
    storage.write_bytes(made.url("p.parquet.parts", "killed", "part-00000.parquet"), b"half")
    made.predict("p.parquet", map)
    assert not storage.exists(made.url("p.parquet.parts"))
