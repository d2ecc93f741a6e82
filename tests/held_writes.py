"""In a process of an attempt: its writes and removals below a folder are told just before they take effect, or it is
held at one of them.

``HELD_BELOW`` is the folder. ``HELD_AT`` names the write to be held at: there the process writes its number to the pipe
``HELD_TOLD``, and waits for a byte of the pipe ``HELD_GO``. Without ``HELD_AT`` each write is a line of ``HELD_TOLD``.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

from sortase import storage
from sortase.storage import local

OWN = [  # parts of names that are others in each attempt
    (re.compile(r"/[0-9a-f]{12}/"), "/*/"),
    (re.compile(r"\.[0-9a-f]{12}\.partial"), ".*.partial"),
    (re.compile(r"-[0-9a-f]{8}\.jsonl"), "-*.jsonl"),
    (re.compile(r"\.probe-[0-9a-f]{8}"), ".probe-*"),
]


def install() -> None:
    """As the environment says."""
    below, at, told = (os.environ.get(f"HELD_{name}", "") for name in ("BELOW", "AT", "TOLD"))
    seen: Counter[str] = Counter()
    turn = Lock()

    def heard(write: str) -> None:
        for own, plain in OWN:
            write = own.sub(plain, write)
        with turn:
            seen[write] += 1
            name = f"{write} {seen[write]}"
        if not at:
            _tell(told, f"{name}\n")
        elif name == at:
            _tell(told, f"{os.getpid()}\n")
            with Path(os.environ["HELD_GO"]).open("rb", buffering=0) as go:
                go.read(1)

    before_writes(below, heard)


def _tell(path: str, text: str) -> None:
    with Path(path).open("ab", buffering=0) as file:
        file.write(text.encode())


def before_writes(folder: str, heard: Callable[[str], None]) -> None:
    """In this process, tell of each write and removal below the folder just before it takes effect."""
    below = folder.rstrip("/") + "/"

    def told(what: str, url: str) -> None:
        if url.startswith(below):
            heard(f"{what} {url.removeprefix(below)}")

    replace, link, remote, remove = Path.replace, os.link, storage._remote, storage.remove

    def replaced(path: Path, target: Any) -> Any:
        told("write", str(target))
        return replace(path, target)

    def linked(source: Any, target: Any) -> None:
        told("write", str(target))
        link(source, target)

    def sent(url: str, what: str, *more: Any, **options: Any) -> Any:
        if what == "write":
            told("write", url)
        return remote(url, what, *more, **options)

    def removed(url: str) -> None:
        told("remove", storage.join(url))
        remove(url)

    Path.replace, local.os.link, storage._remote, storage.remove = replaced, linked, sent, removed  # type: ignore
