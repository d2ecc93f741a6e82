"""Drivers: processes that do one `sortase` command, forked from one that has loaded everything and has no thread."""

from __future__ import annotations

import atexit
import json
import os
import select
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST = 400.0  # seconds that a driver of these sizes may take, faults and a busy machine included


def forked(work: Callable[[], int], log: Path, place: Path | None = None) -> int:
    """The process that does the work, with its output in ``log`` and a temporary folder and a cache in ``place``."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with log.open("ab") as told:
            os.dup2(told.fileno(), 1)
            os.dup2(told.fileno(), 2)
        if place is not None:
            os.environ |= {"TMPDIR": str(place / "tmp"), "SORTASE_CACHE": str(place / "cache")}
            tempfile.tempdir = None
        code = work()
        atexit._run_exitfuncs()
    except Exception:  # noqa: BLE001 - as an interpreter does it at its end
        traceback.print_exc()
        code = 99
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ends_within(process: int, seconds: float) -> bool:
    """Whether it ends by itself in this time."""
    handle = os.pidfd_open(process)
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def ended(process: int) -> int | str:
    """Its exit code, or minus the signal; one that goes on for too long is killed, and that is said."""
    late = not ends_within(process, LONGEST)
    if late:
        os.kill(process, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return f"still at work after {LONGEST:.0f} s" if late else code


def asked(work: Callable[[], Any], log: Path) -> Any:
    """What a child found out, as JSON: this process keeps no client of a storage."""
    come, go = os.pipe()
    process = forked(lambda: 0 if os.write(go, json.dumps(work()).encode()) else 1, log)
    os.close(go)
    with os.fdopen(come) as told:
        found = told.read()
    if ended(process) != 0:
        raise RuntimeError(log.read_text()[-3000:])
    return json.loads(found)
