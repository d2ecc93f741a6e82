"""Everything a process writes to its standard descriptors, passed on to where it went before, and heard as lines."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

READ = 65_536
CAPACITY = 2**20  # of the pipes: who writes while holding Python's lock must not have to wait for the reader
LONGEST_LINE = 65_536
DRAINING = 10.0  # seconds


@dataclass
class _Stream:
    """One descriptor: ``source`` is the pipe's end to read, ``before`` what the descriptor was."""

    number: int
    source: int = -1
    before: int = -1
    rest: bytes = b""
    ended: bool = False

    def take_over(self) -> None:
        self.before = os.dup(self.number)
        self.source, sink = os.pipe()
        _widen(sink)
        os.set_blocking(self.source, False)
        os.dup2(sink, self.number)
        os.close(sink)

    def give_back(self) -> None:
        os.dup2(self.before, self.number)

    def close(self) -> None:
        self.ended = True
        os.close(self.source)
        os.close(self.before)

    def read(self) -> bytes | None:
        """What there is, empty at the end; None when there is nothing now."""
        try:
            return os.read(self.source, READ)
        except BlockingIOError:
            return None

    def pass_on(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self.before, data) :]
            except BlockingIOError:
                _wait([self.before], select.POLLOUT)
            except OSError:  # nobody reads it any more; it is still kept
                return

    def lines(self, data: bytes) -> Iterator[bytes]:
        """Whole lines; a carriage return ends one too, so that progress bars are seen. The rest waits for more."""
        pieces = (self.rest + data).splitlines(keepends=True)
        whole = pieces and (pieces[-1].endswith((b"\n", b"\r")) or len(pieces[-1]) > LONGEST_LINE)
        self.rest = b"" if whole or not pieces else pieces.pop()
        yield from pieces


@dataclass
class Tee:
    """Descriptors 1 and 2 as pipes with one reader, which gives ``take`` the lines of both as they come.

    A child process that outlives the tee goes on writing to its pipe: what it writes is still passed on, but not heard.
    """

    take: Callable[[list[bytes]], None]
    streams: list[_Stream] = field(default_factory=lambda: [_Stream(1), _Stream(2)])

    def open(self) -> None:
        self._wake, self._waker = os.pipe()
        self._drained = threading.Event()
        _flush()
        self._buffers_lines = _buffer_lines(True)
        for stream in self.streams:
            stream.take_over()
        self._reader = threading.Thread(target=self._read, name="tee", daemon=True)
        self._reader.start()

    def close(self) -> None:
        """The descriptors are what they were, and all lines have been heard."""
        _flush()
        _buffer_lines(self._buffers_lines)
        for stream in self.streams:
            stream.give_back()
        os.write(self._waker, b".")  # closing it is not enough: a forked child has it too
        os.close(self._waker)
        self._drained.wait(DRAINING)

    def _read(self) -> None:
        heard = self.take
        wake = [self._wake]
        while wake or not all(stream.ended for stream in self.streams):
            live = [stream for stream in self.streams if not stream.ended]
            ready = _wait([*(stream.source for stream in live), *wake], select.POLLIN)
            for stream in live:
                if stream.source in ready:
                    self._forward(stream, heard)
            if wake and self._wake in ready:
                for stream in live:
                    for _ in range(2 * CAPACITY // READ):
                        if stream.ended or not self._forward(stream, heard):
                            break
                heard([stream.rest + b"\n" for stream in self.streams if stream.rest])
                heard = _nobody
                wake = []
                os.close(self._wake)
                self._drained.set()

    @staticmethod
    def _forward(stream: _Stream, heard: Callable[[list[bytes]], None]) -> bool:
        """Whether there was anything."""
        data = stream.read()
        if not data:
            if data is not None:
                stream.close()
            return False
        stream.pass_on(data)
        heard(list(stream.lines(data)))
        return True


def _widen(pipe: int) -> None:
    """Where the system knows that, and allows it to this user."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CAPACITY)


def _nobody(lines: list[bytes]) -> None: ...


def _wait(descriptors: list[int], what: int) -> list[int]:
    """Those that are ready, or closed at the other end; ``select`` takes no number above 1023."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, what)
    return [descriptor for descriptor, _ in poll.poll()]


def _buffer_lines(wanted: bool) -> bool:
    """Whether stdout, whose blocks would come late, has handed on each line until now."""
    before = getattr(sys.stdout, "line_buffering", True)
    if before != wanted:
        sys.stdout.reconfigure(line_buffering=wanted)  # type: ignore[union-attr]
    return bool(before)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or None
            stream.flush()
