"""Which side, train, validation or test, each row or each labelled token is on; the same on every machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ... import storage
from ...config.prepare import SplitSpec
from ...errors import InputError
from ..arrow_lists import flat_tokens
from ..hashing import priorities
from ..labels import row_classes
from ..padding import own, token_columns
from ..selection.filters import holdings
from ..sequences import IGNORED
from ..source import Source, require_column, rows_of
from .groups import assign_groups

SIDES = ("train", "validation", "test")
_OTHER_NAMES = {"val": "validation", "valid": "validation", "dev": "validation"}
_SALT = 0x5B117


@dataclass(frozen=True)
class Split:
    """``sides[i]`` (place in `SIDES`, int8) is where ``members[i]``, a row or a token id, belongs."""

    strategy: str
    unit: str
    members: np.ndarray
    sides: np.ndarray
    summary: dict[str, Any]

    def write(self, url: str) -> None:
        """Write split.parquet: columns ``row`` or ``token``, and ``side``."""
        side = pa.DictionaryArray.from_arrays(pa.array(self.sides.astype(np.int32)), pa.array(SIDES)).cast(pa.string())
        table = pa.table({self.unit: pa.array(self.members.astype(np.int64)), "side": side})
        with storage.open_output(url) as file:
            pq.write_table(table.replace_schema_metadata({"sortase.strategy": self.strategy}), file)


def make_split(
    source: Source, spec: SplitSpec, seed: int, stratify: str | None = None, label_column: str | None = None
) -> Split:
    """Divide the rows of a dataset, or with strategy ``token`` the tokens that ``label_column`` labels.

    ``stratify`` names the column of the classes that are to be balanced.
    """
    if spec.strategy == "token":
        tokens, labels = labelled_tokens(source, label_column or "labels")
        return split_tokens(tokens, labels, {}, spec, seed)
    names, codes = column_classes(source, stratify) if stratify else ([None], np.zeros(rows_of(source), np.int64))
    return split_rows(source, names, codes, spec, seed)


def split_rows(source: Source, names: Sequence[str | None], codes: np.ndarray, spec: SplitSpec, seed: int) -> Split:
    """``names[codes[row]]`` is the class of a row."""
    groups: tuple[list[str | None], np.ndarray] | None = None
    if spec.column is not None:
        require_column(source, spec.column, f"split strategy {spec.strategy}")
        groups = column_classes(source, spec.column)
    fractions = _fractions(spec)
    if spec.strategy == "column" and groups is not None:
        sides = _given_sides(spec, *groups)
    elif spec.strategy == "group" and groups is not None:
        sides = assign_groups(codes, groups[1], fractions, priorities(0, len(groups[0]), seed ^ _SALT), spec.column)
    else:
        sides = stratified(codes, fractions, priorities(0, len(codes), seed ^ _SALT))
    summary = _summary(spec, names, codes, sides, seed, groups)
    return Split(spec.strategy, "row", np.arange(len(codes), dtype=np.int64), sides, summary)


def split_tokens(
    tokens: np.ndarray, labels: np.ndarray, class_names: Mapping[int, str], spec: SplitSpec, seed: int
) -> Split:
    """Hold out labelled tokens, stratified by class. ``tokens`` are distinct ids, ``labels`` their class ids."""
    order = np.argsort(tokens)
    tokens, labels = tokens[order], labels[order]
    ids, codes = np.unique(labels, return_inverse=True)
    sides = stratified(codes, _fractions(spec), priorities(0, len(tokens), seed ^ _SALT))
    names = [class_names.get(int(i), str(i)) for i in ids]
    summary = _summary(spec, names, codes, sides, seed, None, "token")
    return Split(spec.strategy, "token", tokens, sides, summary)


def column_classes(source: Source, column: str) -> tuple[list[str | None], np.ndarray]:
    """Names in a column and, for every row, the place of its name."""
    feature: Any = source.features.get(column)
    class_names = feature.get("names") if isinstance(feature, dict) else None
    place: dict[str | None, int] = {}
    parts = [np.empty(0, dtype=np.int64)]
    for unit in source.units:
        for batch in source.read(unit, [column]):
            names, codes = row_classes(batch.column(column), class_names)
            parts.append(np.array([place.setdefault(name, len(place)) for name in names], dtype=np.int64)[codes])
    codes = np.concatenate(parts)
    found = np.bincount(codes, minlength=len(place)) > 0
    present = sorted((name for name, n in place.items() if found[n]), key=lambda name: (name is None, name or ""))
    table = np.zeros(max(1, len(place)), dtype=np.int64)
    table[[place[name] for name in present]] = np.arange(len(present))
    return list(present), table[codes]


def labelled_tokens(source: Source, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Distinct token ids that have a label, and their class ids; a token with two labels cannot be held out."""
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for unit in source.units:
        for batch in source.read(unit, [*token_columns(source.schema.names), column]):
            tokens, labels = flat_tokens(own(batch)), flat_tokens(own(batch, column))
            some = labels != IGNORED
            pairs.append(np.unique(np.stack([tokens[some], labels[some]], axis=1).astype(np.int64), axis=0))
    found = np.unique(np.concatenate(pairs), axis=0)
    twice = found[1:, 0][np.diff(found[:, 0]) == 0]
    if len(twice):
        raise InputError(
            f"token {twice[0]} has different labels in different places; strategy token needs one label a token, "
            "use strategy random or group"
        )
    return found[:, 0], found[:, 1]


