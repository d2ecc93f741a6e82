"""Rows of the tokenised dataset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa

# What a file looks like must not depend on the size of chunks, so rows are written in batches of a fixed number.
BATCH_ROWS = 1000
SHARD_BATCHES = 50


def cells_schema(metadata: pa.Schema) -> pa.Schema:
    """Token ids are int32, half the bytes of `datasets`' own int64; its tensors are int64 all the same."""
    fields = {"input_ids": pa.list_(pa.int32()), "length": pa.int64(), "n_counts": pa.float64()}
    return pa.schema([*(pa.field(name, kind) for name, kind in fields.items()), *metadata])


def cells_batch(tokens: np.ndarray, indptr: np.ndarray, totals: np.ndarray, metadata: pa.RecordBatch) -> pa.RecordBatch:
    """One row for each cell that has a token."""
    lengths = np.diff(indptr)
    kept = np.flatnonzero(lengths)
    offsets = np.concatenate(([0], indptr[1:][kept])).astype(np.int32)
    arrays = [
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
        pa.array(lengths[kept]),
        pa.array(totals[kept]),
        *(metadata if len(kept) == len(lengths) else metadata.take(pa.array(kept))),
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=cells_schema(metadata.schema))


def rebatched(batches: Iterable[pa.RecordBatch], rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ``rows``, the last one with the rest."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(part.num_rows for part in waiting) >= rows:
            joined = pa.concat_batches(waiting)
            whole = joined.num_rows - joined.num_rows % rows
            yield from (_fresh(joined, start, rows) for start in range(0, whole, rows))
            waiting = [joined.slice(whole)]
    rest = pa.concat_batches(waiting) if waiting else None
    if rest is not None and rest.num_rows:
        yield _fresh(rest, 0, rest.num_rows)


def _fresh(batch: pa.RecordBatch, start: int, rows: int) -> pa.RecordBatch:
    """A copy: a slice's bitmaps of missing values hold bits of their neighbours, which would be written."""
    return batch.take(pa.array(np.arange(start, start + rows)))
