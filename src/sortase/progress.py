"""Progress of long work: a bar with rate and time left when a person watches, in a notebook a widget, plain lines now
and then when nobody does."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from .plain import plain, show
from .stopping import check

T = TypeVar("T")
LINE_SECONDS = 10.0


def _to_stderr(line: str) -> None:
    show(line, errors=True)


class _Listener:
    """Who hears the lines: in a process that nobody watches, whoever set it."""

    tell: Callable[[str], None] = staticmethod(_to_stderr)


def tell(listener: Callable[[str], None]) -> None:
    """Send the lines of this process there."""
    _Listener.tell = staticmethod(listener)


def announce(line: str, level: int = logging.INFO) -> None:
    """Show one line to whoever calls from Python: by the logger ``sortase`` where the program shows messages of this
    level, else on stderr, as a notebook or a script has set up no logging. A higher level of that logger silences it.
    """
    logger = logging.getLogger("sortase")
    if logger.isEnabledFor(level) and _is_shown(logger, level):
        logger.log(level, "%s", plain(line))
    elif logger.level <= level and logger.manager.disable < level:
        _to_stderr(line)


def _is_shown(logger: logging.Logger, level: int) -> bool:
    """Whether any handler would take a message of this level."""
    handlers = list(logger.handlers)
    above = logger.parent if logger.propagate else None
    while above is not None:
        handlers += above.handlers
        above = above.parent if above.propagate else None
    return any(handler.level <= level and not isinstance(handler, logging.NullHandler) for handler in handlers)


def in_notebook() -> bool:
    """Whether a Jupyter kernel shows what this process prints."""
    stream = sys.modules.get("ipykernel.iostream")
    return stream is not None and isinstance(sys.stderr, stream.OutStream)


class Progress:
    """``update(n)`` says that n more of ``total`` are done; ``total`` may be None. SORTASE_PROGRESS=0 silences it.

    What tells its progress can be stopped: `stopping.check`.
    """

    def __init__(self, total: int | None, what: str, unit: str = "rows"):
        self.total, self.what, self.unit = total, what, unit
        self.done = 0
        self._silent = os.environ.get("SORTASE_PROGRESS") == "0"
        self._bar: Any = None

    def __enter__(self) -> Self:
        self._started = self._said = time.monotonic()
        if not self._silent and (sys.stderr.isatty() or in_notebook()):
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self.total, desc=self.what, unit=f" {self.unit}", unit_scale=self.unit != "steps")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, n: int = 1) -> None:
        self.done += n
        if self._bar is not None:
            self._bar.update(n)
        elif not self._silent and time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            _Listener.tell(self._line())
        check()

    def _line(self) -> str:
        rate = self.done / max(1e-9, time.monotonic() - self._started)
        if self.total is None:
            return f"{self.what}: {self.done:,} {self.unit}, {rate:,.1f}/s"
        left = max(0, self.total - self.done) / max(rate, 1e-9)
        return f"{self.what}: {self.done:,} of {self.total:,} {self.unit}, {rate:,.1f}/s, {left:,.0f} s left"


def track(items: Iterable[T], total: int | None, what: str, unit: str = "rows") -> Iterator[T]:
    """Yield the items, counting each as done when the next is asked for."""
    with Progress(total, what, unit) as progress:
        for item in items:
            yield item
            progress.update(1)
