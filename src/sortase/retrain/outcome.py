"""What a retraining came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Outcome:
    """``state``: nothing (to do), promoted, waiting (for a person), refused (by the gate), or
    failed; ``words`` say why."""

    model: str
    state: str = "failed"
    words: str = ""
    champion: str | None = None  # before
    news: str | None = None
    run: str | None = None
    version: str | None = None
    drift: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None
    verdict_url: str | None = None
    moved: dict[str, Any] | None = None
