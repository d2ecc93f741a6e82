"""events/: the timeline of a run, one JSON object a line, readable while and after it runs.

Object storage cannot append, so a writer keeps the part that it is at and writes it again every few seconds, until it
is large enough for another one to begin. Parts sort by the attempt's number first: what an earlier attempt that was
held writes late lies before what the later one has written, and is forgotten by its rewinding like everything there.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

from .. import storage
from ..errors import InputError
from ..redact import redacted
from .folder import RunFolder

FOLDER = "events"
BEFORE = "events.jsonl"  # of a run that an earlier release began: the whole timeline until then
PART_BYTES = 1 << 18
REWOUND = "rewound"  # an event: those of its stage after its step are forgotten

Line = dict[str, Any]


class Listener(Protocol):
    """Hears of a training: that it goes on after a step (-1: from the start), and what happens at steps."""

    def rewound(self, step: int) -> None: ...

    def heard(self, event: str, step: int, values: dict[str, Any]) -> None: ...


def read_events(folder: RunFolder) -> list[Line]:
    """The timeline until now; InputError names the file that holds a line which is not JSON."""
    urls = [folder.path(BEFORE), *(folder.path(FOLDER, name) for name in _parts(folder))]
    return _told(line for url in urls for line in _lines(url))


def _parts(folder: RunFolder) -> list[str]:
    return sorted(name for name in storage.list_files(folder.path(FOLDER)) if name.endswith(".jsonl"))


def _lines(url: str) -> Iterator[Line]:
    if not storage.exists(url):
        return
    for text in storage.read_bytes(url).decode().splitlines():
        try:
            if text:
                yield json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{url} holds a line that is not JSON ({error}); remove that line") from error


def _told(lines: Iterable[Line]) -> list[Line]:
    """Without what an interrupted attempt did after the step from which a later one went on."""
    told: list[Line] = []
    for line in lines:
        if line.get("event") == REWOUND:
            stage, step = line["stage"], line["step"]
            told = [before for before in told if before["stage"] != stage or before.get("step", step) <= step]
        else:
            told.append(line)
    return told


class Events:
    """Writes the timeline of the attempt that has the folder."""

    def __init__(self, folder: RunFolder, flush_seconds: float = 5.0):
        self.folder = folder
        self.flush_seconds = flush_seconds
        self.listeners: list[Listener] = []
        self._part: list[str] = []
        self._name: str | None = None
        self._is_stored = True
        self._flushed = time.monotonic()

    @property
    def lines(self) -> list[Line]:
        """The whole timeline, also what is not stored yet."""
        self.flush()
        return read_events(self.folder)

    def write(self, stage: str, event: str, **values: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._add({"time": now, "stage": stage, "event": event, **redacted(values)})
        if stage == "train" and "step" in values:
            for listener in self.listeners:
                listener.heard(event, values["step"], {name: v for name, v in values.items() if name != "step"})
        if time.monotonic() - self._flushed >= self.flush_seconds:
            self.flush()

    def rewind(self, stage: str, step: int) -> None:
        """Forget what an interrupted attempt did after the step from which this one continues."""
        self._add({"stage": stage, "event": REWOUND, "step": step})
        if stage == "train":
            for listener in self.listeners:
                listener.rewound(step)

    def extend(self, lines: Iterable[Line]) -> None:
        """Take over what another timeline tells."""
        for line in lines:
            self._add(line)

    def _add(self, line: Line) -> None:
        self._part.append(json.dumps(line) + "\n")
        self._is_stored = False

    def another_writes(self) -> None:
        """What is written from here on comes after what another process may have written since."""
        self.flush()
        self._part, self._name = [], None

    def flush(self) -> None:
        self._flushed = time.monotonic()
        if self._is_stored:
            return
        if self._name is None:
            self._name = self._next_name()
        text = "".join(self._part)
        storage.write_bytes(self.folder.path(FOLDER, self._name), text.encode())
        self._is_stored = True
        if len(text) > PART_BYTES:
            self._part, self._name = [], None

    def _next_name(self) -> str:
        """After all parts that this attempt has."""
        own = f"{self.folder.number:05d}-"
        numbers = [int(name.split("-")[1]) for name in _parts(self.folder) if name.startswith(own)]
        return f"{own}{1 + max(numbers, default=0):06d}-{uuid.uuid4().hex[:8]}.jsonl"


class NoEvents(Events):
    """For the ranks that do not tell the timeline."""

    def __init__(self) -> None:
        self.listeners = []

    def write(self, stage: str, event: str, **values: Any) -> None: ...

    def rewind(self, stage: str, step: int) -> None: ...

    def flush(self) -> None: ...
