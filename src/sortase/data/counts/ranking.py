"""Ranked tokens of cells, a chunk at a time.

Geneformer's encoding (Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9): a cell's counts are divided by their sum,
multiplied by 10,000, divided by each gene's median over the cells in which it is not zero, and its genes are put into
descending order of that value. As there, the sum is over all genes of the matrix, known or not. Other than there,

- the sum is taken from the matrix, not from a column `n_counts` that the user provides. It is the same for all genes
  of a cell, so that it has no influence on the order, only on medians computed from the data;
- equal values are ordered by token id; NumPy's unstable sort leaves their order to chance there. Values that agree in
  about 11 digits (for vocabularies of up to 65,536 genes) are equal, so that rounding errors decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .counts import Chunk
from .genes import GeneColumns


@dataclass(frozen=True)
class Expressed:
    """Known genes of a chunk of cells, none twice in a cell.

    ``totals`` float64[cells] are sums over all genes; ``indptr`` int64[cells + 1]; ``slots`` int32[n] (see
    GeneColumns) and ``values`` float64[n], not scaled.
    """

    totals: np.ndarray
    indptr: np.ndarray
    slots: np.ndarray
    values: np.ndarray

    def scaled(self, target_sum: float) -> np.ndarray:
        """float64[n]: values of a cell in which all genes sum to ``target_sum``."""
        return self.values * np.repeat(target_sum / np.where(self.totals > 0, self.totals, 1.0), np.diff(self.indptr))


def expressed(chunk: Chunk, values: np.ndarray, genes: GeneColumns) -> Expressed:
    """Select the known genes; ``values`` are the chunk's counts, checked."""
    cells, cell = chunk.stop - chunk.start, chunk.cell_of_values()
    totals = np.bincount(cell, weights=values, minlength=cells)
    slots = genes.slot[chunk.columns]
    used = (slots >= 0) & (values > 0)
    indptr = chunk.indptr
    if not used.all():
        slots, values = slots[used], values[used]
        indptr = np.concatenate(([0], np.cumsum(used)))[indptr]
    found = Expressed(totals, indptr, slots, values)
    return _summed(found, len(genes.tokens)) if genes.duplicates else found


def _summed(found: Expressed, genes: int) -> Expressed:
    from scipy.sparse import csr_matrix

    matrix = csr_matrix((found.values, found.slots, found.indptr), (len(found.totals), max(1, genes)))
    matrix.sum_duplicates()
    return Expressed(found.totals, matrix.indptr.astype(np.int64), matrix.indices.astype(np.int32), matrix.data)


@dataclass(frozen=True)
class Ranking:
    """``medians`` and ``ids`` of the known genes in the order of their token ids; ``limit`` genes of a cell at most."""

    medians: np.ndarray
    ids: np.ndarray
    limit: int
    first: int | None = None
    last: int | None = None

    def tokens(self, cells: Expressed) -> tuple[np.ndarray, np.ndarray]:
        """int32 token ids of all cells, one after the other, and where each cell's begin and end, int64[cells + 1].

        A cell without a known gene has no token. ``first`` and ``last`` surround the others.
        """
        slots = ranked(cells.values / self.medians[cells.slots], cells.slots, cells.indptr, len(self.ids))
        lengths = np.diff(cells.indptr)
        indptr = cells.indptr
        if (lengths > self.limit).any():
            rank = np.arange(len(slots)) - np.repeat(indptr[:-1], lengths)
            slots = slots[rank < self.limit]
            indptr = np.concatenate(([0], np.cumsum(np.minimum(lengths, self.limit))))
        tokens = self.ids[slots].astype(np.int32)
        return (tokens, indptr) if self.first is None else self._surrounded(tokens, indptr)

    def _surrounded(self, tokens: np.ndarray, indptr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        filled = np.diff(indptr) > 0
        longer = np.concatenate(([0], np.cumsum(np.diff(indptr) + 2 * filled)))
        result = np.empty(longer[-1], np.int32)
        starts, ends = longer[:-1][filled], longer[1:][filled] - 1
        inner = np.ones(len(result), bool)
        inner[starts] = inner[ends] = False
        result[inner], result[starts], result[ends] = tokens, self.first, self.last
        return result, longer


def ranked(values: np.ndarray, slots: np.ndarray, indptr: np.ndarray, genes: int) -> np.ndarray:
    """Slots of each cell in descending order of the values (positive), equal ones in ascending order of the slot.

    Value and slot (below ``genes``) become one integer, for the bits of a positive float64 ascend with it; NumPy sorts
    plain integers with vector instructions: about 10 µs for a cell of 1,400 genes, where `lexsort` over the whole
    chunk takes 560 µs a cell.
    """
    width = max(1, (genes - 1).bit_length())
    low, drop, half = np.uint64(width), np.uint64(width - 1), np.uint64((1 << (width - 1)) >> 1)
    # A float64 has 63 bits beside its sign, the key 64; its last ones give way to the slot, rounded.
    bits = (values.view(np.uint64) + half) >> drop
    keys = (~bits << low) | slots.astype(np.uint64)
    for start, stop in pairwise(indptr.tolist()):
        keys[start:stop].sort()
    return (keys & np.uint64((1 << width) - 1)).astype(np.int32)
