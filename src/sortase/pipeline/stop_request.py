"""A wish to stop, left in the run folder by another process: `stop.json` names the attempt that shall keep a checkpoint
and end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from .. import storage
from .._retry import aside
from ..errors import SortaseError
from .run_folder import RunFolder, now

EVERY = 3.0  # seconds


def ask_to_stop(folder: RunFolder) -> int | None:
    """Ask the attempt that works on the run; its number, or None where none does."""
    current = folder.read("attempt.json")
    if current is None or folder.read(f"logs/attempt-{current['number']}/outcome.json") is not None:
        return None
    storage.write_json(folder.path("stop.json"), {"attempt": current["number"], "asked": now()})
    return int(current["number"])


@contextmanager
def listening(folder: RunFolder, asked: threading.Event) -> Iterator[None]:
    """Inside the block, ``asked`` is set once this attempt is asked to stop. Where storage does not answer, nobody
    asks."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(EVERY):
            try:
                with aside(), storage.impatiently():
                    wish, current = folder.read("stop.json"), folder.read("attempt.json")
            except (SortaseError, ValueError):
                continue
            if wish and current and current["id"] == folder.attempt and wish["attempt"] == current["number"]:
                asked.set()
                return

    listener = threading.Thread(target=listen, name="stop-request", daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join(EVERY)
