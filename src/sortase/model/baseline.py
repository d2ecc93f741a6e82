"""Classifiers that cost seconds: what a transformer must beat to be worth its training.

Each takes the training side and returns a function from sequences to scores, so that it is measured exactly as the
transformer is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..data.sequences import Sequences
from .inference import ranges
from .scores import Scores
from .task import Task
from .token_features import TokenFeatures

Predictor = Callable[[Sequences], Iterator[Scores]]
MOST_TOKENS = 2_000_000
MOST_ROWS = 20_000
WINDOW = 2048


def majority(train: Sequences, classes: int) -> Predictor:
    """The frequencies of the classes in the training side, whatever the input."""
    counts = np.zeros(classes)
    for window in train.windows():
        labels = np.concatenate([train.labels_of(i) for i in window])
        counts += np.bincount(labels[labels >= 0], minlength=classes)
    logits = np.log(counts + 1e-9).astype(np.float32)
    return _scored(lambda sequences, window, units: np.tile(logits, (len(units), 1)))


def sample_rows(train: Sequences, seed: int) -> np.ndarray:
    """Rows to learn from: all, or a random part that holds ``MOST_ROWS`` rows and ``MOST_TOKENS`` tokens at most."""
    order = np.random.default_rng(seed).permutation(len(train))
    tokens = np.cumsum(train.lengths[order], dtype=np.int64)
    return np.sort(order[: max(1, min(MOST_ROWS, int(np.searchsorted(tokens, MOST_TOKENS))))])


def bag_of_tokens(train: Sequences, classes: int, seed: int) -> tuple[Predictor, int]:
    """Logistic regression on tf-idf weighted token counts of a row; also says from how many rows it learnt."""
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.pipeline import make_pipeline

    rows = sample_rows(train, seed)
    size = train.max_token() + 1
    labels = np.array([train.labels_of(i)[0] for i in rows])
    model = make_pipeline(TfidfTransformer(sublinear_tf=True), _logistic(10.0, seed))
    model.fit(counts_of(train, rows, size), labels)

    def predict(sequences: Sequences, window: np.ndarray, units: np.ndarray) -> np.ndarray:
        return _all_classes(model, counts_of(sequences, window, size), classes)

    return _scored(predict), len(rows)


def counts_of(sequences: Sequences, rows: np.ndarray, size: int) -> Any:
    """How often each token occurs in each row, CSR ``[rows, size]``; tokens from ``size`` on are unknown here."""
    from scipy.sparse import csr_matrix

    tokens = [sequences.tokens_of(i) for i in rows]
    owner = np.repeat(np.arange(len(rows)), [len(t) for t in tokens])
    flat = np.concatenate(tokens)
    known = flat < size
    return csr_matrix((np.ones(known.sum(), np.float32), (owner[known], flat[known])), (len(rows), size))


def token_identity(train: Sequences, classes: int, seed: int) -> tuple[Predictor, int]:
    """How often each class befell the very same token in training: logistic regression on its identity."""
    counts = np.zeros((train.max_token() + 1, classes))
    for window in train.windows(WINDOW):
        tokens, labels = (np.concatenate([of(i) for i in window]) for of in (train.tokens_of, train.labels_of))
        known = labels >= 0
        np.add.at(counts, (tokens[known], labels[known]), 1)
    prior = counts.sum(0) / max(1, counts.sum())
    logits = np.log(counts + prior + 1e-9).astype(np.float32)

    def predict(sequences: Sequences, window: np.ndarray, units: np.ndarray) -> np.ndarray:
        return logits[np.minimum(units, len(logits) - 1)]

    return _scored(predict), int(counts.sum())


def token_statistics(train: Sequences, classes: int, seed: int) -> tuple[Predictor, int]:
    """Logistic regression over tokens, for tokens never seen with a label: how often, where, with what they occur."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rows = sample_rows(train, seed)
    labels = np.full(train.max_token() + 1, -1)
    for i in range(len(train)):
        shown = train.labels_of(i)
        labels[train.tokens_of(i)[shown >= 0]] = shown[shown >= 0]
    features = TokenFeatures(train, rows, seed)
    learnt = np.flatnonzero(labels >= 0)
    model = make_pipeline(StandardScaler(), _logistic(0.1, seed))
    model.fit(features.of(learnt), labels[learnt])

    def predict(sequences: Sequences, window: np.ndarray, units: np.ndarray) -> np.ndarray:
        tokens, inverse = np.unique(units, return_inverse=True)
        return _all_classes(model, features.of(tokens), classes)[inverse]

    return _scored(predict), len(learnt)


def _logistic(strength: float, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=200, random_state=seed, class_weight=None)


def _all_classes(model: Any, features: Any, classes: int) -> np.ndarray:
    """Log-probabilities for every class; those that training never saw get next to none."""
    probabilities = np.zeros((features.shape[0], classes))
    probabilities[:, model.classes_] = model.predict_proba(features)
    return np.log(probabilities.clip(1e-13)).astype(np.float32)


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


LEARNERS: dict[tuple[str, str], tuple[str, Callable[[Sequences, int, int], tuple[Predictor, int]]]] = {
    ("row", "row"): ("bag of tokens (tf-idf)", bag_of_tokens),
    ("token", "row"): ("the token itself", token_identity),
    ("token", "token"): ("a token's frequency, rank and company", token_statistics),
}


def learner(task: Task, split_unit: str) -> tuple[str, Callable[[Sequences, int, int], tuple[Predictor, int]]]:
    """The fitting simple classifier by what is labelled and what was split, and what it looks at, in words."""
    return LEARNERS[task.unit, split_unit]
