"""Batches that are made while the model computes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

AHEAD = 2
_END = object()


class Prefetcher(Iterator[Any]):
    """The items of ``source`` in their order, ``ahead`` of them made in one background thread before they are needed.

    An error that making an item raises is raised where that item would have come. ``on_start`` is called in the thread
    before the first item. ``waited`` counts the seconds in which an item was needed and not ready.
    """

    def __init__(self, source: Iterable[Any], ahead: int = AHEAD, on_start: Callable[[], None] | None = None):
        self.source = source
        self.waited = 0.0
        self._items = iter(source)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches", initializer=on_start)
        self._coming: deque[Future[Any]] = deque()
        for _ in range(ahead):
            self._ask()

    def _ask(self) -> None:
        self._coming.append(self._pool.submit(next, self._items, _END))

    def __next__(self) -> Any:
        if not self._coming:
            raise StopIteration
        started = time.perf_counter()
        try:
            item = self._coming.popleft().result()
        except BaseException:
            self.close()
            raise
        finally:
            self.waited += time.perf_counter() - started
        if item is _END:
            self.close()
            raise StopIteration
        self._ask()
        return item

    def close(self) -> None:
        """Ends the thread once it has made the item that it is making; what was made ahead is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._coming.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
