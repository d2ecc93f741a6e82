"""Logs of every process in the run folder, readable while they are written and after the cluster is gone.

``logs/attempt-<n>/<name>.log`` goes on in ``<name>.2.log``, ``<name>.3.log``, ... Object storage cannot append: the
last part is written again every two seconds while there is more, and another one is begun when it is a megabyte. A
process that is killed loses the last two seconds. A second process of the same name, such as a training worker that was
started again, begins another part.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import ClassVar

from .. import storage
from ..errors import InputError, SortaseError
from ..redact import redacted
from ..storage.retry import aside
from .capture import Tee

FLUSH_SECONDS = 2.0
PART_BYTES = 2**20
MOST_WAITING = 32 * 2**20  # bytes that storage has not taken yet; what comes beyond is not kept
ENDING = 30.0  # seconds

_FILE = re.compile(r"(?P<name>(?:attempt-(?P<attempt>\d+)/)?[^/]+?)(?:\.(?P<part>\d+))?\.log")


@dataclass(frozen=True)
class LogDestination:
    """Where the processes of an attempt keep their logs; ``doing`` starts the names of those that work for it."""

    url: str
    doing: str = ""


class _Here:
    place: ClassVar[LogDestination | None] = None


def place() -> LogDestination | None:
    """Where logs are kept now, to be handed to other processes; None where they are not."""
    return _Here.place


@contextmanager
def placed_at(where: LogDestination | None) -> Iterator[None]:
    """Inside the block, ``place`` is this one."""
    before, _Here.place = _Here.place, where
    try:
        yield
    finally:
        _Here.place = before


@contextmanager
def doing(what: str) -> Iterator[None]:
    """Inside the block, processes that are started are named after this."""
    with placed_at(replace(_Here.place, doing=what) if _Here.place else None):
        yield


def wanted() -> bool:
    """Whether this process was told to keep logs; the image says so."""
    return os.environ.get("SORTASE_LOGS", "0") not in ("", "0")


@contextmanager
def kept_logs(where: LogDestination | None, name: str) -> Iterator[None]:
    """Keep what this process, C libraries and children included, writes to stdout and stderr inside the block, beside
    where it goes anyway. An error that leaves the block is kept too. ``None`` keeps nothing.

    Faults of storage are said once on stderr, and never raised.
    """
    if where is None:
        yield
        return
    log = _Log(where.url, f"{where.doing}-{name}" if where.doing else name)
    log.open()
    try:
        yield
    except BaseException as error:
        log.note(_told(error))
        raise
    finally:
        log.close()


def _told(error: BaseException) -> str:
    """What Python, or the command, says of it after the block."""
    if isinstance(error, SystemExit):
        return ""
    if isinstance(error, SortaseError | KeyboardInterrupt):
        return f"{type(error).__name__}: {error}\n"
    return "".join(traceback.format_exception(error))


class _Log:
    """One process's log: a thread hears the lines, another one writes them to storage."""

    def __init__(self, url: str, name: str):
        self.url, self.name = url, name
        self._parts: deque[bytearray] = deque([bytearray()])
        self._first = 0  # number of the first of these parts; 0 until it is known
        self._written = -1  # bytes of it that storage has
        self._dropped = 0
        self._complained: set[str] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._process = os.getpid()
        self._tee = Tee(self._take)

    def open(self) -> None:
        self._stderr = os.dup(2)
        self._copy = self._open_copy()
        self._tee.open()
        self._writer = threading.Thread(target=self._write, name="log", daemon=True)
        self._writer.start()
        atexit.register(self.close)

    def close(self) -> None:
        if self._over.is_set() or os.getpid() != self._process:
            return
        self._tee.close()
        self._over.set()
        self._writer.join(ENDING)
        atexit.unregister(self.close)
        if self._copy is not None:
            os.close(self._copy)
        if not self._writer.is_alive():
            os.close(self._stderr)

    def note(self, text: str) -> None:
        """Keep this too, although nobody has written it."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        self._take(text.encode().splitlines(keepends=True))

    def _take(self, lines: list[bytes]) -> None:
        shown = [line.encode() for line in redacted([line.decode(errors="replace") for line in lines])]
        for line in shown:
            self._pass_to_copy(line)
        with self._lock:
            for line in shown:
                self._add(line)

    def _add(self, line: bytes) -> None:
        if sum(map(len, self._parts)) > MOST_WAITING:
            self._dropped += len(line)
            return
        if self._dropped:
            line = f"[{self._dropped} bytes were not kept: storage did not take them in time]\n".encode() + line
            self._dropped = 0
        if self._parts[-1] and len(self._parts[-1]) + len(line) > PART_BYTES:
            self._parts.append(bytearray())
        self._parts[-1] += line

    def _write(self) -> None:
        over = False
        while True:
            try:
                with aside(), storage.impatiently():
                    self._send()
            except (SortaseError, OSError) as error:
                self._complain("storage", f"the log {self.name} is not kept at the moment: {error}")
            if over:
                return
            over = self._over.wait(FLUSH_SECONDS)

    def _send(self) -> None:
        if not self._first:
            found = logs_of(self.url).get(self.name, [])
            self._first = 1 + max((_number(file) for file, _ in found), default=0)
        while True:
            with self._lock:
                part, more = bytes(self._parts[0]), len(self._parts) > 1
            if len(part) != self._written:
                storage.write_bytes(storage.join(self.url, _file(self.name, self._first)), part)
                self._written = len(part)
            if not more:
                return
            with self._lock:
                self._parts.popleft()
            self._first, self._written = self._first + 1, 0

    def _open_copy(self) -> int | None:
        path = os.environ.get("SORTASE_LOG_COPY")
        if not path:
            return None
        try:  # without waiting for somebody to read a pipe
            copy = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK | os.O_CREAT, 0o644)
            os.set_blocking(copy, True)
        except OSError as error:
            self._complain("copy", f"no copy of the log {self.name} at SORTASE_LOG_COPY={path}: {error.strerror}")
            return None
        return copy

    def _pass_to_copy(self, line: bytes) -> None:
        if self._copy is None:
            return
        try:
            while line:
                line = line[os.write(self._copy, line) :]
        except OSError as error:
            os.close(self._copy)
            self._copy = None
            self._complain("copy", f"the copy of the log {self.name} ends: {error.strerror}")

    def _complain(self, about: str, words: str) -> None:
        """Once, where nothing is kept: it would only be said again."""
        if about not in self._complained:
            self._complained.add(about)
            with suppress(OSError):
                os.write(self._stderr, f"sortase: {redacted(words)}\n".encode())


def _file(name: str, part: int) -> str:
    return f"{name}.log" if part == 1 else f"{name}.{part}.log"


def _number(file: str) -> int:
    found = _FILE.fullmatch(file)
    return int((found and found["part"]) or 1)


def logs_of(url: str) -> dict[str, list[tuple[str, int]]]:
    """Files and sizes of each log below a folder, in order: attempts by number, the driver's log first."""
    found: dict[str, list[tuple[str, int]]] = {}
    for file, info in storage.list_files(url).items():
        if match := _FILE.fullmatch(file):
            found.setdefault(match["name"], []).append((file, info.size))
    return {name: sorted(found[name], key=lambda part: _number(part[0])) for name in sorted(found, key=_order)}


