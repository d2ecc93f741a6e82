"""Names for the kinds of functions that the package passes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Log = Callable[[str], None]  # what becomes of a line for the user
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]  # results in the order of the items
