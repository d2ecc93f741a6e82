"""events.jsonl: the timeline of a run, one JSON object a line, readable while and after it runs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any, Protocol

from .. import storage
from ..redact import redacted


class Listener(Protocol):
    """Hears of a training: that it goes on after a step (-1: from the start), and what happens at steps."""

    def rewound(self, step: int) -> None: ...

    def heard(self, event: str, step: int, values: dict[str, Any]) -> None: ...


class Events:
    """Object storage cannot append, so the lines are kept and the file is written again every few seconds."""

    def __init__(self, url: str, flush_seconds: float = 5.0):
        self.url = url
        self.flush_seconds = flush_seconds
        self.lines = self._earlier()
        self.listeners: list[Listener] = []
        self._flushed = time.monotonic()

    def _earlier(self) -> list[dict[str, Any]]:
        if not storage.exists(self.url):
            return []
        return [json.loads(line) for line in storage.read_bytes(self.url).decode().splitlines() if line]

    def write(self, stage: str, event: str, **values: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.lines.append({"time": now, "stage": stage, "event": event, **redacted(values)})
        if stage == "train" and "step" in values:
            for listener in self.listeners:
                listener.heard(event, values["step"], {name: v for name, v in values.items() if name != "step"})
        if time.monotonic() - self._flushed >= self.flush_seconds:
            self.flush()

    def rewind(self, stage: str, step: int) -> None:
        """Forget what an interrupted attempt did after the step from which this one continues."""
        self.lines = [line for line in self.lines if line["stage"] != stage or line.get("step", step) <= step]
        if stage == "train":
            for listener in self.listeners:
                listener.rewound(step)

    def reload(self) -> None:
        """Take up what another process has written since."""
        self.lines = self._earlier()

    def flush(self) -> None:
        text = "".join(json.dumps(line) + "\n" for line in self.lines)
        storage.write_bytes(self.url, text.encode())
        self._flushed = time.monotonic()


class NoEvents(Events):
    """For the ranks that do not tell the timeline."""

    def __init__(self) -> None:
        self.lines = []
        self.listeners = []

    def write(self, stage: str, event: str, **values: Any) -> None: ...

    def flush(self) -> None: ...
