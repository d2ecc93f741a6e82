"""Sequences that are (nearly) the same on two sides of a split, which make a test result look better than it is.

Copies are found whatever the size of the data. Near-duplicates (Jaccard similarity of at least `SIMILAR`) are looked
for with MinHash (Broder 1997) and locality-sensitive hashing among at most `MOST_TOKENS` tokens' worth of rows. A row
is the set of its tokens when no token repeats in it, as in ranked genes; else of its runs of `SHINGLE` tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from .labels import flat_tokens, lengths_of
from .select import priorities, splitmix64
from .source import Source, rows_of
from .split import SIDES

SIMILAR = 0.9
SHINGLE = 5
BANDS, WIDTH = 10, 8
MOST_TOKENS = 16_000_000
MOST_ROWS = 50_000
PARTNERS = 4
EXAMPLES = 20
_ENDS = 8


@dataclass(frozen=True)
class _Sample:
    """Some rows' sequences, flat: ``tokens[starts[i]:starts[i] + lengths[i]]`` are those of ``rows[i]``."""

    rows: np.ndarray
    tokens: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray

    def row(self, i: int) -> np.ndarray:
        return self.tokens[self.starts[i] : self.starts[i] + self.lengths[i]]


def audit(source: Source, sides: np.ndarray, seed: int) -> dict[str, Any]:
    """Copies and near-duplicates across sides. ``sides[row]`` is a place in `SIDES`.

    ``crossing`` counts rows of later sides (validation, test) that resemble a row of an earlier one; ``examples`` are
    [row, row, similarity].
    """
    keys, lengths = _keys(source)
    copies = _copies(source, keys, lengths, sides)
    sample = _read(source, _chosen(lengths, seed))
    repeats = any(len(np.unique(sample.row(i))) < sample.lengths[i] for i in range(min(200, len(sample.rows))))
    items = _shingles(sample) if repeats else sample
    near = _near(items, sides[sample.rows])
    found = dict.fromkeys(copies, 1.0)
    found.update({pair: similarity for pair, similarity in near.items() if pair not in found})
    examples = sorted(found.items(), key=lambda item: (-item[1], item[0]))[:EXAMPLES]
    return {
        "checked": len(sample.rows),
        "rows": rows_of(source),
        "measure": f"runs of {SHINGLE} tokens" if repeats else "sets of tokens",
        "similarity": SIMILAR,
        "copies": len({b for _, b in copies}),
        "crossing": len({b for _, b in found}),
        "examples": [[a, b, round(similarity, 4)] for (a, b), similarity in examples],
    }


