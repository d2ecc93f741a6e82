"""Calls a retraining in children that die, by SIGKILL, just before and just after each of its steps.

``python killer.py CONFIG`` prints a line of JSON for each death: the step, and the aliases that are seen then. Children
are forked before anything has started a thread.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sortase.cli
import sortase.retrain.commands
from preloaded import load_all
from sortase.gate import promotion
from sortase.registry import moves, verdicts
from sortase.retrain import judging, plan, register, steps
from sortase.runs.folder import RunFolder

# (module, name), in the order in which a retraining calls them; the call that reaches _collect has trained
STEPS: list[tuple[Any, str]] = [
    (steps, "keep_pins"),
    (steps, "run"),
    (RunFolder, "describe"),
    (steps, "_look"),
    (register, "_collect"),
    (register.storage, "upload"),
    (register.storage, "create_bytes"),
    (steps, "register"),
    (steps, "move"),
    (judging, "contest"),
    (verdicts, "keep"),
    (promotion, "move"),
]
WHEN = ("before", "after")
OF = {"create_bytes": register.RECORD}  # the one of its calls that is meant, by the end of its path


def dying(work: Callable[..., Any], when: str, of: str) -> Callable[..., Any]:
    @functools.wraps(work)
    def call(*arguments: Any, **options: Any) -> Any:
        meant = not of or arguments[0].endswith(of)
        done = work(*arguments, **options) if when == "after" or not meant else None
        if meant:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    return call


def in_child(config: str, step: tuple[Any, str] | None, when: str = "") -> int:
    """How a child that does the retraining ended: its exit code, or minus the signal."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)
    sys.stdout = sys.stderr
    if step is not None:
        setattr(step[0], step[1], dying(getattr(*step), when, OF.get(step[1], "")))
    os._exit(sortase.cli.main(["retrain", "-c", config]))


def main(config: str) -> None:
    from sortase.config.load import parse

    text = Path(config).read_text()
    model = plan.model_named(parse(text))
    load_all()
    for step in STEPS:
        for when in WHEN:
            code = in_child(config, step, when)
            name = f"{when} {step[0].__name__.rpartition('.')[2]}.{step[1]}"
            print(json.dumps([name, code, moves.table(model.url).aliases]), flush=True)
    print(json.dumps(["at last", in_child(config, None), moves.table(model.url).aliases]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
