"""Classifiers that cost seconds: what a transformer must beat to be worth its training.

Each takes the training side and returns a function from sequences to scores, so that it is measured exactly as the
transformer is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..data.sequences import Sequences
from ..stopping import check
from .inference import ranges
from .scores import Scores
from .task import Task
from .token_features import TokenFeatures

Predictor = Callable[[Sequences], Iterator[Scores]]
MOST_COUNTED = 100_000  # rows whose labels are only counted
MOST_ROWS = 20_000  # rows that logistic regression sees
MOST_TOKENS = 8_000_000
WORK = 2e9  # features x classes x iterations, 2 to 3e8 a second on one core; rows help more than iterations do
WINDOW = 2048


class FittedBaseline(NamedTuple):
    """A fitted classifier, from how many units it learnt, and in how many rows these were."""

    predictor: Predictor
    units: int
    rows: int


Learner = Callable[[Sequences, int, int], FittedBaseline]


def majority(train: Sequences, classes: int, seed: int) -> Predictor:
    """The frequencies of the classes in the training side, whatever the input."""
    counts = np.zeros(classes)
    for _, labels in _labelled(train, sample_rows(train, seed, MOST_COUNTED)):
        counts += np.bincount(labels, minlength=classes)
    logits = _log(counts)
    return _scored(lambda sequences, window, units: np.tile(logits, (len(units), 1)))


def sample_rows(train: Sequences, seed: int, rows: int = MOST_ROWS, tokens: int | None = None) -> np.ndarray:
    """Rows to learn from: all, or a random part of at most so many rows and, if given, tokens."""
    order = np.random.default_rng(seed).permutation(len(train))[:rows]
    if tokens is not None:
        total = np.cumsum(train.lengths[order], dtype=np.int64)
        order = order[: max(1, int(np.searchsorted(total, tokens, side="right")))]
    return np.sort(order)


def _labelled(train: Sequences, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tokens and labels of the labelled units of these rows, a window at a time; of a row's unit the first token."""
    for window in (rows[start : start + WINDOW] for start in range(0, len(rows), WINDOW)):
        check()
        each = [train.labels_of(i) for i in window]
        labels = np.concatenate(each)
        tokens = np.concatenate([train.tokens_of(i)[: len(of)] for i, of in zip(window, each, strict=True)])
        yield tokens[labels >= 0].astype(np.int64), labels[labels >= 0].astype(np.int64)


def bag_of_tokens(train: Sequences, classes: int, seed: int) -> FittedBaseline:
    """Logistic regression on tf-idf weighted token counts of a row."""
    from sklearn.feature_extraction.text import TfidfTransformer

    rows = sample_rows(train, seed, tokens=MOST_TOKENS)
    size = train.max_token() + 1
    labels = np.array([train.labels_of(i)[0] for i in rows])
    scores = _logistic(TfidfTransformer(sublinear_tf=True), counts_of(train, rows, size), labels, classes, 10.0, seed)

    def predict(sequences: Sequences, window: np.ndarray, units: np.ndarray) -> np.ndarray:
        return scores(counts_of(sequences, window, size))

    return FittedBaseline(_scored(predict), len(rows), len(rows))


def counts_of(sequences: Sequences, rows: np.ndarray, size: int) -> Any:
    """How often each token occurs in each row, CSR ``[rows, size]``; tokens from ``size`` on are unknown here."""
    from scipy.sparse import csr_matrix

    tokens = [sequences.tokens_of(i) for i in rows]
    owner = np.repeat(np.arange(len(rows)), [len(t) for t in tokens])
    flat = np.concatenate(tokens)
    known = flat < size
    return csr_matrix((np.ones(known.sum(), np.float32), (owner[known], flat[known])), (len(rows), size))


