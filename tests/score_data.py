"""A model and data to score, in one process and elsewhere, and what must be the same then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from makers import CLASSES, architecture, dataset
from sortase import storage
from sortase.config.compute import ComputeSpec
from sortase.config.evaluate import EvaluateSpec, PredictSpec
from sortase.data.sequences import Sequences
from sortase.model.load import Trained, build_model, load_config
from sortase.model.task import TASKS
from sortase.pipeline.executor import Map
from sortase.score.evaluate import EvaluateJob, evaluate
from sortase.score.parts import RemoteScorer
from sortase.score.predict import predict
from sortase.storage import pickles
from sortase.train.job import save

ROWS = 150
BATCH = 4


@dataclass(frozen=True)
class Place:
    """A saved model and a saved dataset below ``root``."""

    root: str
    trained: Trained

    def url(self, *parts: str) -> str:
        return storage.join(self.root, *parts)

    def remote(self, map: Map | None) -> RemoteScorer | None:
        if map is None:
            return None
        model, data = self.url("model"), self.url("data")
        return RemoteScorer(map=map, model=model, dataset=data, compute=ComputeSpec(device="cpu"))

    def evaluate(self, folder: str, map: Map | None = None, hidden: bool = False) -> dict[str, Any]:
        """Of all rows but every seventh; with ``hidden`` only some tokens show their labels, and are resampled."""
        task = self.trained.task
        sequences = Sequences.open(self.url("data"), task.label_column)
        test = sequences.view(np.flatnonzero(np.arange(ROWS) % 7))
        if hidden:
            test = test.view(hidden_tokens=np.arange(60) % 4 != 1)
        job = EvaluateJob(
            trained=self.trained,
            test=test,
            train=None,
            split_unit="token" if hidden else "row",
            settings=EvaluateSpec(batch_size=BATCH, bootstrap=30),
            precision="fp32",
            seed=3,
        )
        return evaluate(job, self.url(folder), lambda text: None, self.remote(map))

    def predict(self, name: str, map: Map | None = None, **settings: Any) -> dict[str, int]:
        spec = PredictSpec(dataset=self.url("data"), batch_size=BATCH, **settings)
        return predict(self.trained, spec, self.url(name), remote=self.remote(map))


def place(root: str, kind: str, tmp_path: Any) -> Place:
    model = build_model(TASKS[kind], CLASSES, None, load_config(None, architecture()), 1).eval()
    trained = Trained(model, None, TASKS[kind], CLASSES, 64, 0)
    save(trained, storage.join(root, "model"))
    local = tmp_path / "saved"
    dataset(kind, ROWS, donor=[f"d{i}" for i in range(ROWS)]).save_to_disk(str(local))
    storage.upload(local, storage.join(root, "data"))
    return Place(root, trained)


def assert_same_evaluation(made: Place, left: str, right: str) -> None:
    """What was written to these two folders, and nothing else there."""
    assert_same_results(made.url(left), made.url(right))
    names = [each for folder in (left, right) for each in storage.list_files(made.url(folder))]
    assert sorted(names) == sorted(2 * ["evaluation.json", "predictions.parquet", "predictions.pkl"])


def assert_same_results(left: str, right: str) -> None:
    one, two = (_timeless(storage.read_json(storage.join(folder, "evaluation.json"))) for folder in (left, right))
    assert_close(one, two, 1e-6)
    assert_same_table(storage.join(left, "predictions.parquet"), storage.join(right, "predictions.parquet"))
    one, two = (_plain(pickles.load(storage.join(folder, "predictions.pkl"))) for folder in (left, right))
    assert_close(one, two)


def _timeless(evaluation: dict[str, Any]) -> dict[str, Any]:
    del evaluation["speed"]
    if evaluation["baseline"]:
        del evaluation["baseline"]["logistic_regression"]["seconds"]
    return evaluation


def _plain(arrays: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(values).tolist() for name, values in arrays.items()}


def assert_same_table(left: str, right: str) -> None:
    tables = []
    for url in (left, right):
        with storage.open_input(url) as file:
            tables.append(pq.read_table(file))
    assert tables[0].schema == tables[1].schema
    assert tables[0].num_rows
    assert_close(tables[0].to_pydict(), tables[1].to_pydict())


def assert_close(left: Any, right: Any, most: float = 1e-5) -> None:
    """Floats to ``most``, all else exactly."""
    if isinstance(left, float) and isinstance(right, float):
        assert abs(left - right) <= most
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for name in left:
            assert_close(left[name], right[name], most)
    elif isinstance(left, list):
        assert len(left) == len(right)
        for one, two in zip(left, right, strict=True):
            assert_close(one, two, most)
    else:
        assert left == right
