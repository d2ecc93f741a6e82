"""Is it counts? Values that cannot be are refused, naming cell and gene."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..errors import InputError
from .counts import Chunk, Counts

Kind = Literal["counts", "log1p"]
SAMPLE = 1_000_000
# log(1 + x) of a cell scaled to a million is below 14; a gene with 30 would be counted 10^13 times.
MOST_LOGARITHM = 30.0
# Tables that were once logarithms hold 0.999999999999 for 1.
WHOLE = 1e-6


def check_kind(counts: Counts, kind: Kind) -> None:
    """Refuse values that are evidently of the other kind, by the first million stored."""
    sample = np.asarray(counts.values[:SAMPLE], np.float64)
    sample = sample[sample > 0]
    if not len(sample) or not np.isfinite(sample).all():
        return
    most, share = sample.max(), fractions(sample) / len(sample)
    if kind == "counts" and share > 0.5 and most < MOST_LOGARITHM:
        raw = ", or tokenize.layer: raw if counts lie there" if counts.has_raw else ""
        raise InputError(
            f"{counts.name} holds fractions up to {most:.4g}: they look like logarithms, not counts; set "
            f"tokenize.values: log1p if they are log(1 + x){raw}"
        )
    if kind == "log1p" and most > MOST_LOGARITHM:
        raise InputError(
            f"{counts.name} holds values up to {most:.4g}, which are no logarithms of counts; "
            "set tokenize.values: counts"
        )


def checked(chunk: Chunk, counts: Counts, kind: Kind) -> np.ndarray:
    """The chunk's counts, float64[n]: finite and not negative, out of their logarithm, nearly whole ones made whole."""
    values = chunk.values.astype(np.float64)
    if not (values.min(initial=0) >= 0 and values.max(initial=0) < np.inf):
        _refuse(~(values >= 0) | np.isinf(values), values, chunk, counts)
    if kind == "log1p":
        with np.errstate(over="ignore"):
            values = np.expm1(values)
        _refuse(np.isinf(values), chunk.values, chunk, counts)
        return values
    whole = np.rint(values)
    if np.array_equal(whole, values):
        return values
    return np.where(np.abs(values - whole) < WHOLE, whole, values)


def fractions(values: np.ndarray) -> int:
    """How many are not whole."""
    return int((np.abs(values - np.rint(values)) >= WHOLE).sum())


def _refuse(wrong: np.ndarray, values: np.ndarray, chunk: Chunk, counts: Counts) -> None:
    if not wrong.any():
        return
    place = int(np.argmax(wrong))
    cell = chunk.start + int(np.searchsorted(chunk.indptr, place, side="right")) - 1
    remedy = "; scaled values cannot be used, tokenize.layer: raw may hold counts" if counts.has_raw else ""
    raise InputError(
        f"{counts.name} has the value {values[place]:g} for gene '{counts.genes[chunk.columns[place]]}' of cell "
        f"'{counts.cell_name(cell)}' (row {cell}); counts are finite numbers from 0 on{remedy}"
    )
