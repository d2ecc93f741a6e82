"""Holds an attempt at a run just before one of its writes, lets a later one finish, and lets it go on.

``python holder.py FIRST LATER [WHERE ...]`` takes two configurations of the same run. For each write of the first one
whose name holds a WHERE (all without any) it prints a line of JSON: the write, how the two attempts and a third one
(LATER again) ended, and what is wrong with the run folder then. Children are forked before anything has started a
thread.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import sortase.cli
from preloaded import load_all
from sortase import storage
from sortase.runs.folder import STAGES, RunFolder
from sortase.storage import local

COMPARED = re.compile(r"(data|model)/.*\.(arrow|parquet|safetensors|pkl)|predictions\.parquet|class_map\.json")


def child(work: Callable[[], int]) -> int:
    """The process that does the work and ends with its result."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        log = Path(os.environ.get("HOLDER_LOG", os.devnull))
        with log.open("a") as out, redirect_stdout(out), redirect_stderr(out):
            code = work()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        raise
    finally:
        os._exit(code)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def attempt(config: str, name: str, *options: str) -> Callable[[], int]:
    return lambda: sortase.cli.main(["run", "-c", config, "--set", f"run.name={name}", *options])


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


def writes_of(config: str, output: str) -> list[str]:
    """All writes of an undisturbed attempt, in order."""
    come, go = os.pipe()

    def work() -> int:
        before_writes(storage.join(output, "counted"), lambda name: void(os.write(go, f"{name}\n".encode())))
        return attempt(config, "counted")()

    process = child(work)
    os.close(go)
    with os.fdopen(come) as names:
        found = names.read().splitlines()
    assert ended(process) == 0, "the first configuration does not run by itself"
    return found


def void(_: Any) -> None: ...


def held(config: str, output: str, name: str, number: int, between: Callable[[], None]) -> int:
    """How an attempt ends that is held before its write of this number while ``between`` is done."""
    come, tell = os.pipe()
    wait, go = os.pipe()

    def work() -> int:
        left = [number]

        def heard(write: str) -> None:
            left[0] -= 1
            if left[0] == -1:
                os.write(tell, b".")
                os.read(wait, 1)

        before_writes(storage.join(output, name), heard)
        return attempt(config, name)()

    process = child(work)
    os.close(tell)
    os.read(come, 1)
    between()
    os.write(go, b".")
    for end in (come, wait, go):
        os.close(end)
    return ended(process)


def contents(url: str) -> dict[str, str]:
    """What the results of a run hold."""
    found = storage.list_files(url)
    return {name: storage.sha256(storage.join(url, name), found[name]) for name in found if COMPARED.fullmatch(name)}


def wrong_with(output: str, name: str) -> list[str]:
    """Files that differ from those of the undisturbed run, and marks that do not tell the truth."""
    folder, undisturbed = storage.join(output, name), contents(storage.join(output, "undisturbed"))
    own = contents(folder)
    marks = {stage: RunFolder(folder).mark(stage) for stage in STAGES}
    damaged = [stage for stage, mark in marks.items() if mark and RunFolder(folder).damage(mark)]
    return [n for n in undisturbed.keys() | own.keys() if undisturbed.get(n) != own.get(n)] + damaged


def in_child(work: Callable[[], Any]) -> Any:
    """What a child found, as JSON."""
    come, go = os.pipe()
    process = child(lambda: 0 if os.write(go, json.dumps(work()).encode()) else 1)
    os.close(go)
    with os.fdopen(come) as told:
        found = told.read()
    assert ended(process) == 0
    return json.loads(found)


def main(first: str, later: str, *where: str) -> None:
    import yaml

    load_all()
    output = yaml.safe_load(Path(first).read_text())["run"]["output"]
    assert ended(child(attempt(later, "undisturbed"))) == 0
    seen: set[str] = set()
    for number, write in enumerate(writes_of(first, output)):
        if where and not any(part in write and (part not in seen and not seen.add(part)) for part in where):  # type: ignore
            continue
        name, codes = f"held-{number}", {}

        def between(name: str = name, codes: dict[str, int] = codes) -> None:
            codes["later"] = ended(child(attempt(later, name, "--replace")))

        codes["held"] = held(first, output, name, number, between)
        codes["third"] = ended(child(attempt(later, name)))
        print(json.dumps([write, codes, in_child(lambda name=name: wrong_with(output, name))]), flush=True)  # type: ignore


if __name__ == "__main__":
    main(*sys.argv[1:])
