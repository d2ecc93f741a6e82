"""Streamed metrics against scikit-learn and against hand-made cases."""

import json
import pickle

import numpy as np
import pytest
from sklearn import metrics as sk

from sortase.model.metrics.bootstrap import Groups, Replicates, poisson_weights
from sortase.model.metrics.metrics import Metrics
from sortase.model.scores import Scores, log_probabilities


def scores(n: int = 3000, classes: int = 4, seed: int = 0, signal: float = 1.0) -> Scores:
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=np.arange(1, classes + 1) / np.arange(1, classes + 1).sum())
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), labels] += signal
    return Scores(np.arange(n), np.zeros(n, np.int32), np.full(n, -1), logits, labels)


def fed(given: Scores, pieces: int = 7, **options: object) -> Metrics:
    metrics = Metrics([f"c{i}" for i in range(given.logits.shape[1])], **{"bootstrap": 0, **options})  # type: ignore[arg-type]
    for index in np.array_split(np.arange(len(given)), pieces):
        metrics.update(given.at(index))
    return metrics


@pytest.mark.parametrize("classes", [2, 4, 25])
@pytest.mark.parametrize("signal", [0.0, 1.0, 6.0])
def test_agrees_with_scikit_learn(classes: int, signal: float) -> None:
    given = scores(classes=classes, signal=signal)
    found = fed(given).result()
    values, y, p = found["metrics"], given.labels, given.logits.argmax(1)
    probabilities = np.exp(log_probabilities(given.logits))
    assert values["accuracy"] == pytest.approx(sk.accuracy_score(y, p))
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(y, p))
    assert values["macro_f1"] == pytest.approx(sk.f1_score(y, p, average="macro"))
    assert values["weighted_f1"] == pytest.approx(sk.f1_score(y, p, average="weighted"))
    assert values["mcc"] == pytest.approx(sk.matthews_corrcoef(y, p))
    assert values["loss"] == pytest.approx(sk.log_loss(y, probabilities, labels=range(classes)))
    onehot = np.eye(classes)[y]
    assert values["auroc"] == pytest.approx(sk.roc_auc_score(onehot, probabilities), abs=1e-5)
    assert values["auprc"] == pytest.approx(sk.average_precision_score(onehot, probabilities), abs=1e-5)
    assert found["confusion_matrix"] == sk.confusion_matrix(y, p, labels=range(classes)).tolist()
    precision, recall, f1, support = sk.precision_recall_fscore_support(y, p, labels=range(classes), zero_division=0)
    for row, *expected in zip(found["per_class"], precision, recall, f1, support, strict=True):
        assert [row["precision"], row["recall"], row["f1"], row["support"]] == pytest.approx(expected)


