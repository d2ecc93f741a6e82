"""A wish to stop, left in the run folder by another process: `stop.json` names the attempt that shall keep a checkpoint
and end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .. import storage
from ..errors import InputError, MissingInputError, StorageError
from ..storage.retry import aside
from . import layout
from .folder import RunFolder, now

EVERY = 3.0  # seconds


def _is_asked(folder: RunFolder) -> bool:
    """Whether the wish is there and means this attempt."""
    wish, current = folder.read(layout.STOP), folder.holder()
    if wish is not None and not isinstance(wish, dict):
        raise InputError(f"{folder.path('stop.json')} names no attempt")
    mine = current is not None and current["id"] == folder.attempt
    return bool(wish and mine and wish.get("attempt") == current["number"])


def ask_to_stop(folder: RunFolder) -> int | None:
    """Ask the attempt that works on the run; its number, or None where none does."""
    current = folder.holder()
    if current is None or folder.read(f"logs/attempt-{current['number']}/outcome.json") is not None:
        return None
    storage.write_json(folder.path(layout.STOP), {"attempt": current["number"], "asked": now()})
    return int(current["number"])


@contextmanager
def listening(folder: RunFolder, asked: threading.Event, log: Callable[[str], None]) -> Iterator[None]:
    """Inside the block, ``asked`` is set once this attempt is asked to stop. Where storage does not answer, nobody
    asks; a wish that cannot be read is said."""
    over = threading.Event()

    def listen() -> None:
        said = ""
        while not over.wait(EVERY):
            try:
                with aside(), storage.impatiently():
                    if _is_asked(folder):
                        asked.set()
                        return
            except (StorageError, MissingInputError):  # or it was taken back meanwhile
                continue
            except InputError as error:
                if str(error) != said:
                    said = str(error)
                    log(f"somebody may wish to stop this run, but it cannot be read: {error}")

    listener = threading.Thread(target=listen, name="stop-request", daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join(EVERY)
