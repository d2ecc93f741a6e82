"""Is it counts? Values that cannot be are refused, naming cell and gene."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ...config.tokenize import TokenizeSpec
from ...errors import InputError
from .counts import Chunk, Counts

Kind = Literal["counts", "log1p"]
SAMPLE = 1_000_000
# log(1 + x) of a cell scaled to a million is below 14; a gene with 30 would be counted 10^13 times.
MOST_LOGARITHM = 30.0
# Tables that were once logarithms hold 0.999999999999 for 1.
WHOLE = 1e-6
SAMPLED_CELLS = 200
# Totals of cells that were scaled to one sum differ by rounding (float32, or a text of four digits) only.
EQUAL_TOTALS = 1e-3
BASES = (math.e, 2.0, 10.0)


@dataclass(frozen=True)
class Scale:
    """What the stored values are: counts (``base`` None), or log(1 + x) to ``base``. ``notes`` are for the user."""

    base: float | None
    notes: list[str]


def scale_of(counts: Counts, spec: TokenizeSpec) -> Scale:
    """Refuse values that are evidently of the other kind, by the first million stored of each file; notice scaled ones.

    The base of logarithms is ``spec.log_base``, else what the file says, else e.
    """
    scales = [_scale_of(part, spec) for part in counts.parts]
    other = next((place for place, scale in enumerate(scales) if scale.base != scales[0].base), None)
    if other is not None:
        raise InputError(
            f"{counts.parts[0].name} holds logarithms of base {_name(scales[0].base)}, {counts.parts[other].name} of "
            f"base {_name(scales[other].base)} (uns/log1p); tokenize them one by one"
        )
    notes = [
        note if len(scales) == 1 else f"{part.name}: {note}"
        for part, scale in zip(counts.parts, scales, strict=True)
        for note in scale.notes
    ]
    return Scale(scales[0].base, notes)


def check_first(counts: Counts) -> None:
    """Refuse stored values that are no counts where no cell is at hand yet: of a matrix that lies by columns."""
    for part in counts.parts:
        sample = np.asarray(part.values[:SAMPLE]).astype(np.float64) if not part.cells else np.empty(0)
        wrong = ~(sample >= 0) | np.isinf(sample)
        if wrong.any():
            raise InputError(
                f"{part.name} has the value {sample[np.argmax(wrong)]:g} among its first ones; counts are finite "
                f"numbers from 0 on{_remedy(part)}"
            )


def _scale_of(counts: Counts, spec: TokenizeSpec) -> Scale:
    base = (spec.log_base or counts.log_base or math.e) if spec.values == "log1p" else None
    sample = np.asarray(counts.values[:SAMPLE], np.float64)
    sample = sample[sample > 0]
    if not len(sample) or not np.isfinite(sample).all():
        return Scale(base, [])
    if base is None:
        return Scale(None, _check_counts(sample, counts))
    if sample.max() * math.log(base) > MOST_LOGARITHM:
        raise InputError(
            f"{counts.name} holds values up to {sample.max():.4g}, which are not logarithms of counts"
            f"{_to_base(base)}; set tokenize.values: counts{'' if base == math.e else ', or tokenize.log_base'}"
        )
    return Scale(base, _check_base(base, counts, spec))


def _check_counts(sample: np.ndarray, counts: Counts) -> list[str]:
    most, share = sample.max(), fractions(sample) / len(sample)
    if share <= 0.5 or not counts.cells:
        return []
    total = _equal_totals(counts, None)
    if total is not None:
        return [f"the values were normalised before: each cell adds up to {total:,.6g}; n_counts is that sum"]
    if most < MOST_LOGARITHM:
        raw = ", or tokenize.layer: raw if counts lie there" if counts.has_raw else ""
        said = "" if counts.log_base is None else f" (uns/log1p says so, with base {counts.log_base:.4g})"
        raise InputError(
            f"{counts.name} holds fractions up to {most:.4g}: they look like logarithms, not counts{said}; set "
            f"tokenize.values: log1p if they are log(1 + x){raw}"
        )
    return []


def _check_base(base: float, counts: Counts, spec: TokenizeSpec) -> list[str]:
    """Cells that were scaled to one sum show which base their logarithms have."""
    if counts.cells and _equal_totals(counts, base) is None:
        for other in BASES:
            if not math.isclose(other, base) and _equal_totals(counts, other) is not None:
                by = "tokenize.log_base" if spec.log_base else "uns/log1p" if counts.log_base else "the default"
                raise InputError(
                    f"{counts.name} holds logarithms of base {_name(other)}: with it all cells add up to the same sum, "
                    f"with base {_name(base)} ({by}) they do not; set tokenize.log_base: {other:.12g}"
                )
    where = "" if spec.log_base else " (uns/log1p)" if counts.log_base else ""
    return [] if math.isclose(base, math.e) else [f"the values are read as logarithms of base {_name(base)}{where}"]


def _name(base: float | None) -> str:
    return "none" if base is None else "e" if math.isclose(base, math.e) else f"{base:.6g}"


def _to_base(base: float) -> str:
    return "" if math.isclose(base, math.e) else f" to the base {_name(base)}"


def _equal_totals(counts: Counts, base: float | None) -> float | None:
    """The sum that the first cells share when their values are taken so; None where they differ."""
    chunk = next(counts.chunks(SAMPLED_CELLS))
    values = chunk.values.astype(np.float64)
    with np.errstate(over="ignore"):
        values = values if base is None else np.expm1(values * math.log(base))
    totals = np.bincount(chunk.cell_of_values(), weights=values)
    totals = totals[totals != 0]
    if len(totals) < 3 or not np.isfinite(totals).all():
        return None
    middle = float(np.median(totals))
    return middle if np.abs(totals - middle).max() <= EQUAL_TOTALS * abs(middle) else None


def checked(chunk: Chunk, counts: Counts, base: float | None) -> np.ndarray:
    """The chunk's counts, float64[n]: finite and not negative, out of their logarithm, nearly whole ones made whole."""
    values = chunk.values.astype(np.float64)
    if not (values.min(initial=0) >= 0 and values.max(initial=0) < np.inf):
        _refuse(~(values >= 0) | np.isinf(values), values, chunk, counts)
    if base is not None:
        with np.errstate(over="ignore"):
            values = np.expm1(values if base == math.e else values * math.log(base))
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
    name, row = counts.place_of(cell)
    raise InputError(
        f"{name} has the value {values[place]:g} for gene '{counts.genes[chunk.columns[place]]}' of cell "
        f"'{counts.cell_name(cell)}' (row {row}); counts are finite numbers from 0 on{_remedy(counts)}"
    )


def _remedy(counts: Counts) -> str:
    return "; scaled values cannot be used, tokenize.layer: raw may hold counts" if counts.has_raw else ""
