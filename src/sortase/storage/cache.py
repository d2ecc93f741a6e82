"""Copies of remote files on this machine, and how much room they may take together."""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from ..errors import ConfigError, StorageError
from .cache_entries import PARTIAL, Entry, clean, digest, locked, locked_now, sources, versions
from .local import naming_faults

VARIABLE = "SORTASE_CACHE_SIZE"
USUAL = "80%"
UNITS = "KMGTPE"
_SIZE = re.compile(rf"(\d+(?:\.\d+)?(?:e\d+)?) *(?:(%)|([{UNITS}])?(i)?B?)", re.IGNORECASE)


def cache_folder() -> Path:
    """``$SORTASE_CACHE``, else ``sortase`` in the user's cache folder."""
    if named := os.environ.get("SORTASE_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().absolute() / "sortase"


def cache_size(disk: int) -> int:
    """Bytes that the copies may take together, on a disk of so many: ``$SORTASE_CACHE_SIZE``.

    Raises ConfigError for what is neither a number of bytes nor a share of the disk.
    """
    found = _SIZE.fullmatch(_asked().strip())
    amount = float(found[1]) if found else 0.0
    if found is None or amount <= 0 or (found[2] and amount > 100):
        raise ConfigError(
            f"{VARIABLE}={_asked()!r} is not a size of a cache; give one like 200GB or 50Gi, or a share of the disk "
            "up to 100%"
        )
    if found[2]:
        return int(disk * amount / 100)
    return int(amount * (1024 if found[4] else 1000) ** (UNITS.index(found[3].upper()) + 1 if found[3] else 0))


def _asked() -> str:
    return os.environ.get(VARIABLE) or USUAL


def cached(source: str, version: str, name: str, size: int, fill: Callable[[Path], None]) -> Path:
    """The copy called ``name`` of this version of ``source``, of ``size`` bytes, which ``fill`` makes where there is
    none.

    One process of this machine fills and the others wait. A copy takes its place when it is whole. Until this process
    ends, or asks for another version of the same source, it uses the copy, and nobody removes it. Copies that nobody
    uses go where there is no room for another: older versions first, then what was used longest ago.

    Raises StorageError where there is no room for it beside those in use.
    """
    entry = Entry(cache_folder() / digest(source), digest(version))
    with locked(entry.source, "copied nothing to it", watched=True):
        if not (entry.folder / name).exists():
            for other in versions(entry.source):
                other.release()
                other.remove()
            _fill(entry, name, source, size, fill)
        entry.use()
    return entry.folder / name


def _fill(entry: Entry, name: str, source: str, size: int, fill: Callable[[Path], None]) -> None:
    partial = entry.source / PARTIAL
    try:
        _reserve(entry, source, size)
        while True:
            shutil.rmtree(partial, ignore_errors=True)
            try:
                fill(partial / name)
                break
            except StorageError as error:
                if not _is_disk_full(error) or not _drop(entry, size):
                    raise
        with naming_faults("write", entry.folder):
            partial.rename(entry.folder)
    except BaseException:
        clean(entry.source)
        raise


def _is_disk_full(error: StorageError) -> bool:
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)


def _reserve(entry: Entry, source: str, size: int) -> None:
    """Make room, and note how much it is: other processes count it from then on."""
    root = entry.source.parent
    with locked(root, "made no room in it"):
        allowed = cache_size(shutil.disk_usage(root).total)
        if size <= allowed:
            _make_room(entry, size, allowed)
        taken = sum(other.bytes() for other in _others(entry))
        if size + taken > allowed:
            used = f", and others that are in use have {taken:,}" if size <= allowed else ""
            raise StorageError(
                f"cannot copy {source} to {root}: it has {size:,} bytes{used}; {VARIABLE}={_asked()} allows "
                f"{allowed:,}. Set a larger one, or SORTASE_CACHE to a folder of a larger disk"
            )
        with naming_faults("write", entry.note):
            entry.note.write_text(str(size))


def _drop(entry: Entry, size: int) -> int:
    """The disk is full all the same: somebody else writes there too."""
    with locked(entry.source.parent, "made no room in it"):
        return _make_room(entry, size, math.inf, at_least=1)


def _make_room(own: Entry, size: int, allowed: float, at_least: int = 0) -> int:
    """Remove copies that nobody uses, ``at_least`` so many, until there is room; returns how many went."""
    remove_dead(own.source.parent)
    others = sorted(_others(own), key=Entry.last_used)
    taken, to_come = sum(other.bytes() for other in others), sum(other.to_come() for other in others)
    gone = 0
    for other in others:
        fits = size + taken <= allowed and size + to_come <= shutil.disk_usage(own.source.parent).free
        if fits and gone >= at_least:
            break
        freed = other.bytes()
        with locked_now(other.source) as held:
            if held and other.remove():
                taken, gone = taken - freed, gone + 1
                clean(other.source)
    return gone


def _others(own: Entry) -> list[Entry]:
    return [each for source in sources(own.source.parent) for each in versions(source) if each != own]


def remove_dead(root: Path) -> None:
    """Remove what processes left that were killed while they copied."""
    for source in sources(root):
        found = versions(source)
        if (source / PARTIAL).exists() or not found or not all(entry.folder.exists() for entry in found):
            with locked_now(source) as held:
                if held:
                    clean(source)
