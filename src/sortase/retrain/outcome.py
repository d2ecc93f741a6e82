"""What a retraining came to."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Self

from ..errors import CancelledError, GateError
from ..redact import redacted


@dataclass
class Outcome:
    """``state``: nothing (to do), promoted, waiting (for a person), refused (by the gate), cancelled, or failed;
    ``words`` say why. ``baseline``: whether the version beats a simple classifier. ``notes``: what became of rows.
    ``submission``: the job that did it, where it was one."""

    model: str
    state: str = "failed"
    words: str = ""
    champion: str | None = None  # before
    news: str | None = None
    run: str | None = None
    version: str | None = None
    baseline: str | None = None
    notes: list[str] = field(default_factory=list)
    drift: dict[str, Any] | None = None
    verdict: dict[str, Any] | None = None
    verdict_url: str | None = None
    moved: dict[str, Any] | None = None
    submission: str | None = None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """From its JSON, perhaps of a later sortase that tells more."""
        known = {each.name for each in fields(cls)}
        return cls(**{name: value for name, value in told.items() if name in known})

    def fail(self, error: BaseException) -> None:
        """What ended it, where nothing says so yet."""
        if self.state == "failed" and not self.words:
            self.words = str(redacted(f"{type(error).__name__}: {error}"))
            if isinstance(error, CancelledError | KeyboardInterrupt):
                self.state = "cancelled"
            elif isinstance(error, GateError):
                self.state = "refused"

    def learn(self, other: Outcome) -> None:
        """Everything that the other one knows of the same retraining."""
        for each in fields(self):
            if each.name != "model":
                setattr(self, each.name, getattr(other, each.name))
