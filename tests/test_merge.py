"""Metrics of parts, computed in several processes, add up to the metrics of all rows."""

import json
import pickle

import numpy as np
import pytest

from sortase.errors import InputError
from sortase.model.metrics import ranking
from sortase.model.metrics.metrics import Cluster, Metrics
from sortase.model.scores import Scores

CLASSES = ["a", "b", "c"]
DIVISIONS = {"one": [0], "two": [0, 350], "five": [0, 1, 200, 201, 600], "with empty ones": [0, 0, 300, 300, 700]}


def rows(n: int = 700, seed: int = 0) -> Scores:
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    logits = rng.normal(size=(n, 3)).astype(np.float32)
    logits[np.arange(n), labels] += 1
    return Scores(np.arange(n), np.zeros(n, np.int32), np.full(n, -1), logits, labels)


def tokens(n: int = 700) -> Scores:
    """One to eight tokens a row, of 40 kinds of which every third has no label."""
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 9, n)
    row = np.repeat(np.arange(n), counts)
    token = rng.integers(0, 40, len(row))
    logits = rng.normal(size=(len(row), 3)).astype(np.float32)
    labels = np.where(token % 3 == 0, -100, token % 7 % 3)
    position = np.concatenate([np.arange(count) for count in counts]).astype(np.int32)
    return Scores(row, position, token, logits, labels)


def measured(scores: Scores, cluster: Cluster = "row", pieces: int = 3, seed: int = 4) -> Metrics:
    metrics = Metrics(CLASSES, bootstrap=60, seed=seed, cluster=cluster)
    for part in np.array_split(np.unique(scores.rows), pieces):
        metrics.update(scores.at(np.flatnonzero(np.isin(scores.rows, part))))
    return metrics


def merged(scores: Scores, starts: list[int], cluster: Cluster) -> Metrics:
    """As by a process for each part: every part travels as a pickle."""
    whole = Metrics(CLASSES, bootstrap=60, seed=4, cluster=cluster)
    for start, end in zip(starts, [*starts[1:], scores.rows.max() + 1], strict=True):
        part = measured(scores.at(np.flatnonzero((scores.rows >= start) & (scores.rows < end))), cluster)
        whole.merge(pickle.loads(pickle.dumps(part)))
    return whole


def rounded(value: object) -> object:
    """Sums in another order differ in the last digits."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 9))


@pytest.mark.parametrize("starts", DIVISIONS.values(), ids=list(DIVISIONS))
@pytest.mark.parametrize(
    ("scores", "cluster"), [(rows(), "row"), (tokens(), "row"), (tokens(), "token")], ids=["rows", "tokens", "by token"]
)
def test_parts_add_up_to_the_whole(scores: Scores, cluster: Cluster, starts: list[int]) -> None:
    whole, parts = measured(scores, cluster), merged(scores, starts, cluster)
    assert rounded(parts.result()) == rounded(whole.result())
    assert parts.matrix.tolist() == whole.matrix.tolist()
    assert np.array_equal(parts.replicates.matrices, whole.replicates.matrices)


@pytest.mark.parametrize("starts", DIVISIONS.values(), ids=list(DIVISIONS))
@pytest.mark.parametrize("limit", [1500, 6000], ids=["parts are beyond it too", "only together beyond it"])
def test_beyond_the_exact_scores_areas_stay_close(
    starts: list[int], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = rows(9000)
    exact = measured(given).result()["metrics"]
    monkeypatch.setattr(ranking, "EXACT", limit)
    found = merged(given, [start * 12 for start in starts], "row").result()["metrics"]
    assert found["auroc"] == pytest.approx(exact["auroc"], abs=1e-3)
    assert found["auprc"] == pytest.approx(exact["auprc"], abs=1e-3)
    assert found["macro_f1"] == exact["macro_f1"]


def test_many_coarse_parts_stay_close_and_small(monkeypatch: pytest.MonkeyPatch) -> None:
    given = rows(200_000)
    exact, whole = ranking.Ranking(3), ranking.Ranking(3)
    exact.update(given.logits, given.labels)
    monkeypatch.setattr(ranking, "EXACT", 6000)
    for part in np.array_split(np.arange(len(given)), 50):
        other = ranking.Ranking(3)
        other.update(given.logits[part], given.labels[part])
        whole.merge(other)
    for found, expected in zip(whole.areas(), exact.areas(), strict=True):
        assert found == pytest.approx(expected, abs=1e-3)
    assert len(pickle.dumps(whole)) < len(given.logits) * 3 * 4


def test_what_travels_is_what_was_seen() -> None:
    """Neither a full confusion matrix for each resample, nor a whole vocabulary of which ten tokens occur."""
    names = [f"c{i}" for i in range(150)]
    n = 500
    labels = np.arange(n) % 150
    logits = np.zeros((n, 150), np.float32)
    logits[np.arange(n), labels] = 1
    scores = Scores(np.arange(n), np.zeros(n, np.int32), 50_000 + np.arange(n) % 10, logits, labels)
    for cluster in ("row", "token"):
        metrics = Metrics(names, bootstrap=1000, cluster=cluster)  # type: ignore[arg-type]
        metrics.update(scores)
        assert len(pickle.dumps(metrics)) < 2**20
        assert rounded(pickle.loads(pickle.dumps(metrics)).result()) == rounded(metrics.result())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        pytest.param(Metrics(["a", "b"], bootstrap=60, seed=4), "classes", id="classes"),
        pytest.param(Metrics(CLASSES, bootstrap=60, seed=5), "seed 4 and 5", id="seed"),
        pytest.param(Metrics(CLASSES, bootstrap=50, seed=4), "bootstrap 60 and 50", id="replicates"),
        pytest.param(Metrics(CLASSES, bootstrap=60, seed=4, cluster="token"), "cluster row and token", id="cluster"),
    ],
)
def test_metrics_of_another_kind_are_refused(other: Metrics, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(rows()).merge(other)
