"""Amounts in words, for messages."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """A number of seconds as a person says it: "80 s", "12 min", "3.5 h"."""
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