def _fractions(spec: SplitSpec) -> np.ndarray:
    """Of each side, in the order of `SIDES`."""
    return np.array([1 - spec.test_size - spec.validation_size, spec.validation_size, spec.test_size])


def stratified(codes: np.ndarray, fractions: np.ndarray, priority: np.ndarray) -> np.ndarray:
    """Side of each unit: every class is divided by the fractions, and has a unit on both train and test if it can."""
    counts = np.bincount(codes)
    test = np.rint(counts * fractions[2]).astype(np.int64)
    if fractions[2] > 0:
        test = np.clip(test, np.minimum(1, counts - 1), np.maximum(counts - 1, 0)).clip(min=0)
    validation = np.rint(counts * fractions[1]).astype(np.int64)
    if fractions[1] > 0:
        validation = np.maximum(validation, 1)
    validation = np.clip(validation, 0, np.maximum(counts - test - 1, 0))
    order = np.lexsort((priority, codes))
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.where(rank < test[codes], 2, np.where(rank < (test + validation)[codes], 1, 0)).astype(np.int8)


def _given_sides(spec: SplitSpec, names: Sequence[str | None], codes: np.ndarray) -> np.ndarray:
    table = np.array([_side_of(name, spec) for name in names], dtype=np.int8)
    for side, values in (spec.sides or {}).items():
        absent = [value for value in values if str(value) not in names]
        if absent:
            raise InputError(
                f"split.sides.{side} names {absent[0]!r}, which column '{spec.column}' does not hold; "
                f"it has {holdings(names)}"
            )
    sides = table[codes]
    for side in ("train", "test"):
        if not (sides == SIDES.index(side)).any():
            raise InputError(f"column '{spec.column}' puts no row on the {side} side; it has {holdings(names)}")
    return sides


def _side_of(name: str | None, spec: SplitSpec) -> int:
    if spec.sides is None:
        if name is not None and (side := _OTHER_NAMES.get(name, name)) in SIDES:
            return SIDES.index(side)
        raise InputError(
            f"column '{spec.column}' holds {name!r}, which is not a side ({', '.join(SIDES)}); say in split.sides "
            "which values make up each side"
        )
    found = [side for side, values in spec.sides.items() if name is not None and name in map(str, values)]
    if len(found) != 1:
        where = "no side" if not found else " and ".join(found)
        raise InputError(
            f"value {name!r} of column '{spec.column}' is on {where} in split.sides; put it on one, or filter it"
        )
    return SIDES.index(found[0])


def _summary(
    spec: SplitSpec,
    names: Sequence[str | None],
    codes: np.ndarray,
    sides: np.ndarray,
    seed: int,
    groups: tuple[list[str | None], np.ndarray] | None,
    unit: str = "row",
) -> dict[str, Any]:
    table = np.zeros((len(SIDES), len(names)), dtype=np.int64)
    np.add.at(table, (sides, codes), 1)
    shown = [name for name in names if name is not None]
    described = {
        side: {
            "rows": int(table[i].sum()),
            "per_class": {name: int(table[i][names.index(name)]) for name in shown},
        }
        for i, side in enumerate(SIDES)
    }
    return {
        "strategy": spec.strategy,
        "column": spec.column,
        "seed": seed,
        "unit": unit,
        "sides": described,
        "groups": _crossing(spec, sides, groups),
        "near_duplicates": None,
        "missing": _missing(spec, names, codes, table, groups, unit),
    }


def _crossing(
    spec: SplitSpec, sides: np.ndarray, groups: tuple[list[str | None], np.ndarray] | None
) -> dict[str, int | None]:
    if groups is None or spec.strategy == "column":
        return {"count": None, "crossing": None}
    on = np.zeros((len(groups[0]), len(SIDES)), dtype=bool)
    on[groups[1], sides] = True
    return {"count": len(groups[0]), "crossing": int((on.sum(axis=1) > 1).sum())}


def _missing(
    spec: SplitSpec,
    names: Sequence[str | None],
    codes: np.ndarray,
    table: np.ndarray,
    groups: tuple[list[str | None], np.ndarray] | None,
    unit: str,
) -> list[dict[str, str]]:
    """Classes that a wanted side lacks, and why."""
    given = spec.strategy == "column"
    wanted = (True, spec.validation_size > 0 and not given, spec.test_size > 0 or given)
    found = []
    for i, name in enumerate(names):
        for side, want, counts in zip(SIDES, wanted, table, strict=True):
            if name is not None and want and not counts[i]:
                total = int(table[:, i].sum())
                why = f"{total} {unit}{'s' if total != 1 else ''}"
                if groups is not None:
                    n = len(np.unique(groups[1][codes == i]))
                    why += f" in {n} value{'s' if n != 1 else ''} of column '{spec.column}'"
                found.append({"class": name, "side": side, "why": why})
    return found
