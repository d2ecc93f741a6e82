"""Sequences that are (nearly) the same on two sides of a split, which make a test result look better than it is.

Copies are found whatever the size of the data. Near-duplicates (Jaccard similarity of at least `SIMILAR`) are looked
for among at most `MOST_TOKENS` tokens' worth of rows, by MinHash with one permutation (Li, Owen, Zhang 2012; empty bins
take their neighbour's value: Shrivastava, Li 2014) and locality-sensitive hashing. A row is the set of its tokens when
tokens do not repeat, as in ranked genes; else the set of its runs of `SHINGLE` tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..arrow_lists import flat_tokens, lengths_of
from ..hashing import priorities, splitmix64
from ..padding import own, own_tokens, token_columns
from ..source import Source, rows_of
from .split import SIDES

SIMILAR = 0.9
SHINGLE = 5
BANDS, WIDTH = 10, 8
MOST_TOKENS = 100_000_000
MOST_ROWS = 500_000
MOST_PAIRS = 5_000
PARTNERS = 4
EXAMPLES = 20
_ENDS = 8
_EMPTY = np.uint32(2**32 - 1)


@dataclass(frozen=True)
class _Items:
    """Some rows, flat: ``values[starts[i]:starts[i] + lengths[i]]`` are the tokens, or their runs, of ``rows[i]``."""

    rows: np.ndarray
    values: np.ndarray
    lengths: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.lengths) - self.lengths

    def each(self) -> list[np.ndarray]:
        return np.split(self.values, self.starts[1:])


def audit(source: Source, sides: np.ndarray, seed: int) -> dict[str, Any]:
    """Copies and near-duplicates across sides. ``sides[row]`` is a place in `SIDES`.

    ``crossing`` counts rows of later sides (validation, test) that resemble a row of an earlier one; ``examples`` are
    [row, row, similarity]. ``unverified`` rows have a partner that looked similar, but there were too many to compare.
    """
    keys, lengths = _keys(source)
    copies = _copies(source, keys, lengths, sides)
    chosen = _chosen(lengths, seed)
    runs = _repeats(source, chosen)
    likely = chosen[_likely(_signatures(source, chosen, runs), sides[chosen])]
    likely = likely[~np.isin(likely[:, 1], [b for _, b in copies])]
    found = dict.fromkeys(copies, 1.0)
    found.update(_verified(source, likely[:MOST_PAIRS], runs))
    examples = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]
    return {
        "checked": len(chosen),
        "rows": rows_of(source),
        "measure": f"runs of {SHINGLE} tokens" if runs else "sets of tokens",
        "similarity": SIMILAR,
        "copies": len({b for _, b in copies}),
        "crossing": len({b for _, b in found}),
        "unverified": len(likely[MOST_PAIRS:]),
        "examples": [[a, b, round(similarity, 4)] for (a, b), similarity in examples],
    }


def _keys(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """A hash of the length and the first and last tokens of each row, and its length: equal for copies."""
    keys, all_lengths = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for unit in source.units:
        for batch in source.read(unit, token_columns(source.schema.names)):
            flat, lengths = own_tokens(batch)
            stops = np.cumsum(lengths)
            key = splitmix64(lengths)
            for step in range(_ENDS):
                for place in (stops - lengths + step, stops - 1 - step):
                    value = flat[np.clip(place, 0, max(0, len(flat) - 1))] if len(flat) else np.zeros(len(lengths))
                    key = splitmix64(key ^ np.where(step < lengths, value, -1).astype(np.int64).view(np.uint64))
            keys.append(key)
            all_lengths.append(lengths)
    return np.concatenate(keys), np.concatenate(all_lengths)


def _copies(source: Source, keys: np.ndarray, lengths: np.ndarray, sides: np.ndarray) -> set[tuple[int, int]]:
    """(row of an earlier side, row of a later side) with the same tokens in the same order."""
    _, inverse, counts = np.unique(keys, return_inverse=True, return_counts=True)
    first = np.full(len(counts), len(SIDES), dtype=np.int8)
    np.minimum.at(first, inverse, sides)
    last = np.full(len(counts), -1, dtype=np.int8)
    np.maximum.at(last, inverse, sides)
    candidates = np.flatnonzero((counts > 1)[inverse] & (first != last)[inverse] & (lengths > 0))
    hashes = _hashes(source, candidates)
    return _link(candidates, hashes, sides[candidates])


def _link(rows: np.ndarray, hashes: np.ndarray, sides: np.ndarray) -> set[tuple[int, int]]:
    """Each row of a later side with the first row of equal hash on the earliest side."""
    order = np.lexsort((rows, sides, hashes))
    rows, hashes, sides = rows[order], hashes[order], sides[order]
    _, starts, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    head = starts[inverse]
    later = sides > sides[head] if len(rows) else np.zeros(0, dtype=bool)
    return set(zip(rows[head][later].tolist(), rows[later].tolist(), strict=True))


def _hashes(source: Source, rows: np.ndarray) -> np.ndarray:
    """A hash of all tokens and their order, of these (ascending) rows."""
    parts = [np.empty(0, np.uint64)]
    for part in _parts(source, rows):
        place = np.arange(len(part.values)) - np.repeat(part.starts, part.lengths)
        mixed = splitmix64(part.values.astype(np.uint64) ^ (splitmix64(place)))
        parts.append(np.add.reduceat(mixed, part.starts))
    return np.concatenate(parts)


def _chosen(lengths: np.ndarray, seed: int) -> np.ndarray:
    """All rows, or as many as fit, drawn at random, in ascending order."""
    order = np.argsort(priorities(0, len(lengths), seed))
    fitting = np.searchsorted(np.cumsum(lengths[order]), MOST_TOKENS, side="right")
    chosen = np.sort(order[: min(int(fitting), MOST_ROWS)])
    return chosen[lengths[chosen] > 0]


def _parts(source: Source, rows: np.ndarray, runs: bool = False) -> Iterator[_Items]:
    """These (ascending) rows' tokens or runs, batch by batch."""
    for unit in source.units:
        lower, upper = np.searchsorted(rows, [unit.start, unit.start + unit.rows])
        if lower == upper:
            continue
        start = unit.start
        for batch in source.read(unit, token_columns(source.schema.names)):
            lower, upper = np.searchsorted(rows, [start, start + batch.num_rows])
            if lower < upper:
                column = own(batch)
                column = column if upper - lower == len(column) else column.take(pa.array(rows[lower:upper] - start))
                items = _Items(rows[lower:upper], flat_tokens(column), lengths_of(column))
                yield _runs(items) if runs else items
            start += batch.num_rows


