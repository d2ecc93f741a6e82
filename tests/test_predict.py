"""Predictions for new data: what is written, what is refused, and that nothing half done stays."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset

from makers import CLASSES, architecture, dataset
from sortase import predict_from_checkpoint
from sortase.config.evaluate import PredictSpec
from sortase.data.sequences import Sequences
from sortase.errors import InputError, WorkFailedError
from sortase.model import inference
from sortase.model.load import Trained, build_model, load_config
from sortase.model.scores import Scores, empty, log_probabilities
from sortase.model.task import TASKS
from sortase.score.predict import predict
from sortase.score.predictions import PickledPredictions, PredictionTable
from sortase.train.job import save

LABELS = list(CLASSES)


def trained(kind: str = "sequence", max_length: int = 64) -> Trained:
    model = build_model(TASKS[kind], CLASSES, None, load_config(None, architecture()), 1).eval()
    return Trained(model, None, TASKS[kind], CLASSES, max_length, 0)


def saved(folder: Path, data: Dataset) -> str:
    data.save_to_disk(str(folder / "data"))
    return str(folder / "data")


def read(url: str) -> Any:
    from sortase import storage

    with storage.open_input(url) as file:
        return pq.read_table(file)


@pytest.mark.parametrize("kind", list(TASKS))
def test_streams_to_local_and_remote_files_alike(kind: str, root: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(inference, "PIECE_LOGITS", 200)
    data = dataset(kind, 60, donor=[f"d{i}" for i in range(60)])
    settings = PredictSpec(dataset=saved(tmp_path, data), columns=["donor"], batch_size=7)
    predict(trained(kind), settings, f"{root}/p.parquet")
    table = read(f"{root}/p.parquet")
    lengths = TASKS[kind].unit_counts(np.array([len(ids) for ids in data["input_ids"]]))
    rows = np.repeat(np.arange(60), lengths)
    assert table.column("row").to_pylist() == rows.tolist()
    assert table.column("donor").to_pylist() == [f"d{i}" for i in rows]
    if kind == "token":
        assert table.column("token").to_pylist() == [t for ids in data["input_ids"] for t in ids]
    shares = np.column_stack([table.column(f"p_{name}").to_numpy() for name in LABELS])
    assert table.column("prediction").to_pylist() == [LABELS[i] for i in shares.argmax(1)]
    np.testing.assert_allclose(shares.max(1), table.column("probability").to_numpy(), atol=1e-6)


def test_threshold_answers_unknown_below_it_alone(tmp_path: Path) -> None:
    url = str(tmp_path / "p.parquet")
    data = saved(tmp_path, dataset(n=60))
    predict(trained(), PredictSpec(dataset=data), url)
    plain = read(url)
    probability = plain.column("probability").to_numpy()
    limit = float(np.median(probability))
    counts = predict(trained(), PredictSpec(dataset=data, threshold=limit), url)
    expected = np.where(probability < np.float32(limit), "unknown", plain.column("prediction").to_pylist())
    assert read(url).column("prediction").to_pylist() == expected.tolist()
    assert 0 < counts["unknown"] == (expected == "unknown").sum() < 60


@pytest.mark.parametrize(
    ("data", "columns", "message"),
    [
        pytest.param({"input_ids": [[8], [9, 99]]}, [], "row 1 has token id 99", id="foreign token"),
        pytest.param({"input_ids": [[8], []]}, [], "row 1 has no token", id="empty row"),
        pytest.param({"tokens": [[8]]}, [], "no column 'input_ids'", id="no tokens"),
        pytest.param({"input_ids": [[8]], "age": [1]}, ["sex"], "unknown column 'sex'", id="unknown column"),
        pytest.param({"input_ids": [[8]], "row": [1]}, ["row"], "column 'row' cannot be carried", id="name taken"),
        pytest.param({"input_ids": [[8]], "p_a": [1]}, ["p_a"], "column 'p_a' cannot be", id="name of a class taken"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(
    data: dict[str, Any], columns: list[str], message: str, tmp_path: Path
) -> None:
    settings = PredictSpec(dataset=saved(tmp_path, Dataset.from_dict(data)), columns=columns)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        predict(trained(), settings, str(tmp_path / "p.parquet"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_failure_half_way_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "WINDOW_ROWS", 10)
    original, calls = inference._forward, iter(range(100))

    def failing(*arguments: Any) -> np.ndarray:
        if next(calls) == 3:
            raise RuntimeError("the machine is gone")
        return original(*arguments)

    monkeypatch.setattr(inference, "_forward", failing)
    settings = PredictSpec(dataset=saved(tmp_path, dataset(n=40)), batch_size=5)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RuntimeError, match="the machine is gone"):
        predict(trained(), settings, str(tmp_path / "p.parquet"))
    assert sorted(tmp_path.rglob("*")) == before


def test_spoilt_weights_are_an_error_that_names_the_row() -> None:
    model = trained()
    with torch.no_grad():
        model.model.get_input_embeddings().weight[9] = float("nan")
    data = Sequences.open(Dataset.from_dict({"input_ids": [[8], [8, 10], [9, 8]]}))
    with pytest.raises(WorkFailedError, match="scores for row 2 are not finite"):
        list(inference.stream(model, data, batch_size=1))


def test_tokens_that_were_not_read_keep_the_others_in_place(tmp_path: Path) -> None:
    """Row lengths cut the flat list back, also where the model reads only four tokens."""
    save(trained("token", max_length=4), str(tmp_path / "model"))
    data = saved(tmp_path, Dataset.from_dict({"input_ids": [[8, 9, 10, 11, 12, 13], [14, 15]]}))
    with pytest.warns(UserWarning, match="1 of 2 sequences are longer than the model reads; only their first 4"):
        ids, logits = predict_from_checkpoint(str(tmp_path / "model"), data, "token", return_logits=True)
    assert len(ids) == len(logits) == 8
    assert ids[4:6] == [-100, -100]
    assert np.isnan(logits[4:6]).all()
    kept = [0, 1, 2, 3, 6, 7]
    assert logits[kept].argmax(1).tolist() == [ids[i] for i in kept]


@pytest.fixture
def no_rows() -> Iterator[Sequences]:
    yield Sequences.open(Dataset.from_dict({"input_ids": [[8]], "donor": ["d"]}).select([]))


@pytest.mark.parametrize("kind", list(TASKS))
def test_no_row_gives_a_table_with_the_same_columns(kind: str, no_rows: Sequences) -> None:
    (found,) = inference.stream(trained(kind), no_rows, batch_size=4)
    table = PredictionTable(LABELS, tokens=kind == "token", labels=False, columns=["donor"]).of(found, no_rows)
    assert table.num_rows == 0
    assert {"row", "donor", "prediction", "probability", "p_a"} <= set(table.column_names)


def test_units_without_label_have_none_in_the_file() -> None:
    given = Scores(np.arange(2), np.zeros(2, np.int32), np.full(2, -1), np.eye(3, dtype=np.float32)[:2], np.r_[-100, 1])
    table = PredictionTable(LABELS, tokens=False, labels=True).of(given, Sequences.open(dataset(n=2)))
    assert table.column("label").to_pylist() == [None, "b"]


def test_many_classes_do_not_become_columns() -> None:
    names = [f"c{i}" for i in range(101)]
    table = PredictionTable(names, tokens=False, labels=False, top_k=500).of(empty(101), Sequences.open(dataset(n=2)))
    assert not [name for name in table.column_names if name.startswith("p_")]
    assert "prediction_101" in table.column_names


def test_pickle_leaves_out_what_would_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sortase.score import predictions
    from sortase.storage import pickles

    monkeypatch.setattr(predictions, "MOST_PICKLED", 12)
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    given = Scores(np.arange(4), np.zeros(4, np.int32), np.full(4, -1), logits, np.array([0, 1, 2, 0]))
    kept, bounded = PickledPredictions(LABELS), PickledPredictions(LABELS)
    for piece in (given.at(np.arange(2)), given.at(np.arange(2, 4))):
        kept.update(piece)
        bounded.update(piece)
    bounded.update(given.at(np.arange(1)))
    kept.write(str(tmp_path / "kept.pkl"))
    bounded.write(str(tmp_path / "bounded.pkl"))
    found = pickles.load(str(tmp_path / "kept.pkl"))
    assert found["labels"].tolist() == [0, 1, 2, 0]
    np.testing.assert_allclose(found["probabilities"], np.exp(log_probabilities(logits)), atol=1e-6)
    assert found["predictions"].tolist() == logits.argmax(1).tolist()
    assert pickles.load(str(tmp_path / "bounded.pkl"))["probabilities"] is None
