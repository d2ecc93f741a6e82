"""Seeded hashes of positions, the same on every machine."""

from __future__ import annotations

import numpy as np


def splitmix64(values: np.ndarray) -> np.ndarray:
    """A bijection of uint64 that looks random (Steele, Lea, Flood 2014, *Fast splittable generators*)."""
    with np.errstate(over="ignore"):
        z = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def priorities(start: int, rows: int, seed: int) -> np.ndarray:
    """Priority (uint64, smaller is kept first) of the rows at positions ``start`` and on; no two are equal."""
    salt = splitmix64(np.array([seed & (2**64 - 1)], dtype=np.uint64))
    return splitmix64(np.arange(start, start + rows, dtype=np.uint64) ^ salt)