def rounded(value: object) -> object:
    """Sums in another order differ in the last digits."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 9))


def test_pieces_do_not_matter() -> None:
    given = scores(500)
    whole, pieces = (fed(given, n, bootstrap=50).result() for n in (1, 83))
    assert rounded(whole) == rounded(pieces)


def test_classes_that_do_not_occur_leave_macro_metrics_alone() -> None:
    given = scores(200, classes=3)
    kept = given.at(np.flatnonzero((given.labels != 2) & (given.logits.argmax(1) != 2)))
    found = fed(kept).result()
    y, p = kept.labels, kept.logits.argmax(1)
    assert found["metrics"]["macro_f1"] == pytest.approx(sk.f1_score(y, p, average="macro"))
    assert found["per_class"][2]["auroc"] is None
    assert found["per_class"][2]["support"] == 0


@pytest.mark.parametrize(
    ("labels", "logits", "accuracy"),
    [
        pytest.param([0], [[1.0, 0.0]], 1.0, id="one unit, right"),
        pytest.param([1], [[1.0, 0.0]], 0.0, id="one unit, wrong"),
        pytest.param([0, 1, 0], [[0.0, 9.0], [9.0, 0.0], [0.0, 9.0]], 0.0, id="all wrong"),
        pytest.param([0, 0], [[500.0, -500.0], [500.0, -500.0]], 1.0, id="extreme logits"),
    ],
)
def test_edges(labels: list[int], logits: list[list[float]], accuracy: float) -> None:
    n = len(labels)
    given = Scores(np.arange(n), np.zeros(n, np.int32), np.full(n, -1), np.float32(logits), np.array(labels))
    found = fed(given, 1, bootstrap=20).result()
    assert found["metrics"]["accuracy"] == accuracy
    assert all(np.isfinite(v) for v in found["metrics"].values() if v is not None)
    assert len(found["mistakes"]) == n - round(accuracy * n)


def test_unlabelled_units_count_for_nothing() -> None:
    given = scores(300)
    hidden = given.labels.copy()
    hidden[::3] = -100
    masked = Scores(given.rows, given.positions, given.tokens, given.logits, hidden)
    assert rounded(fed(masked).result()) == rounded(fed(given.at(np.flatnonzero(hidden >= 0))).result())


def test_no_unit_at_all_is_undefined_not_a_crash() -> None:
    found = Metrics(["a", "b"], bootstrap=10).result()
    assert found["units"] == 0
    assert set(found["metrics"].values()) == {None}


def test_intervals_match_resampling_rows() -> None:
    given = scores(400, seed=3)
    low, high = fed(given, bootstrap=2000).result()["intervals"]["accuracy"]
    rng = np.random.default_rng(0)
    right = given.logits.argmax(1) == given.labels
    plain = np.percentile([right[rng.integers(0, 400, 400)].mean() for _ in range(2000)], [2.5, 97.5])
    assert [low, high] == pytest.approx(plain.tolist(), abs=0.012)


def test_weights_are_poisson_and_belong_to_the_cluster() -> None:
    weights = poisson_weights(np.arange(2000), 200, 5)
    assert weights.mean() == pytest.approx(1, abs=0.01)
    assert weights.var() == pytest.approx(1, abs=0.02)
    assert np.corrcoef(weights[:, 0], weights[:, 1])[0, 1] == pytest.approx(0, abs=0.06)
    assert np.array_equal(weights[100:110], poisson_weights(np.arange(100, 110), 200, 5))


def test_units_of_a_cluster_are_resampled_together() -> None:
    """Twenty copies of a row's unit say no more than one: the interval stays as wide as for the rows alone."""
    rng = np.random.default_rng(0)
    rows, labels = np.arange(100), rng.integers(0, 2, 100)
    predictions = np.where(rng.random(100) < 0.7, labels, 1 - labels)
    single, copied = Replicates(2, 1000, 1), Replicates(2, 1000, 1)
    single.update(rows, labels, predictions)
    copied.update(np.repeat(rows, 20), np.repeat(labels, 20), np.repeat(predictions, 20))
    assert copied.intervals()["accuracy"] == pytest.approx(single.intervals()["accuracy"])


def test_groups_of_rows_are_resampled_together() -> None:
    """However their rows are spread over pieces and processes."""
    given = scores(600, seed=2)
    numbers = np.random.default_rng(1).integers(0, 12, 600)
    order = np.random.default_rng(2).permutation(600)
    groups = Groups.by_row(order, numbers[order])
    options = {"bootstrap": 300, "groups": groups}
    found = fed(given, **options)
    renamed = Scores(numbers, given.positions, given.tokens, given.logits, given.labels)
    assert found.result()["intervals"] == fed(renamed, bootstrap=300).result()["intervals"]
    assert found.result()["bootstrap"]["unit"] == "group"
    assert groups.count == 12
    parts = [pickle.loads(pickle.dumps(fed(given.at(index), **options))) for index in np.array_split(order, 4)]
    total = fed(given.at(np.arange(0)), **options)
    for part in parts:
        assert part.groups is None
        total.merge(part)
    assert rounded(total.result()["intervals"]) == rounded(found.result()["intervals"])
    with pytest.raises(TypeError, match="they are merged"):
        parts[0].update(given)


