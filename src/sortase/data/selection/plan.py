"""Between the passes: which classes stay and where the caps cut, decided once from counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.compute as pc

from ...config.prepare import DataSpec
from ...errors import InputError
from ...types import Map
from ..source import rows_of
from .filters import Filter, Thresholds, add_up, boundaries, holdings, thresholds
from .passes import Classes, CountUnit, ExactUnit, Quotas, Rows, UnitCounts


@dataclass(frozen=True)
class Counts:
    """Rows of each class over the whole source: all, past the filters, and of these the ones with tokens.

    ``ruled``: the latter of each label that has a rule.
    """

    input: Classes
    filtered: Classes
    filled: Classes
    ruled: Classes
    units: tuple[UnitCounts, ...]


@dataclass(frozen=True)
class Decision:
    """``names`` are the classes with rows left (None among them: rows that need no class)."""

    names: tuple[str | None, ...]
    quotas: Quotas
    steps: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def step(name: str, classes: Classes) -> dict[str, Any]:
    named = sorted((item for item in classes.items() if item[0] is not None and item[1]), key=lambda item: str(item[0]))
    return {"step": name, "rows": sum(classes.values()), "per_class": dict(named)}


def count_rows(rows: Rows, data: DataSpec, run: Map) -> Counts:
    """The first pass. Refuses a source without rows, and filters that leave none."""
    source = rows.source
    if rows_of(source) == 0:
        raise InputError(f"{source.name} has no row")
    capped = data.max_examples is not None or data.max_examples_per_class is not None
    units = tuple(run(CountUnit(rows, capped), source.units))
    totals: list[Classes] = [Counter(), Counter(), Counter(), Counter()]
    for unit in units:
        for total, part in zip(totals, (unit.input, unit.filtered, unit.filled, unit.ruled), strict=True):
            total.update(part)
    if not totals[1]:
        held = "; ".join(_holds(rows, condition) for condition in rows.filters)
        raise InputError(f"data.filter leaves none of {rows_of(source)} rows: {held}")
    if not totals[2]:
        raise InputError(f"{source.name} has no row with a token in 'input_ids'")
    return Counts(totals[0], totals[1], totals[2], totals[3], units)


def _holds(rows: Rows, condition: Filter) -> str:
    found: set[Any] = set()
    for unit in rows.source.units:
        for batch in rows.source.read(unit, [condition.column]):
            found.update(pc.unique(batch.column(condition.column)).to_pylist())
    feature = rows.source.features.get(condition.column)
    names = feature.get("names") if isinstance(feature, dict) else None
    shown = [names[v] if names and isinstance(v, int) and 0 <= v < len(names) else v for v in found]
    asked = [names[v] if names and v is not None else v for v in condition.allowed.to_pylist()]
    return f"column '{condition.column}' holds {holdings(sorted(shown, key=str))}, asked for {holdings(asked)}"


def decide(rows: Rows, data: DataSpec, counts: Counts, run: Map) -> Decision:
    """Drop rows without a label and rare classes, and cut at the caps."""
    steps, notes = [step("input", counts.input), step("filter", counts.filtered)], []
    if empty := sum(counts.filtered.values()) - sum(counts.filled.values()):
        steps.append(step("no tokens", counts.filled))
        notes.append(f"{empty} rows have no token and were dropped")
    kept = counts.filled
    if rows.rename:
        kept = _ruled(rows, kept, counts.ruled, notes)
        steps.append(step("labels.rename", kept))
    kept = _with_label(rows, kept, notes)
    steps.append(step("label missing", kept))
    kept = _common(kept, data.rare_threshold, notes)
    steps.append(step("rare classes", kept))
    names = sorted(kept, key=lambda name: (name is None, name or ""))
    cut = _cut(rows, data, counts, names, run)
    of_both: Classes = Counter(kept)
    if cut is None:
        quotas = Quotas.unlimited(names)
        steps += [step("global cap", kept), step("cap per class", kept)]
    else:
        quotas = Quotas({n: int(min(cut.overall, own)) for n, own in zip(names, cut.of_class, strict=True)})
        of_both = _classes(names, cut.after_both)
        steps += [step("global cap", _classes(names, cut.after_overall)), step("cap per class", of_both)]
    lost = [name for name in names if not of_both[name]]
    cap = f"max_examples={data.max_examples}"
    notes += [f"class '{name}' ({kept[name]} rows) has no row left after {cap}" for name in lost]
    return Decision(tuple(n for n in names if n not in lost), quotas, tuple(steps), tuple(notes))


def _classes(names: Sequence[str | None], rows: np.ndarray) -> Classes:
    return Counter(dict(zip(names, rows.tolist(), strict=True)))


def _with_label(rows: Rows, classes: Classes, notes: list[str]) -> Classes:
    if not rows.required:
        return classes
    if classes[None]:
        notes.append(f"{classes[None]} rows have no label in column '{rows.column}' and were dropped")
    kept: Classes = Counter({name: n for name, n in classes.items() if name is not None})
    if not kept:
        raise InputError(f"column '{rows.column}' has no label in any of the {sum(classes.values())} rows left")
    odd = [
        f"class '{n}' ({kept[n]} rows)" for n in kept if str(n).strip().lower() in ("nan", "none", "null", "na", "<na>")
    ]
    plain: dict[str, list[str]] = {}
    for name in kept:
        plain.setdefault(str(name).strip(), []).append(str(name))
    notes += [
        f"classes {', '.join(map(repr, sorted(same)))} differ by blanks alone; labels.rename makes one of them"
        for same in plain.values()
        if len(same) > 1
    ]
    notes += [
        f"{words} looks like a missing value but is text; filter its rows away if they have no label" for words in odd
    ]
    return kept


def _ruled(rows: Rows, classes: Classes, ruled: Classes, notes: list[str]) -> Classes:
    """Without the labels that ``labels.rename`` drops; says what became of each label that it names."""
    for old, new in sorted(rows.rename.items()):
        became = "was dropped" if new is None else f"counts as class '{new}'"
        notes.append(
            f"label '{old}' ({ruled[old]} rows) {became} by labels.rename"
            if ruled[old]
            else f"labels.rename names '{old}', which does not occur"
        )
    dropped = {old for old, new in rows.rename.items() if new is None}
    kept: Classes = Counter({name: n for name, n in classes.items() if name not in dropped})
    if not any(kept.values()):
        raise InputError(f"labels.rename drops all {sum(classes.values())} rows left: {holdings(sorted(dropped))}")
    return kept


def _common(classes: Classes, threshold: float, notes: list[str]) -> Classes:
    """Without named classes that make up less than the threshold."""
    total = sum(classes.values())
    rare = [name for name, n in classes.items() if name is not None and n / total < threshold]
    for name in sorted(rare, key=str):
        share = 100 * classes[name] / total
        notes.append(f"class '{name}' ({classes[name]} rows, {share:.2g} %) fell below rare_threshold {threshold}")
    kept = Counter({name: n for name, n in classes.items() if name not in rare})
    if not kept:
        raise InputError(
            f"rare_threshold {threshold} leaves no class; the most common one makes up "
            f"{max(classes.values()) / total:.3g} of {total} rows"
        )
    return kept


def _cut(rows: Rows, data: DataSpec, counts: Counts, names: Sequence[str | None], run: Map) -> Thresholds | None:
    """Where the caps cut; reads the priorities of a small part of the rows."""
    overall, per_class = data.max_examples, data.max_examples_per_class
    if overall is None and per_class is None:
        return None
    table = add_up((unit.buckets for unit in counts.units if unit.buckets is not None), names)
    where = boundaries(names, table, overall, per_class)
    exact: dict[str | None, list[np.ndarray]] = {name: [np.empty(0, np.uint64)] for name in names}
    if where.overall >= 0 or (where.of_class >= 0).any():
        for part in run(ExactUnit(rows, where), rows.source.units):
            for name, values in part.items():
                exact[name].append(values)
    return thresholds(table, where, [np.concatenate(exact[name]) for name in names], overall, per_class)