def _keys(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """A hash of the length and the first and last tokens of each row, and its length: equal for copies."""
    keys, all_lengths = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for unit in source.units:
        for batch in source.read(unit, ["input_ids"]):
            column = batch.column("input_ids")
            flat, lengths = flat_tokens(column), lengths_of(column)
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
        place = np.arange(len(part.tokens)) - np.repeat(part.starts, part.lengths)
        mixed = splitmix64(part.tokens.astype(np.uint64) ^ (splitmix64(place)))
        parts.append(np.add.reduceat(mixed, part.starts))
    return np.concatenate(parts)


def _chosen(lengths: np.ndarray, seed: int) -> np.ndarray:
    """All rows, or as many as fit, drawn at random, in ascending order."""
    order = np.argsort(priorities(0, len(lengths), seed))
    fitting = np.searchsorted(np.cumsum(lengths[order]), MOST_TOKENS, side="right")
    chosen = np.sort(order[: min(int(fitting), MOST_ROWS)])
    return chosen[lengths[chosen] > 0]


def _parts(source: Source, rows: np.ndarray) -> Any:
    """These rows' sequences, batch by batch."""
    start = 0
    for unit in source.units:
        lower, upper = np.searchsorted(rows, [unit.start, unit.start + unit.rows])
        if lower == upper:
            continue
        start = unit.start
        for batch in source.read(unit, ["input_ids"]):
            lower, upper = np.searchsorted(rows, [start, start + batch.num_rows])
            if lower < upper:
                column = batch.column("input_ids").take(pa.array(rows[lower:upper] - start))
                lengths = lengths_of(column)
                yield _Sample(rows[lower:upper], flat_tokens(column), np.cumsum(lengths) - lengths, lengths)
            start += batch.num_rows


def _read(source: Source, rows: np.ndarray) -> _Sample:
    parts = list(_parts(source, rows))
    lengths = np.concatenate([np.empty(0, np.int64), *(part.lengths for part in parts)])
    tokens = np.concatenate([np.empty(0, np.int64), *(part.tokens.astype(np.int64) for part in parts)])
    return _Sample(rows, tokens, np.cumsum(lengths) - lengths, lengths)


def _shingles(sample: _Sample) -> _Sample:
    """Every run of `SHINGLE` tokens as one number; rows shorter than that are one shingle."""
    tokens = sample.tokens.astype(np.uint64)
    mixed = splitmix64(tokens)
    for step in range(1, SHINGLE):
        mixed[: len(tokens) - step] = splitmix64(mixed[: len(tokens) - step] ^ tokens[step:])
    lengths = np.maximum(1, sample.lengths - SHINGLE + 1)
    place = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    flat = mixed[np.repeat(sample.starts, lengths) + place]
    return _Sample(sample.rows, flat.view(np.int64), np.cumsum(lengths) - lengths, lengths)


def _signatures(items: _Sample) -> np.ndarray:
    """MinHash ``[rows, BANDS * WIDTH]``, uint32."""
    lowest, highest = items.tokens.min(), items.tokens.max()
    if lowest >= 0 and highest < len(items.tokens):
        values, inverse = np.arange(highest + 1), items.tokens
    else:
        values, inverse = np.unique(items.tokens, return_inverse=True)
    base = splitmix64(values.view(np.uint64))
    found = np.empty((len(items.rows), BANDS * WIDTH), dtype=np.uint32)
    for i in range(BANDS * WIDTH):
        hashed = (splitmix64(base + np.uint64(i)) >> np.uint64(32)).astype(np.uint32)
        found[:, i] = np.minimum.reduceat(hashed[inverse], items.starts)
    return found


def _near(items: _Sample, sides: np.ndarray) -> dict[tuple[int, int], float]:
    """Pairs across sides that are similar enough, with their similarity; a row meets few rows of each band."""
    if len(items.rows) < 2:
        return {}
    signatures = _signatures(items)
    pairs = [np.empty((0, 2), np.int64)]
    for band in range(BANDS):
        key = np.zeros(len(items.rows), dtype=np.uint64)
        for i in range(WIDTH):
            key = splitmix64(key ^ signatures[:, band * WIDTH + i])
        pairs += _pairs(key, sides)
    candidates = np.unique(np.concatenate(pairs), axis=0)
    likely = candidates[_agreement(signatures, candidates) >= SIMILAR - 0.1]
    found = {}
    for a, b in likely.tolist():
        similarity = _jaccard(items.row(a), items.row(b))
        if similarity >= SIMILAR:
            found[int(items.rows[a]), int(items.rows[b])] = similarity
    return found


def _agreement(signatures: np.ndarray, pairs: np.ndarray, step: int = 100_000) -> np.ndarray:
    parts = [pairs[i : i + step] for i in range(0, len(pairs), step)]
    return np.concatenate([np.empty(0), *((signatures[p[:, 0]] == signatures[p[:, 1]]).mean(axis=1) for p in parts)])


def _pairs(key: np.ndarray, sides: np.ndarray) -> list[np.ndarray]:
    """(row of an earlier side, row of a later side) that share a bucket; at most `PARTNERS` for a later row."""
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


def _jaccard(a: np.ndarray, b: np.ndarray) -> float:
    common = len(np.intersect1d(a, b))
    return common / (len(np.unique(a)) + len(np.unique(b)) - common)
