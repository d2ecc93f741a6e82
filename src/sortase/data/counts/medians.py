"""The median of each gene over the cells in which it is not zero, in one pass and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from pathlib import Path

import numpy as np

from ... import storage
from ...errors import InputError
from ...stopping import check
from ...storage import pickles
from .genes import stripped
from .spill import map_array, write_array

BLOCK_VALUES = 16_000_000
PART_VALUES = 4_000_000


class Medians:
    """Collects values part by part and gives exact medians (of values rounded to float32, 6e-8).

    Values go to a temporary file, 4 bytes each, grouped by gene within each part of some million; at the end blocks of
    genes are gathered from all parts and sorted. Memory is bounded by the larger of a block (128 MB) and the values of
    one gene.
    """

    def __init__(self, genes: int, folder: Path):
        self._values, self._starts = folder / "values", folder / "starts"
        self._values.touch()
        self._starts.touch()
        self._counts = np.zeros(genes, np.int64)
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, slots: np.ndarray, values: np.ndarray) -> None:
        """Positive values and the gene of each."""
        self._waiting.append((slots, values.astype(np.float32)))
        if sum(len(part) for part, _ in self._waiting) >= PART_VALUES:
            self._flush()

    def _flush(self) -> None:
        from scipy.sparse import csr_matrix

        slots, values = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting = []
        grouped = csr_matrix((values, slots, [0, len(slots)]), (1, max(1, len(self._counts)))).tocsc()
        write_array(self._values, grouped.data)
        write_array(self._starts, grouped.indptr + self._counts.sum())
        self._counts += np.diff(grouped.indptr)

    def result(self) -> np.ndarray:
        """float64[genes]; 0 for a gene without values."""
        if self._waiting:
            self._flush()
        genes = len(self._counts)
        medians = np.zeros(genes)
        starts = map_array(self._starts, np.int64).reshape(-1, genes + 1)
        for first, last in self._blocks(self._counts):
            medians[first:last] = _middle(self._gather(starts, first, last), self._counts[first:last])
        return medians

    @staticmethod
    def _blocks(counts: np.ndarray) -> Iterator[tuple[int, int]]:
        ends = np.cumsum(counts)
        first = 0
        while first < len(counts):
            before = ends[first] - counts[first]
            last = max(first + 1, int(np.searchsorted(ends, before + BLOCK_VALUES, side="right")))
            yield first, last
            first = last

    def _gather(self, starts: np.ndarray, first: int, last: int) -> np.ndarray:
        """Values of genes ``first`` to ``last``, sorted by gene and value: bits of positive floats ascend with them."""
        keys = np.empty(int(self._counts[first:last].sum()), np.uint64)
        filled = 0
        with self._values.open("rb") as file:
            for bounds in starts[:, first : last + 1]:
                check()
                file.seek(4 * int(bounds[0]))
                part = np.fromfile(file, np.uint32, int(bounds[-1] - bounds[0]))
                genes = np.repeat(np.arange(last - first, dtype=np.uint64), np.diff(bounds))
                keys[filled : filled + len(part)] = (genes << np.uint64(32)) | part
                filled += len(part)
        keys.sort()
        return keys.astype(np.uint32).view(np.float32)


def _middle(ordered: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Medians of consecutive sorted runs; the mean of the middle two when there are two."""
    ends, some = np.cumsum(counts), counts > 0
    starts = (ends - counts)[some]
    low, high = ordered[starts + (counts[some] - 1) // 2], ordered[starts + counts[some] // 2]
    medians = np.zeros(len(counts))
    medians[some] = (low.astype(np.float64) + high) / 2
    return medians


def read_medians(url: str) -> dict[str, float]:
    """Gene -> median, of a pickle or JSON; InputError for anything but positive numbers."""
    content = storage.read_json(url, any_encoding=True) if url.endswith(".json") else pickles.load(url)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{url} holds {type(content).__name__}; expected a dictionary of genes and their medians")
    for gene, value in content.items():
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < np.inf:
            raise InputError(f"{url} gives gene {gene!r} the median {value!r}; medians are positive numbers")
    return {str(gene): float(value) for gene, value in content.items()}


def given_medians(url: str, tokens: list[str]) -> np.ndarray:
    """float64[tokens] of ``read_medians``; 0 for a gene it does not have."""
    by_gene = {stripped(gene): value for gene, value in read_medians(url).items()}
    return np.array([by_gene.get(token, by_gene.get(stripped(token), 0.0)) for token in tokens])