def _repeats(source: Source, rows: np.ndarray, most: int = 200) -> bool:
    """Whether tokens repeat within rows, in most of the first ones: then their order tells rows apart."""
    repeated = [
        len(np.unique(values)) < 0.98 * len(values) for part in _parts(source, rows[:most]) for values in part.each()
    ]
    return sum(repeated) > len(repeated) / 2


def _runs(items: _Items) -> _Items:
    """Every run of `SHINGLE` tokens as one number (a polynomial in their hashes); shorter rows are one run."""
    mixed = splitmix64(items.values.astype(np.uint64))
    runs = mixed.copy()
    for step in range(1, SHINGLE):
        runs[:-step] = runs[:-step] * np.uint64(0x9E3779B97F4A7C15) + mixed[step:]
    lengths = np.maximum(1, items.lengths - SHINGLE + 1)
    within = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return _Items(items.rows, runs[np.repeat(items.starts, lengths) + within], lengths)


def _signatures(source: Source, rows: np.ndarray, runs: bool) -> np.ndarray:
    """MinHash ``[rows, BANDS * WIDTH]``, uint32: of each bin of hashes the smallest that the row has."""
    bins = BANDS * WIDTH
    found = np.full((len(rows), bins), _EMPTY, dtype=np.uint32)
    first = 0
    for part in _parts(source, rows, runs):
        mine = found[first : first + len(part.rows)].reshape(-1)
        hashed = splitmix64(part.values)
        cell = np.repeat(np.arange(len(part.rows)) * bins, part.lengths)
        cell += ((hashed >> np.uint64(32)) % np.uint64(bins)).astype(np.int64)
        np.minimum.at(mine, cell, hashed.astype(np.uint32))
        first += len(part.rows)
    return _densified(found)


