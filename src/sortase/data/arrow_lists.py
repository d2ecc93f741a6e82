"""Arrow columns of lists as flat NumPy arrays, without a copy."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def lengths_of(lists: pa.Array) -> np.ndarray:
    return np.diff(lists.offsets.to_numpy()).astype(np.int64)


def flat_tokens(lists: pa.Array) -> np.ndarray:
    """The numbers of all rows one after the other."""
    offsets = lists.offsets
    start, stop = offsets[0].as_py(), offsets[len(lists)].as_py()
    return np.asarray(lists.values.slice(start, stop - start).to_numpy())