def token_identity(train: Sequences, classes: int, seed: int) -> FittedBaseline:
    """How often each class befell the very same token in training: logistic regression on its identity."""
    rows = sample_rows(train, seed, MOST_COUNTED)
    size = train.max_token() + 1
    flat = np.zeros(size * classes)
    for tokens, labels in _labelled(train, rows):
        flat += np.bincount(tokens * classes + labels, minlength=len(flat))
    counts = flat.reshape(size, classes)
    prior = counts.sum(0) / max(1, counts.sum())
    logits = np.log(np.vstack([counts, np.zeros(classes)]) + prior + 1e-9).astype(np.float32)

    def predict(sequences: Sequences, window: np.ndarray, units: np.ndarray) -> np.ndarray:
        return logits[np.minimum(units, size)]

    return FittedBaseline(_scored(predict), int(counts.sum()), len(rows))


def token_statistics(train: Sequences, classes: int, seed: int) -> FittedBaseline:
    """Logistic regression over tokens, for tokens never seen with a label: how often, where, with what they occur."""
    from sklearn.preprocessing import StandardScaler

    rows = sample_rows(train, seed, tokens=MOST_TOKENS // 4)
    known = np.full(train.max_token() + 1, -1)
    for tokens, labels in _labelled(train, rows):
        known[tokens] = labels
    features = TokenFeatures(train, rows, seed)
    learnt = np.flatnonzero(known >= 0)
    scores = _logistic(StandardScaler(), features.of(learnt), known[learnt], classes, 0.1, seed)

    def predict(sequences: Sequences, window: np.ndarray, units: np.ndarray) -> np.ndarray:
        tokens, inverse = np.unique(units, return_inverse=True)
        return scores(features.of(tokens))[inverse]

    return FittedBaseline(_scored(predict), len(learnt), len(rows))


def _logistic(
    scaler: Any, features: Any, labels: np.ndarray, classes: int, strength: float, seed: int
) -> Callable[[Any], np.ndarray]:
    """A function from features to log-probabilities ``[n, classes]``, fitted in bounded time."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if len(np.unique(labels)) < 2:
        always = _log(np.bincount(labels, minlength=classes))
        return lambda found: np.tile(always, (found.shape[0], 1))
    iterations = int(np.clip(WORK / (max(1, getattr(features, "nnz", features.size)) * classes), 25, 200))
    model = make_pipeline(scaler, LogisticRegression(C=strength, max_iter=iterations, random_state=seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are bounded on purpose
        model.fit(features, labels)

    def scores(found: Any) -> np.ndarray:
        probabilities = np.zeros((found.shape[0], classes))
        probabilities[:, model.classes_] = model.predict_proba(found)
        return np.log(probabilities.clip(1e-13)).astype(np.float32)

    return scores


def _log(counts: np.ndarray) -> np.ndarray:
    return np.log(counts + 1e-9).astype(np.float32)


def _scored(predict: Callable[[Sequences, np.ndarray, np.ndarray], np.ndarray]) -> Predictor:
    """Turn ``predict(sequences, rows, tokens of units) -> logits`` into a stream of the labelled units' scores."""

    def stream(sequences: Sequences) -> Iterator[Scores]:
        for window in sequences.windows(WINDOW):
            labels = [sequences.labels_of(i) for i in window]
            counts = np.array([len(values) for values in labels])
            tokens = np.concatenate([sequences.tokens_of(i)[: len(v)] for i, v in zip(window, labels, strict=True)])
            logits = predict(sequences, window, tokens)
            yield Scores(
                rows=np.repeat(sequences.rows[window], counts),
                positions=ranges(np.zeros(len(counts), np.int64), counts).astype(np.int32),
                tokens=tokens.astype(np.int64),
                logits=logits,
                labels=np.concatenate(labels).astype(np.int64),
            )

    return stream


LEARNERS: dict[tuple[str, str], tuple[str, Learner]] = {
    ("row", "row"): ("bag of tokens (tf-idf)", bag_of_tokens),
    ("token", "row"): ("the token itself", token_identity),
    ("token", "token"): ("a token's frequency, rank and company", token_statistics),
}


def learner(task: Task, split_unit: str) -> tuple[str, Learner]:
    """The fitting simple classifier by what is labelled and what was split, and what it looks at, in words."""
    return LEARNERS[task.unit, split_unit]
