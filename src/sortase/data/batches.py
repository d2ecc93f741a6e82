"""The plan of global batches: which rows each optimizer step sees, from lengths, seed and epoch alone.

World size and accumulation only divide a global batch, so the plan is the same for one worker and for many, and
resuming at step k starts the plan there without replaying data.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """Global batches over rows of ``lengths`` tokens.

    A batch holds ``batch_size`` examples, or as many as fit ``batch_tokens`` padded tokens. Rows of similar length
    meet in a batch (``jitter``: how far, as a fraction of its length, a row may look longer or shorter, so that the
    neighbours change from epoch to epoch), and the batches come in random order.
    """

    lengths: np.ndarray
    seed: int
    batch_size: int | None = None
    batch_tokens: int | None = None
    jitter: float = 0.1

    def __post_init__(self) -> None:
        if (self.batch_size is None) == (self.batch_tokens is None):
            raise ConfigError("a batch plan needs either a number of examples or a number of tokens for a batch")
        size = self.batch_size if self.batch_size is not None else self.batch_tokens
        if size is not None and size < 1:
            raise ConfigError(f"a global batch needs at least 1 example or token, got {size}")
        if len(self.lengths) == 0:
            raise ConfigError("there is no row to train on")

    def __len__(self) -> int:
        """Steps in an epoch; the same in every epoch."""
        return len(self._cuts)

    @cached_property
    def _cuts(self) -> np.ndarray:
        """Where, in order of length, each batch starts."""
        n = len(self.lengths)
        if self.batch_size is not None:
            return np.arange(0, n, self.batch_size)
        tokens = self.batch_tokens or 1
        ordered = np.sort(self.lengths)
        cuts, start = [], 0
        while start < n:
            cuts.append(start)
            ahead = ordered[start : start + tokens // max(1, int(ordered[start]))]
            fitting = np.searchsorted(ahead * np.arange(1, len(ahead) + 1), tokens, side="right")
            start += max(1, int(fitting))
        return np.array(cuts)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Row indices of every global batch of this epoch, in training order; each row once."""
        rng = np.random.default_rng([self.seed, epoch])
        wobble = 1 + self.jitter * (rng.random(len(self.lengths)) - 0.5)
        order = np.lexsort((rng.permutation(len(self.lengths)), self.lengths * wobble))
        batches = np.split(order, self._cuts[1:])
        return [batches[i] for i in rng.permutation(len(batches))]


def share(batch: np.ndarray, lengths: np.ndarray, rank: int, world_size: int) -> np.ndarray:
    """The rows of a global batch that one rank computes, longest first so that ranks wait little for each other."""
    ordered = batch[np.argsort(-lengths[batch], kind="stable")]
    return ordered[rank::world_size]


def micro_batches(
    rows: np.ndarray, lengths: np.ndarray, max_rows: int, max_tokens: int | None = None
) -> list[np.ndarray]:
    """Cut a rank's rows, sorted by length, into pieces that fit the device: rows, and padded tokens when limited."""
    pieces, start = [], 0
    while start < len(rows):
        size = max_rows
        if max_tokens is not None:
            size = max(1, min(size, max_tokens // max(1, int(lengths[rows[start]]))))
        pieces.append(rows[start : start + size])
        start += size
    return pieces
