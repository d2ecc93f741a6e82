"""A refusal leaves a run folder as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .. import storage
from ..errors import ConfigError, SortaseError
from . import layout
from .folder import FITTING, RunFolder

NOTES = (
    layout.RUN,
    layout.SPLIT,
    *(f"stages/{stage}.json" for stage in FITTING),
)


@contextmanager
def untouched_by_refusal(folder: RunFolder) -> Iterator[None]:
    """Takes back what an attempt noted down when it is refused before it has made anything.

    What it has made stays, a finished stage or a checkpoint, and with it the notes that belong to it. So does what a
    later attempt has taken over.
    """
    before, made = _read(folder), _made(folder)
    try:
        yield
    except SortaseError as error:
        if error.exit_code == ConfigError.exit_code and _made(folder) == made and _is_ours(folder):
            for name, content in before.items():
                if name.startswith("stages/"):
                    _put_mark_back(folder, name, content)
                else:
                    _put_back(folder.path(*name.split("/")), content)
            folder.give_back()
        raise


def _read(folder: RunFolder) -> dict[str, bytes | None]:
    urls = {name: folder.path(*name.split("/")) for name in NOTES}
    return {name: storage.read_bytes(url) if storage.exists(url) else None for name, url in urls.items()}


def _put_back(url: str, content: bytes | None) -> None:
    if content is None:
        storage.remove(url)
    elif storage.read_bytes(url) != content if storage.exists(url) else True:
        storage.write_bytes(url, content)


def _put_mark_back(folder: RunFolder, name: str, content: bytes | None) -> None:
    """A mark that another attempt has made meanwhile stays."""
    mark = folder.read(name)
    if content is not None and mark is None:
        storage.claim_bytes(folder.path(*name.split("/")), content)
    elif content is None and mark is not None and mark.get("attempt") == folder.attempt:
        storage.remove(folder.path(*name.split("/")))


def _made(folder: RunFolder) -> set[tuple[str, str]]:
    """Finished stages and checkpoints, with their versions; a mark that is only taken away is none of them."""
    found = {
        (f"{place}/{name}", info.version)
        for place in ("checkpoints", "tune")
        for name, info in storage.list_files(folder.path(place)).items()
        if f"{place}/{name}" not in NOTES
    }
    stages = storage.list_files(folder.path("stages")).items()
    return found | {(f"stages/{name}", info.version) for name, info in stages if f"stages/{name}" not in NOTES}


def _is_ours(folder: RunFolder) -> bool:
    current = folder.holder()
    return current is None or current["id"] == folder.attempt
