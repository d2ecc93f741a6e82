"""What a run's prepared data look like, in a small JSON: what drift between generations of data is measured on."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .. import storage
from ..data.padding import own_tokens, token_columns
from ..data.source import Source, open_source, rows_of
from ..errors import ConfigError, InputError
from ..progress import Progress
from ..runs import layout
from ..runs.folder import RunFolder

FORMAT = 1
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_LENGTHS = 4096
MOST_TOKEN = 2**24


def profile(folder: RunFolder) -> dict[str, Any]:
    """Classes, lengths and tokens of all prepared rows; reads ``input_ids`` once, batch by batch.

    Raises:
        ConfigError: the run's stage prepare is not finished.
        InputError: a token id is negative or beyond any vocabulary.
    """
    described, config = folder.read(layout.PREPARED), (folder.described() or {}).get("config")
    if folder.mark("prepare") is None or described is None or config is None:
        raise ConfigError(f"stage 'prepare' of {folder.url} is not finished; run `sortase prepare` first")
    data = folder.data(config["run"]["prefix"])
    source = open_source(data.dataset)
    split = described.get("split")
    return {
        "format": FORMAT,
        "task": described["task"],
        "unit": "row" if described["task"] == "sequence" else "labelled token",
        "classes": described["units"],
        "sides": {side: found["per_class"] for side, found in split["sides"].items()} if split else None,
        "genes": _genes(folder.mark("tokenize")),
        **measured(source, _training_rows(data.split, rows_of(source))),
    }


def measured(source: Source, training: np.ndarray) -> dict[str, Any]:
    """Lengths and tokens of the rows; ``training`` is the mask of those that training reads."""
    counts = _count(source, training)
    return {"rows": len(training), "lengths": _lengths(counts.lengths), "tokens": _tokens(counts)}


@dataclass
class _Counts:
    """By length: rows. By token id: occurrences in all rows, and in the training rows."""

    lengths: np.ndarray
    tokens: np.ndarray
    training: np.ndarray


def _count(source: Source, training: np.ndarray) -> _Counts:
    total = _Counts(*(np.zeros(0, dtype=np.int64) for _ in range(3)))
    start = 0
    with Progress(len(training), "profile") as progress:
        for batch in _batches(source):
            tokens, lengths = own_tokens(batch)
            _check(tokens, source)
            shown = np.repeat(training[start : start + batch.num_rows], lengths)
            total.lengths = _added(total.lengths, np.bincount(lengths))
            total.tokens = _added(total.tokens, np.bincount(tokens))
            total.training = _added(total.training, np.bincount(tokens[shown]))
            start += batch.num_rows
            progress.update(batch.num_rows)
    return total


def _batches(source: Source) -> Iterator[pa.RecordBatch]:
    for unit in source.units:
        yield from source.read(unit, token_columns(source.schema.names))


def _check(tokens: np.ndarray, source: Source) -> None:
    lowest, highest = int(tokens.min(initial=0)), int(tokens.max(initial=0))
    if lowest < 0 or highest > MOST_TOKEN:
        wrong = lowest if lowest < 0 else highest
        raise InputError(f"{source.name} holds the token id {wrong}; ids are 0 to {MOST_TOKEN}")


def _added(total: np.ndarray, part: np.ndarray) -> np.ndarray:
    if len(part) > len(total):
        total, part = part, total
    total[: len(part)] += part
    return total


def _training_rows(split: str, rows: int) -> np.ndarray:
    """Mask of the rows that training reads: all of them where tokens were held out, not rows."""
    with storage.open_input(split) as file:
        table = pq.read_table(file)
    if "row" not in table.column_names:
        return np.ones(rows, dtype=bool)
    mask = np.zeros(rows, dtype=bool)
    mask[table.column("row").filter(pc.equal(table.column("side"), "train")).to_numpy()] = True
    return mask


def _lengths(counts: np.ndarray) -> dict[str, Any]:
    """Exact figures, and rows by length; neighbours are put together (under the longest) where there are too many."""
    values = np.flatnonzero(counts)
    rows = counts[values]
    total, tokens = int(rows.sum()), int((values * rows).sum())
    below = np.cumsum(rows)
    shown = np.unique(np.linspace(0, len(values) - 1, min(len(values), MOST_LENGTHS)).astype(np.int64))
    return {
        "min": int(values[0]),
        "max": int(values[-1]),
        "mean": round(tokens / total, 3),
        "quantiles": {f"{q:g}": int(values[np.searchsorted(below, q * total)]) for q in QUANTILES},
        "at_max": round(int(rows[-1]) / total, 6),
        "padding": round(1 - tokens / (total * int(values[-1])), 6),
        "values": _words(values[shown]),
        "rows": _words(np.diff(below[shown], prepend=0)),
    }


def _tokens(counts: _Counts) -> dict[str, Any]:
    """Ids seen and how often. ``once``: how many the training rows show once, which tells how much is still unseen."""
    seen = np.flatnonzero(counts.tokens)
    return {
        "distinct": len(seen),
        "occurrences": int(counts.tokens.sum()),
        "training_distinct": int(np.count_nonzero(counts.training)),
        "training_occurrences": int(counts.training.sum()),
        "once": int((counts.training == 1).sum()),
        "ids": pack(np.packbits(counts.tokens > 0)),
        "counts": pack(counts.tokens[seen].astype("<u8").view(np.uint8).reshape(-1, 8).T),
        "training_ids": pack(np.packbits(counts.training > 0)),
    }


def _genes(mark: Any) -> dict[str, int] | None:
    """What became of the genes of the counts, where the run made its tokens from counts."""
    result = (mark or {}).get("result") or {}
    names = ("cells", "dropped", "truncated", "genes", "known_genes", "genes_with_median", "unknown_genes")
    return {name: result[name] for name in names if name in result} if "genes" in result else None


def _words(values: np.ndarray) -> str:
    """Numbers as text: JSON would spend a line on each."""
    return " ".join(map(str, values.tolist()))


def numbers(words: str) -> np.ndarray:
    return np.array(words.split(), dtype=np.int64)


def pack(values: np.ndarray) -> str:
    """Bytes, compressed, as text. Numbers are best given byte by byte: most of the high ones are 0."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values, dtype=np.uint8).tobytes(), 9)).decode()


def token_counts(tokens: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Token ids that occur, in ascending order, and how often."""
    counts = np.ascontiguousarray(_unpacked(tokens["counts"]).reshape(8, -1).T).view("<u8").ravel()
    return _ids(tokens["ids"]), counts.astype(np.int64)


def training_ids(tokens: dict[str, Any]) -> np.ndarray:
    """Token ids that the training rows show."""
    return _ids(tokens["training_ids"])


def _ids(packed: str) -> np.ndarray:
    return np.flatnonzero(np.unpackbits(_unpacked(packed)))


def _unpacked(packed: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(packed)), dtype=np.uint8)
