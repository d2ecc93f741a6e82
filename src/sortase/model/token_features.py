"""What can be said of a token without knowing its label: how often, how early and in what company it occurs."""

from __future__ import annotations

import numpy as np

from ..data.sequences import Sequences

COMPONENTS = 16


class TokenFeatures:
    """Per token: log frequency, mean and spread of its relative position, mean length of its rows, and ``COMPONENTS``
    leading singular vectors of the table of rows and tokens."""

    def __init__(self, sequences: Sequences, rows: np.ndarray, seed: int):
        from scipy.sparse import csr_matrix
        from sklearn.utils.extmath import randomized_svd

        size = sequences.max_token() + 1
        tokens = [sequences.tokens_of(i) for i in rows]
        flat = np.concatenate(tokens)
        lengths = np.array([len(t) for t in tokens])
        place = np.concatenate([np.arange(n) / max(1, n - 1) for n in lengths])
        count = np.bincount(flat, minlength=size)
        safe = np.maximum(count, 1)
        mean = np.bincount(flat, weights=place, minlength=size) / safe
        spread = np.sqrt(np.maximum(np.bincount(flat, weights=place**2, minlength=size) / safe - mean**2, 0))
        company = np.bincount(flat, weights=np.repeat(lengths, lengths), minlength=size) / safe
        owner = np.repeat(np.arange(len(rows)), lengths)
        table = csr_matrix((np.ones(len(flat), np.float32), (owner, flat)), (len(rows), size))
        parts = min(COMPONENTS, min(table.shape) - 1)
        _, scale, vectors = randomized_svd(table, max(1, parts), random_state=seed)
        columns = [np.log1p(count), mean, spread, np.log1p(company)]
        self._table = np.column_stack([*columns, (vectors * scale[:, None]).T])

    def of(self, tokens: np.ndarray) -> np.ndarray:
        """Features ``[tokens, features]``; a token that never occurred has the features of one that occurs never."""
        known = tokens < len(self._table)
        found = np.zeros((len(tokens), self._table.shape[1]))
        found[known] = self._table[tokens[known]]
        return found
