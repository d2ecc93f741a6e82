"""Simple classifiers, on data that they can and cannot learn."""

import numpy as np
import pytest
from datasets import Dataset

from makers import dataset
from sortase.data.sequences import Sequences
from sortase.model import baseline
from sortase.model.metrics.metrics import Metrics
from sortase.model.task import TASKS
from sortase.score.evaluate import verdict

CLASSES = ["a", "b", "c"]


def measured(
    predictor: baseline.Predictor, sequences: Sequences, classes: list[str] = CLASSES, **options: object
) -> Metrics:
    metrics = Metrics(classes, bootstrap=100, **options)  # type: ignore[arg-type]
    for scores in predictor(sequences):
        metrics.update(scores)
    return metrics


def halves(kind: str, n: int = 300) -> tuple[Sequences, Sequences]:
    sequences = Sequences.open(dataset(kind, n), TASKS[kind].label_column)
    return sequences.view(np.arange(n // 2)), sequences.view(np.arange(n // 2, n))


def accuracy(metrics: Metrics) -> float:
    return float(metrics.result()["metrics"]["accuracy"])


def test_majority_is_right_as_often_as_its_class_occurs() -> None:
    train, test = halves("sequence")
    labels = np.array([train.labels_of(i)[0] for i in range(len(train))])
    most = np.bincount(labels).argmax()
    expected = np.mean([test.labels_of(i)[0] == most for i in range(len(test))])
    assert accuracy(measured(baseline.majority(train, 3, 0), test)) == pytest.approx(expected)


def test_bag_of_tokens_learns_which_token_makes_the_class() -> None:
    train, test = halves("sequence")
    words, learn = baseline.learner(TASKS["sequence"], "row")
    predictor, rows, _ = learn(train, 3, 0)
    assert rows == 150
    assert "bag of tokens" in words
    assert accuracy(measured(predictor, test)) > 0.9


def test_token_identity_remembers_a_token_that_always_has_one_class() -> None:
    train, test = halves("token")
    _, learn = baseline.learner(TASKS["token"], "row")
    assert accuracy(measured(learn(train, 3, 0)[0], test)) == 1.0


def test_held_out_tokens_are_told_apart_by_their_statistics() -> None:
    """Tokens 100-139 come early in a row, 140-179 late; each token is on one side only."""
    rng = np.random.default_rng(0)
    ids = [
        np.concatenate([rng.permutation(range(100, 140))[:20], rng.permutation(range(140, 180))[:20]])
        for _ in range(80)
    ]
    data = Dataset.from_dict({"input_ids": ids, "labels": [[int(t >= 140) for t in row] for row in ids]})
    sequences = Sequences.open(data, "labels")
    held_out = np.zeros(180, dtype=bool)
    held_out[rng.permutation(range(100, 180))[:20]] = True
    _, learn = baseline.learner(TASKS["token"], "token")
    predictor, tokens, _ = learn(sequences.view(hidden_tokens=held_out), 2, 0)
    assert tokens == 60
    found = measured(predictor, sequences.view(hidden_tokens=~held_out), ["early", "late"], cluster="token").result()
    assert found["metrics"]["accuracy"] > 0.9
    assert found["per_token_type"]["tokens"] == 20


def test_tokens_unknown_to_the_training_side_do_no_harm() -> None:
    train, _ = halves("sequence")
    new = Sequences.open(Dataset.from_dict({"input_ids": [[5, 9999]], "label": [0]}), "label")
    predictor, _, _ = baseline.bag_of_tokens(train, 3, 0)
    assert np.isfinite(next(iter(predictor(new))).logits).all()


def test_verdict_is_plain() -> None:
    train, test = halves("sequence")
    good = measured(baseline.bag_of_tokens(train, 3, 0)[0], test)
    bad = measured(baseline.majority(train, 3, 0), test)
    assert " beats the rival: " in verdict(good, bad, "the rival")["verdict"]
    assert " does not beat the rival: " in verdict(bad, good, "the rival")["verdict"]
    assert " cannot be told apart from the rival: " in verdict(good, good, "the rival")["verdict"]


@pytest.mark.parametrize(("kind", "unit"), [("sequence", "row"), ("token", "row"), ("token", "token")])
def test_one_class_in_training_is_predicted_throughout(kind: str, unit: str) -> None:
    labels = {"sequence": {"label": [1, 1]}, "token": {"labels": [[1, 1, 1], [1, -100]]}}[kind]
    train = Sequences.open(Dataset.from_dict({"input_ids": [[8, 9, 10], [9, 8]], **labels}), TASKS[kind].label_column)
    _, learn = baseline.learner(TASKS[kind], unit)
    for found in learn(train, 3, 0).predictor(train):
        assert (found.logits.argmax(1) == 1).all()


def test_tokens_without_a_known_class_get_the_common_one() -> None:
    train = Sequences.open(Dataset.from_dict({"input_ids": [[8, 9, 10]], "labels": [[1, 1, 0]]}), "labels")
    new = Sequences.open(Dataset.from_dict({"input_ids": [[10, 99, 3]], "labels": [[0, 1, 1]]}), "labels")
    predictor = baseline.token_identity(train, 2, 0).predictor
    assert next(iter(predictor(new))).logits.argmax(1).tolist() == [0, 1, 1]


def test_learning_is_bounded_in_rows_and_tokens_and_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    train, _ = halves("sequence")
    monkeypatch.setattr(baseline, "MOST_TOKENS", 500)
    left, right = (baseline.bag_of_tokens(train, 3, 4) for _ in range(2))
    assert left.rows == left.units == right.rows < 150
    rows = baseline.sample_rows(train, 4, tokens=500)
    assert train.lengths[rows].sum() <= 500
    assert len(baseline.sample_rows(train, 4, rows=10)) == 10
    for a, b in zip(left.predictor(train), right.predictor(train), strict=True):
        assert np.array_equal(a.logits, b.logits)
