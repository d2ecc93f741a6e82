"""AUROC and average precision from streamed scores against scikit-learn on all of them."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn import metrics as sk

from sortase.model.metrics import ranking


def sample(n: int, classes: int, scale: float, rare: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels; every class but the first is ``rare`` altogether."""
    rng = np.random.default_rng(0)
    labels = rng.choice(classes, n, p=[1 - rare] + [rare / (classes - 1)] * (classes - 1))
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 1.5
    return (logits * scale).astype(np.float32), labels


def exact_odds(logits: np.ndarray) -> np.ndarray:
    """Each class's logit minus the log-sum-exp of all others."""
    values = logits.astype(np.float64)
    columns = range(values.shape[1])
    return np.column_stack([values[:, k] - logsumexp(np.delete(values, k, axis=1), axis=1) for k in columns])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 500.0])
def test_log_odds_are_exact_where_probabilities_round_to_one(scale: float) -> None:
    logits, _ = sample(300, 5, scale)
    np.testing.assert_allclose(ranking.log_odds(logits), exact_odds(logits), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("order", ["as it comes", "by label", "by score"])
@pytest.mark.parametrize("scale", [pytest.param(1e-2, id="nearly equal scores"), 1.0, pytest.param(60.0, id="sure")])
def test_merged_scores_stay_close(scale: float, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "EXACT", 20_000)
    logits, labels = sample(40_000, 3, scale)
    keys = {"as it comes": np.arange(len(labels)), "by label": labels, "by score": logits[:, 1]}
    found = ranking.Ranking(3)
    for part in np.array_split(np.argsort(keys[order], kind="stable"), 23):
        found.update(logits[part], labels[part])
    odds = exact_odds(logits)
    for k, (area, precision) in enumerate(zip(*found.areas(), strict=True)):
        assert area == pytest.approx(sk.roc_auc_score(labels == k, odds[:, k]), abs=1e-3)
        assert precision == pytest.approx(sk.average_precision_score(labels == k, odds[:, k]), abs=1e-3)


def test_equal_scores_are_ties_however_they_arrive() -> None:
    found = ranking.Ranking(2)
    for label in [0, 1, 1, 0]:
        found.update(np.float32([[0.0, 1.0]]), np.array([label]))
    assert found.areas() == ([0.5, 0.5], [0.5, 0.5])


def test_a_class_without_examples_or_without_others_is_undefined() -> None:
    found = ranking.Ranking(2)
    found.update(np.float32([[0, 1], [2, 1]]), np.array([0, 0]))
    assert found.areas() == ([None, None], [None, None])
    assert ranking.mean_defined(found.areas()[0]) is None


def test_memory_does_not_follow_the_number_of_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "EXACT", 20_000)

    def kept(n: int) -> int:
        logits, labels = sample(n, 2, 1.0)
        found = ranking.Ranking(2)
        for part in np.array_split(np.arange(n), 40):
            found.update(logits[part], labels[part])
        return sum(len(values) for values, _ in found._groups)

    assert kept(320_000) < 1.5 * kept(80_000) < 32_000
