"""Batches made ahead of the training: order, errors, and an end."""

import threading
from collections.abc import Iterator

import pytest

from patience import PATIENCE
from sortase.data.prefetch import Prefetcher


def test_items_keep_their_order_and_end() -> None:
    with Prefetcher(range(7)) as items:
        assert list(items) == list(range(7))
        assert list(items) == []


def test_only_so_many_are_made_ahead() -> None:
    made: list[int] = []
    third = threading.Event()

    def source() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    with Prefetcher(source(), ahead=2) as items:
        assert next(items) == 0
        assert third.wait(PATIENCE)
    assert made == [0, 1, 2]


def test_an_error_is_raised_where_its_item_would_have_come() -> None:
    def source() -> Iterator[int]:
        yield 1
        raise OSError("the file is gone")

    items = Prefetcher(source())
    assert next(items) == 1
    with pytest.raises(OSError, match="the file is gone"):
        next(items)
    assert list(items) == []


def test_its_thread_ends_with_it() -> None:
    before = set(threading.enumerate())
    items = Prefetcher(range(100), on_start=lambda: None)
    assert next(items) == 0
    assert set(threading.enumerate()) - before
    items.close()
    assert not set(threading.enumerate()) - before
