"""The non-zero median of each gene, in one pass over the cells."""

from __future__ import annotations

from typing import Any

import numpy as np

EXACT = 40_000_000
BINS = 1024
LOW, HIGH = 1e-3, 1e5


class Medians:
    """Feed it CSR chunks of cells x columns.

    Up to 40 million non-zero values (320 MB) they are kept and the medians are exact. Beyond that the values fall into
    1024 bins a column, 1.8 % wide, so that a median is off by at most 0.9 %, and memory no longer grows.
    """

    def __init__(self, columns: int):
        self.columns = columns
        self.exact = True
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._count = 0
        self._bins: np.ndarray | None = None

    def update(self, chunk: Any) -> None:
        used = chunk.data > 0
        columns, values = chunk.indices[used], chunk.data[used].astype(np.float32)
        self._count += len(values)
        if self._bins is not None:
            self._bin(columns, values, self._bins)
            return
        self._kept.append((columns.astype(np.int32), values))
        if self._count > EXACT:
            self.exact = False
            self._bins = np.zeros((self.columns, BINS), dtype=np.int32)
            for part in self._kept:
                self._bin(*part, self._bins)
            self._kept = []

    def _bin(self, columns: np.ndarray, values: np.ndarray, bins: np.ndarray) -> None:
        place = np.log(values / LOW) * (BINS / np.log(HIGH / LOW))
        place = np.clip(place, 0, BINS - 1).astype(np.int64)
        np.add.at(bins, (columns, place), 1)

    def result(self) -> np.ndarray:
        """float64 ``[columns]``; 0 for a gene that is never expressed."""
        return self._from_bins(self._bins) if self._bins is not None else self._from_values()

    def _from_values(self) -> np.ndarray:
        columns = np.concatenate([c for c, _ in self._kept] or [np.empty(0, np.int32)])
        values = np.concatenate([v for _, v in self._kept] or [np.empty(0, np.float32)])
        bits = values.view(np.uint32).astype(np.uint64)
        keys = np.sort((columns.astype(np.uint64) << np.uint64(32)) | bits)
        ordered = (keys & np.uint64(0xFFFFFFFF)).astype(np.uint32).view(np.float32).astype(np.float64)
        counts = np.bincount(columns, minlength=self.columns)
        ends = np.cumsum(counts)
        found = np.zeros(self.columns)
        some = counts > 0
        middle = (ends - counts)[some] + (counts[some] - 1) // 2
        other = (ends - counts)[some] + counts[some] // 2
        found[some] = (ordered[middle] + ordered[other]) / 2
        return found

    def _from_bins(self, bins: np.ndarray) -> np.ndarray:
        ends = np.cumsum(bins, axis=1)
        total = ends[:, -1]
        place = (ends < (total[:, None] + 1) // 2).sum(axis=1)
        centre = LOW * (HIGH / LOW) ** ((place + 0.5) / BINS)
        return np.where(total > 0, centre, 0.0)
