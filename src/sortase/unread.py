"""What a program prints although nobody reads it any more: ``sortase run 2>&1 | head -1`` still does its work."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class _Stream:
    """A stream whose text goes nowhere once its reader has gone."""

    def __init__(self, inner: Any):
        self._inner = inner

    def write(self, text: str) -> int:
        try:
            return int(self._inner.write(text))
        except BrokenPipeError:
            self._let_go()
            return len(text)

    def flush(self) -> None:
        try:
            self._inner.flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        """The descriptor leads nowhere from here on, also for what is in a buffer and for child processes."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._inner.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def printing_to_nobody() -> Iterator[None]:
    """Inside, a reader of stdout or stderr who leaves ends the printing and nothing else."""
    before = sys.stdout, sys.stderr
    nowhere = io.StringIO()  # a descriptor that was closed before the start
    sys.stdout, sys.stderr = _Stream(sys.stdout or nowhere), _Stream(sys.stderr or nowhere)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        sys.stdout, sys.stderr = before