def test_intervals_of_groups_cover_what_those_of_rows_do_not() -> None:
    """Ten groups that a model knows better or worse: the mean of all lies beyond the rows' interval far too often."""
    rng = np.random.default_rng(0)
    missed = {"row": 0, "group": 0}
    numbers = np.repeat(np.arange(10), 40)
    for trial in range(100):
        right = rng.random(400) < np.clip(rng.normal(0.7, 0.2, 10), 0, 1)[numbers]
        for name, clusters in (("row", np.arange(400)), ("group", numbers)):
            replicates = Replicates(2, 200, trial)
            replicates.update(clusters, np.zeros(400, np.int64), 1 - right.astype(np.int64))
            low, high = replicates.intervals()["accuracy"]
            missed[name] += not low <= 0.7 <= high
    assert missed["row"] > 30
    assert missed["group"] < 20


def test_resamples_that_hold_nothing_say_nothing() -> None:
    """Of two clusters every seventh resample holds none."""
    replicates = Replicates(2, 500, 0)
    replicates.update(np.array([3, 3, 8, 8]), np.array([0, 1, 0, 1]), np.array([0, 1, 0, 1]))
    assert (replicates.matrices.sum((1, 2)) == 0).any()
    assert replicates.intervals()["accuracy"] == [1, 1]


def test_a_model_does_not_differ_from_itself() -> None:
    given = scores(300)
    left, right = fed(given, bootstrap=100), fed(given, 3, bootstrap=100)
    assert left.replicates.difference(right.replicates, "macro_f1") == pytest.approx([0, 0])


def test_tokens_vote_once() -> None:
    """Token 5 is right in two of three places and has the higher mean probability: one right vote."""
    logits = np.float32([[2, 0], [2, 0], [0, 1], [0, 3]])
    given = Scores(
        np.array([0, 1, 2, 2]), np.zeros(4, np.int32), np.array([5, 5, 5, 9]), logits, np.array([0, 0, 0, 0])
    )
    found = fed(given, 2, cluster="token", bootstrap=50).result()
    assert found["metrics"]["accuracy"] == 0.5
    assert found["per_token_type"]["tokens"] == 2
    assert found["per_token_type"]["confusion_matrix"] == [[1, 1], [0, 0]]
    assert found["bootstrap"]["unit"] == "token"


def test_a_sure_vote_outweighs_two_unsure_ones() -> None:
    logits = np.float32([[0, 0.1], [0, 0.1], [9, 0]])
    given = Scores(np.arange(3), np.zeros(3, np.int32), np.full(3, 5), logits, np.zeros(3, np.int64))
    found = fed(given, 3, cluster="token").result()
    assert found["metrics"]["accuracy"] == pytest.approx(1 / 3)
    assert found["per_token_type"]["metrics"]["accuracy"] == 1


def test_most_confident_mistakes_come_first() -> None:
    given = scores(2000)
    found = fed(given, 11).result()["mistakes"]
    p = np.exp(log_probabilities(given.logits))
    wrong = p.argmax(1) != given.labels
    assert [m["probability"] for m in found] == pytest.approx(np.sort(p.max(1)[wrong])[::-1][:20].tolist())
    assert all(m["true"] != m["predicted"] for m in found)


def test_calibration_error_of_known_bins() -> None:
    """All predictions at 0.75, of which half are right: the error is 0.25."""
    logits = np.tile(np.log(np.float32([0.75, 0.25])), (100, 1))
    given = Scores(np.arange(100), np.zeros(100, np.int32), np.full(100, -1), logits, np.arange(100) % 2)
    found = fed(given).result()
    assert found["metrics"]["ece"] == pytest.approx(0.25, abs=1e-6)
    assert sum(found["reliability"]["count"]) == 100
