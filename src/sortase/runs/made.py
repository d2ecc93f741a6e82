"""What a stage made, file by file, and whether it lies there still.

A mark names the files of its stage with the hashes of what was written. So what an earlier attempt writes late, when it
had been held for hours, is told from what the mark speaks of, and the stage is done again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .. import storage
from ..storage.written import Written
from . import layout

# What belongs to a run and to none of its stages: it is written all the time, or is for going on from.
APART = (layout.RUN, layout.STOP)
APART_FOLDERS = ("attempts", "checkpoints", "events", "logs", "stages", "tune")


def belongs(folder: str, url: str) -> bool:
    """Whether a file is one that a stage of the run makes."""
    below = folder.rstrip("/") + "/"
    name = url.removeprefix(below)
    return url.startswith(below) and name not in APART and name.split("/")[0] not in APART_FOLDERS


def made(folder: str, record: Mapping[str, Written]) -> dict[str, dict[str, Any]]:
    """The files of a stage among those that were written, by their names in the run folder."""
    below = folder.rstrip("/") + "/"
    return {url.removeprefix(below): asdict(each) for url, each in sorted(record.items()) if belongs(folder, url)}


def difference(folder: str, files: Mapping[str, Mapping[str, Any]]) -> str | None:
    """The first of these files that is gone, or holds something else; None when all are as they were written."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in files:
        top, slash, rest = name.partition("/")
        groups[top].append(rest if slash else "")
    for top, names in sorted(groups.items()):
        url = storage.join(folder, top)
        found = storage.list_files(url)
        for name in sorted(names):
            whole = f"{top}/{name}" if name else top
            if not _is_as_written(storage.join(folder, *whole.split("/")), found.get(name), Written(**files[whole])):
                return whole
    return None


def _is_as_written(url: str, found: storage.FileInfo | None, written: Written) -> bool:
    if found is None or found.size != written.size:
        return False
    return (storage.is_remote(url) and found.version == written.etag) or storage.sha256(url, found) == written.sha256
