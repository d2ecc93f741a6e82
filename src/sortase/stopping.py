"""A wish to end the work at hand, and how long work listens to it: it calls `check` between its batches and parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TypeVar

from .deadlines import beside
from .errors import CancelledError

T = TypeVar("T")
S = TypeVar("S")
EVERY = 0.1  # seconds between two looks at a wish, while a library works that does not listen

_Wish = tuple[Callable[[], bool], str]
_wish: ContextVar[_Wish | None] = ContextVar("wish", default=None)


@contextmanager
def heeding(should_stop: Callable[[], bool], words: str) -> Iterator[None]:
    """Inside, `check` raises CancelledError with these words once ``should_stop`` says so."""
    token = _wish.set((should_stop, words))
    try:
        yield
    finally:
        _wish.reset(token)


@contextmanager
def listening_itself() -> Iterator[None]:
    """Inside, `check` passes: the work has a way of its own to stop, which keeps what it has done."""
    token = _wish.set(None)
    try:
        yield
    finally:
        _wish.reset(token)


def check() -> None:
    """CancelledError where the work is to end."""
    wish = _wish.get()
    if wish is not None and wish[0]():
        raise CancelledError(wish[1])


def in_threads(work: Callable[[S], T]) -> Callable[[S], T]:
    """The same work, which listens in other threads too."""
    context = copy_context()

    def listening(item: S) -> T:
        return context.copy().run(work, item)

    return listening


def or_leave(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises, also where a library does it that does not listen: then it is left behind in a
    thread of its own, so it must write nothing."""
    if _wish.get() is None:
        return work()

    def look() -> float:
        check()
        return EVERY

    return beside(work, look)