def _order(name: str) -> tuple[int, bool, list[tuple[int, str]]]:
    folder, _, own = name.rpartition("/")
    numbers = [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", own)]
    return int(folder.removeprefix("attempt-") or 0), own != "driver", numbers


def read_logs(folder_url: str, name: str | None = None) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a run's logs, such as ``attempt-2/train-rank-0``, or of the one named, part by part.

    Raises:
        InputError: there is no log of this name.
    """
    url = storage.join(folder_url, "logs")
    found = logs_of(url)
    if name is not None and name not in found:
        raise InputError(f"{folder_url} has no log '{name}'; there is {', '.join(found) or 'none'}")
    for each in found if name is None else [name]:
        for file, _ in found[each]:
            yield each, storage.read_bytes(storage.join(url, *file.split("/")))


def tail_logs(folder_url: str, name: str, offset: int = 0) -> bytes:
    """What the log has beyond its first ``offset`` bytes; nothing where there is no such log yet.

    The next call's offset is this one's and the length of the answer.
    """
    url = storage.join(folder_url, "logs")
    folder, _, own = name.rpartition("/")
    below = storage.join(url, *folder.split("/")) if folder else url
    parts, start = [], 0
    for file, size in logs_of(below).get(own, []):
        if start + size > offset:
            content = storage.read_bytes(storage.join(below, *file.split("/")))
            parts.append(content[max(0, offset - start) :])
        start += size
    return b"".join(parts)
