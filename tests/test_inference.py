"""Streamed predictions: row order, every row once, and the public functions over saved models."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from makers import CLASSES, architecture, dataset
from sortase import predict_from_checkpoint
from sortase.config.evaluate import PredictSpec
from sortase.data.sequences import Sequences
from sortase.errors import InputError
from sortase.model import inference
from sortase.model.load import Trained, build_model, load_config, load_trained
from sortase.model.task import TASKS
from sortase.score.predict import predict
from sortase.train.job import save

KINDS = ["sequence", "token"]


def trained(kind: str, max_length: int = 64) -> Trained:
    model = build_model(TASKS[kind], CLASSES, None, load_config(None, architecture()), 1).eval()
    return Trained(model, None, TASKS[kind], CLASSES, max_length, 0)


def one_by_one(model: Trained, sequences: Sequences) -> np.ndarray:
    """Logits of each unit, a row at a time and without padding."""
    parts = []
    for i in range(len(sequences)):
        ids = torch.from_numpy(sequences.tokens_of(i)[: model.max_length].astype(np.int64))[None]
        with torch.inference_mode():
            logits = model.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        parts.append(logits.reshape(-1, logits.shape[-1]).numpy())
    return np.concatenate(parts)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_windows_and_batches_change_nothing(kind: str, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINDOW_ROWS", 17)
    model, sequences = trained(kind), Sequences.open(dataset(kind, 53), TASKS[kind].label_column)
    found = list(inference.stream(model, sequences, batch_size=batch_size))
    assert len(found) > 1
    np.testing.assert_allclose(
        np.concatenate([f.logits for f in found]), one_by_one(model, sequences), atol=1e-5, rtol=1e-4
    )
    rows = np.concatenate([f.rows for f in found])
    assert np.array_equal(rows, np.repeat(np.arange(53), TASKS[kind].unit_counts(sequences.lengths)))


def test_tokens_carry_their_place_id_and_label() -> None:
    model, sequences = trained("token", max_length=9), Sequences.open(dataset("token", 20), "labels")
    (found,) = inference.stream(model, sequences, batch_size=4)
    for row in range(20):
        mine = found.rows == row
        assert found.tokens[mine].tolist() == sequences.tokens_of(row)[:9].tolist()
        assert found.labels[mine].tolist() == sequences.labels_of(row)[:9].tolist()
        assert found.positions[mine].tolist() == list(range(mine.sum()))


def test_views_keep_the_rows_of_the_dataset() -> None:
    sequences = Sequences.open(dataset(n=30), "label")
    (found,) = inference.stream(trained("sequence"), sequences.view(np.array([4, 9, 20])), batch_size=2)
    assert found.rows.tolist() == [4, 9, 20]
    assert found.labels.tolist() == [int(sequences.labels_of(i)[0]) for i in (4, 9, 20)]


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_from_a_saved_model(kind: str, tmp_path: Path) -> None:
    model, data = trained(kind), dataset(kind, 33)
    save(model, str(tmp_path / "model"))
    data.save_to_disk(str(tmp_path / "data"))
    ids, logits = predict_from_checkpoint(str(tmp_path / "model"), str(tmp_path / "data"), kind, 8, return_logits=True)
    expected = one_by_one(model, Sequences.open(data))
    np.testing.assert_allclose(logits, expected, atol=1e-5, rtol=1e-4)
    assert ids == expected.argmax(1).tolist()


def test_dataset_without_rows_is_refused(tmp_path: Path) -> None:
    dataset(n=3).select([]).save_to_disk(str(tmp_path / "empty"))
    with pytest.raises(InputError, match="holds no row"):
        Sequences.open(str(tmp_path / "empty"))


def test_model_of_the_other_kind_is_refused(tmp_path: Path) -> None:
    save(trained("token"), str(tmp_path / "model"))
    with pytest.raises(InputError, match="is a token classifier, not a sequence classifier"):
        load_trained(str(tmp_path / "model"), TASKS["sequence"])


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save(trained("token"), str(tmp_path / "model"))
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError, match="could run code"):
        load_trained(str(tmp_path / "model"))


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"x" * len(data)], ids=["cut", "overwritten"])
def test_damaged_weights_are_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    save(trained("token"), str(tmp_path / "model"))
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(spoil(weights.read_bytes()))
    with pytest.raises(InputError, match=r"the weights in .* are damaged"):
        load_trained(str(tmp_path / "model"))


def test_weights_without_a_head_are_refused(tmp_path: Path) -> None:
    save(trained("token"), str(tmp_path / "model"))
    weights = str(tmp_path / "model" / "model.safetensors")
    save_file({k: v for k, v in load_file(weights).items() if "classifier" not in k}, weights, {"format": "pt"})
    with pytest.raises(InputError, match=r"lack classifier\.bias"):
        load_trained(str(tmp_path / "model"))


def test_predict_carries_columns_and_ranks_classes(tmp_path: Path) -> None:
    donors = [f"d{i}" for i in range(40)]
    dataset(n=40, donor=donors).save_to_disk(str(tmp_path / "data"))
    settings = PredictSpec(dataset=str(tmp_path / "data"), columns=["donor"], top_k=3)
    counts = predict(trained("sequence"), settings, str(tmp_path / "p.parquet"))
    table = pq.read_table(tmp_path / "p.parquet")
    assert sum(counts.values()) == table.num_rows == 40
    assert table.column("donor").to_pylist() == donors
    ranked = np.column_stack([table.column(n).to_numpy() for n in ("probability", "probability_2", "probability_3")])
    assert (np.diff(ranked, axis=1) <= 0).all()
    np.testing.assert_allclose(ranked.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_hold_whole_rows_and_bound_what_is_handed_on(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINDOW_LOGITS", 900)
    monkeypatch.setattr(inference, "PIECE_LOGITS", 150)
    sequences = Sequences.open(dataset(kind, 130), TASKS[kind].label_column)
    found = list(inference.stream(trained(kind), sequences, batch_size=4))
    assert all(piece.logits.size <= 150 for piece in found)
    shared = [set(a.rows) & set(b.rows) for a, b in pairwise(found)]
    assert not any(shared)
    expected = TASKS[kind].unit_counts(sequences.lengths)
    assert np.bincount(np.concatenate([piece.rows for piece in found])).tolist() == expected.tolist()


def test_a_row_larger_than_any_piece_still_comes_whole() -> None:
    assert [part.tolist() for part in inference.cut(np.array([5, 99, 1, 2, 3]), 5)] == [[0], [1], [2, 3], [4]]


def test_rows_of_like_length_share_a_batch() -> None:
    model, sequences = trained("sequence"), Sequences.open(dataset(n=200), "label")
    shapes: list[torch.Size] = []
    model.model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    list(inference.stream(model, sequences, batch_size=10))
    assert sequences.lengths.sum() > 0.9 * sum(shape.numel() for shape in shapes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 37])
@pytest.mark.parametrize("idle", [0, 5])
def test_forward_passes_are_known_and_can_be_filled_up(
    kind: str, rows: int, idle: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "WINDOW_ROWS", 17)
    monkeypatch.setattr(inference, "WINDOW_TOKENS", 150)
    model, sequences = trained(kind), Sequences.open(dataset(kind), TASKS[kind].label_column).view(np.arange(rows))
    made: list[int] = []
    model.model.register_forward_pre_hook(lambda module, inputs: made.append(1))
    expected = inference.forward_passes(model, sequences.lengths, batch_size=4)
    plain = list(inference.stream(model, sequences, batch_size=4))
    assert len(made) == expected
    made.clear()
    filled = list(inference.stream(model, sequences, batch_size=4, at_least=expected + idle))
    assert len(made) == expected + idle
    assert [part.rows.tolist() for part in filled] == [part.rows.tolist() for part in plain]
