"""Values of every kind that a user may pass where they do not belong."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset, DatasetDict
from hypothesis import strategies as st

CELLS = Dataset.from_dict({"input_ids": [[5, 6], [7]] * 6, "kind": ["a", "b"] * 6})

ODD: list[Any] = [
    None,
    True,
    False,
    np.bool_(True),
    0,
    1,
    3,
    -1,
    10**30,
    10**5000,
    0.5,
    1.5,
    4.0,
    -0.25,
    float("nan"),
    float("inf"),
    float("-inf"),
    3 + 2j,
    np.int64(2),
    np.float32(0.5),
    np.float64("nan"),
    Decimal("0.5"),
    Fraction(1, 2),
    Fraction(10**400),
    "",
    " ",
    "nothing",
    "a/b",
    "../up",
    "..",
    ".hidden",
    "~nobody-of-this-name/x",
    "nul\0inside",
    "two\nlines",
    "half \ud800 character",
    "x" * 5000,
    b"bytes",
    bytearray(b"bytes"),
    [],
    [1],
    ["a"],
    ["a", "a"],
    [[1], "a"],
    [["a"], ["b"]],
    (),
    ("a", "b"),
    {},
    {"a": 1},
    {"a": 0},
    {1: 2},
    {"a": object()},
    {"a": []},
    {"a": ["b"]},
    {"kind": "a"},
    {"kind": {"a": 1}},
    {None: None},
    set(),
    {"a"},
    frozenset({"a"}),
    range(3),
    np.array(3),
    np.zeros((2, 2)),
    np.array(["a", "b"]),
    np.array([], dtype=float),
    pd.Series(["a", "b"]),
    pd.DataFrame({"a": [1.0]}),
    pd.NA,
    pd.Timestamp("2024-01-01"),
    date(2024, 1, 1),
    Path("nothing"),
    Path("nothing") / "below",
    object(),
    Path,
    int,
    dict,
    len,
    lambda: None,
    ValueError("a value"),
    NotImplemented,
    Ellipsis,
    CELLS,
    CELLS.select([]),
    CELLS.remove_columns("input_ids"),
    CELLS.remove_columns("kind"),
    CELLS.select([1, 0]).select(range(2)),
    DatasetDict({"train": CELLS}),
]

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=8)
GENERATED = st.recursive(
    _PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=5,
)