def _densified(signatures: np.ndarray) -> np.ndarray:
    """Empty bins take the next filled one's value, changed by the distance so that only like gaps agree."""
    full = signatures.copy()
    for distance in range(1, signatures.shape[1]):
        empty = full == _EMPTY
        if not empty.any():
            break
        shifted = np.roll(signatures, -distance, axis=1)
        take = empty & (shifted != _EMPTY)
        full[take] = shifted[take] // 2 + np.uint32(distance)
    return full


def _likely(signatures: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Places ``[pairs, 2]`` (earlier side, later side): the partner that each row most probably resembles."""
    pairs = [np.empty((0, 2), np.int64)]
    for band in range(BANDS):
        key = np.zeros(len(signatures), dtype=np.uint64)
        for i in range(WIDTH):
            key = splitmix64(key ^ signatures[:, band * WIDTH + i])
        pairs += _pairs(key, sides)
    candidates = np.unique(np.concatenate(pairs), axis=0)
    agreement = _agreement(signatures, candidates)
    candidates, agreement = candidates[agreement >= SIMILAR - 0.1], agreement[agreement >= SIMILAR - 0.1]
    order = np.lexsort((-agreement, candidates[:, 1]))
    best = np.unique(candidates[order, 1], return_index=True)[1]
    return candidates[order][best][np.argsort(-agreement[order][best], kind="stable")]


def _agreement(signatures: np.ndarray, pairs: np.ndarray, step: int = 100_000) -> np.ndarray:
    """Fraction of bins in which the rows of a pair agree, an estimate of their similarity."""
    parts = [pairs[i : i + step] for i in range(0, len(pairs), step)]
    return np.concatenate([np.empty(0), *((signatures[p[:, 0]] == signatures[p[:, 1]]).mean(axis=1) for p in parts)])


def _pairs(key: np.ndarray, sides: np.ndarray) -> list[np.ndarray]:
    """(place on an earlier side, place on a later side) with the same key; at most `PARTNERS` for a later one."""
    found = []
    for early in range(len(SIDES) - 1):
        targets = np.flatnonzero(sides == early)
        targets = targets[np.argsort(key[targets], kind="stable")]
        later = np.flatnonzero(sides > early)
        lower = np.searchsorted(key[targets], key[later], side="left")
        many = np.searchsorted(key[targets], key[later], side="right") - lower
        for step in range(PARTNERS):
            has = many > step
            spread = (later[has] + step) % many[has]
            found.append(np.stack([targets[lower[has] + spread], later[has]], axis=1))
    return found


def _verified(source: Source, pairs: np.ndarray, runs: bool, step: int = 1000) -> dict[tuple[int, int], float]:
    """Similarity of the pairs of rows that are similar enough; ``pairs`` begin with the likeliest."""
    found = {}
    for some in (pairs[i : i + step] for i in range(0, len(pairs), step)):
        items: dict[int, np.ndarray] = {}
        for part in _parts(source, np.unique(some), runs):
            items.update(zip(part.rows.tolist(), map(_set, part.each()), strict=True))
        for a, b in some.tolist():
            similarity = _jaccard(items[a], items[b])
            if similarity >= SIMILAR:
                found[a, b] = similarity
    return found


def _set(values: np.ndarray) -> np.ndarray:
    """Distinct values in ascending order."""
    ordered = np.sort(values)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])]


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """Of two non-empty sets in ascending order."""
    common = int((b[np.searchsorted(b, a).clip(max=len(b) - 1)] == a).sum())
    return common / (len(a) + len(b) - common)
