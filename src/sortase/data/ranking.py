"""Ranked tokens of cells, a chunk at a time, without Python per cell or gene.

Geneformer's encoding (Theodoris et al. 2023): counts scaled to a common sum, divided by the gene's median over the
cells in which it is not zero, and the cell's genes in descending order of that value.
"""

from __future__ import annotations

from typing import Any

import numpy as np

CHUNK = 2048
_TOKEN_BITS = 21
_ROW_BITS = 11
MOST_TOKENS = 1 << _TOKEN_BITS


def normalised(chunk: Any, target_sum: float) -> tuple[Any, np.ndarray]:
    """CSR scaled so that each cell sums to ``target_sum``, float32, and the cells' sums before, float64."""
    totals = np.asarray(chunk.sum(axis=1), dtype=np.float64).ravel()
    scale = np.divide(target_sum, totals, out=np.zeros_like(totals), where=totals > 0)
    scaled = chunk.astype(np.float64)
    scaled.data *= np.repeat(scale, np.diff(scaled.indptr))
    return scaled.astype(np.float32), totals


def rank(chunk: Any, weights: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of each cell, highest value first, equal ones by token id, at most ``limit`` a cell.

    ``chunk``: CSR of cells x tokens; ``weights[token]`` multiplies a token's values. Returns int32 tokens of all
    cells one after another, and where each cell starts, int64 ``[cells + 1]``. At most 2048 cells.

    Row, value and token are packed into one 64-bit number, so that a single sort of numbers puts all in order: the
    bits of a positive float grow with it, and are flipped for descending order.
    """
    rows = np.repeat(np.arange(chunk.shape[0], dtype=np.uint64), np.diff(chunk.indptr))
    values = (chunk.data * weights[chunk.indices]).astype(np.float32)
    used = values > 0
    bits = (~values[used].view(np.uint32)).astype(np.uint64)
    tokens = chunk.indices[used].astype(np.uint64)
    keys = np.sort((rows[used] << np.uint64(64 - _ROW_BITS)) | (bits << np.uint64(_TOKEN_BITS)) | tokens)
    row = (keys >> np.uint64(64 - _ROW_BITS)).astype(np.int64)
    counts = np.bincount(row, minlength=chunk.shape[0])
    starts = np.concatenate([[0], np.cumsum(counts)])
    kept = np.arange(len(keys)) - starts[row] < limit
    ordered = (keys[kept] & np.uint64(MOST_TOKENS - 1)).astype(np.int32)
    return ordered, np.concatenate([[0], np.cumsum(np.minimum(counts, limit))])


def surround(tokens: np.ndarray, starts: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The cells' tokens with one more before and after each cell."""
    cells = len(starts) - 1
    moved = starts + 2 * np.arange(cells + 1)
    out = np.empty(moved[-1], dtype=np.int32)
    out[moved[:-1]], out[moved[1:] - 1] = first, last
    inside = np.ones(len(out), dtype=bool)
    inside[moved[:-1]] = inside[moved[1:] - 1] = False
    out[inside] = tokens
    return out, moved
