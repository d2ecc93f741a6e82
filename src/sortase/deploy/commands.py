"""plan, submit, status, logs and cancel: to a Ray cluster that is there (--address), or to Kubernetes."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import storage
from ..errors import (
    CancelledError,
    ConfigError,
    DeadlineError,
    InfrastructureError,
    MissingInputError,
    SortaseError,
    WorkFailedError,
)
from ..plain import show
from ..runs.attempts import outcomes
from ..runs.folder import RunFolder
from ..runs.logs import logs_of, read_logs, tail_logs
from ..runs.overview import overview
from ..runs.stop import ask_to_stop
from ..types import Log
from .follow import Follower
from .options import named
from .plan import Plan, plan_run, pods_of
from .state import State
from .targets import Target, again, submission_of, target_of, target_or_folder

Stop = Callable[[], bool]
LOOK_EVERY = 2.0  # seconds


def plan(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    """Of a run on the cluster that is named, or of one on this machine."""
    if named(options):
        found = _planned(target_of(options))
    else:
        found = Plan()
        plan_run(submission_of(options)[0], found, elsewhere=False)
    for line in found.lines:
        show(line)
    if found.errors:
        raise found.errors[0]


def _planned(target: Target) -> Plan:
    found = Plan()
    plan_run(target.submission, found, elsewhere=True)
    objects = target.objects
    if objects is not None:
        found.lines += pods_of(objects)
        found.check(
            f"the cluster would accept the objects in namespace {target.backend.namespace}",
            lambda: target.backend.try_out(objects),
        )
    state = found.check(f"the state of {target.place}", lambda: target.backend.state(target.name))
    if state is not None:
        known = "not submitted yet" if state.phase == "absent" else f"submitted before: {state.words}"
        found.lines.append(f"job      {target.name}: {known}")
    return found


def submit(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    target = target_of(options)
    if not options.no_checks:
        checked = Plan()
        plan_run(target.submission, checked, elsewhere=True)
        for error in checked.errors:
            hint = "; --no-checks submits without looking from here" if isinstance(error, InfrastructureError) else ""
            raise type(error)(f"{error}{hint}; nothing was submitted")
    made = target.submit()
    log(f"{target.place}: {'submitted' if made else 'was submitted before; attached to it'}")
    if options.detach:
        show(target.name)
        log(f"come back with: {again(options, 'submit')}   or: {again(options, 'status')}")
        return
    show(target.submission.folder.url)
    state = follow(target, options, again(options, "submit"), should_stop, log)
    if not made and state.is_over and state.phase != "succeeded":
        log(f"this attempt is over; --attempt {target.submission.attempt + 1} starts another one")
    end_as(state, target)


def follow(target: Target, options: argparse.Namespace, comes_back: str, should_stop: Stop, log: Log) -> State:
    """Show the log to the end; CancelledError where the wait is interrupted, which says how to come back."""
    follower = Follower(
        target.backend, target.name, log, _show, start_seconds=options.start_timeout, should_stop=should_stop
    )
    state = follower.end()
    if state is None:
        log(f"no longer waiting; the run goes on. Come back with: {comes_back}")
        raise CancelledError("the wait was interrupted, not the run")
    return state


def end_as(state: State, target: Target) -> None:
    """Nothing for success; otherwise the error with the run's exit code. What was deleted, its folder may tell."""
    code = state.exit_code
    words = state.words
    if state.phase == "absent":
        found = _outcome(target)
        code, words = found if found else (CancelledError.exit_code, f"{target.place} was deleted before it ended")
    if code:
        error = ERRORS.get(code, WorkFailedError)(words)
        error.exit_code = code  # also where no error of this command has it, such as 6
        raise error


ERRORS: dict[int, type[SortaseError]] = {
    error.exit_code: error
    for error in (WorkFailedError, ConfigError, InfrastructureError, DeadlineError, CancelledError)
}


def _outcome(target: Target) -> tuple[int, str] | None:
    """What became of this submission's last attempt, where its folder tells; InfrastructureError where that cannot be
    read from here."""
    try:
        of_it = [each for each in outcomes(target.submission.folder.url) if each["submission"] == target.name]
    except SortaseError as error:
        raise InfrastructureError(
            f"{target.place} is not there any more, and what became of it cannot be read from here: {error}"
        ) from error
    return (of_it[-1]["exit_code"], of_it[-1]["error"] or of_it[-1]["state"]) if of_it else None


def status(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    """From the cluster, where it has the run, and from the run folder, which outlives it."""
    target, folder = target_or_folder(options)
    told: dict[str, Any] = {}
    lines: list[str] = []
    if target is not None:
        try:
            state = target.backend.state(target.name)
        except InfrastructureError as error:
            lines.append(f"job        {error}")
        else:
            told["job"] = {"name": target.name, "phase": state.phase, "words": state.words, "troubles": state.troubles}
            lines += [f"job        {target.place}: {state.words}"]
            lines += [f"pods       {'; '.join(state.pods)}"] if state.pods else []
            lines += [f"trouble    {trouble}" for trouble in state.troubles]
    try:
        with storage.impatiently():
            seen = overview(folder)
        if seen.state == "working" and told and (state.is_over or state.phase == "absent"):
            seen = replace(seen, state="ended without a word")
        told["run"] = seen.as_json()
        lines += seen.lines()
    except (MissingInputError, InfrastructureError) as error:
        if not told or (target and told["job"]["phase"] == "absent"):
            for line in lines:
                log(line)
            raise
        lines.append(f"folder     {error}")
    show(json.dumps(told, indent=2) if options.json else "\n".join(lines))


def logs(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    """Of the run folder; where it has none, or cannot be read from here, the driver's from the cluster."""
    target, folder = target_or_folder(options)
    try:
        names = list(logs_of(folder.path("logs")))
    except SortaseError as error:
        if target is None:
            raise
        log(f"the run folder cannot be read from here ({error}); the driver's log from the cluster:")
        names = []
    if target is None and not names:
        raise MissingInputError(f"{folder.url} has no logs")
    if options.list:
        for name in names:
            show(name)
        return
    if target is not None and not names:
        text = target.backend.new_log(target.name)
        if not text:
            raise MissingInputError(f"{folder.url} has no logs, and {target.place} has no driver that tells")
        _show(text)
        return
    drivers = [name for name in names if name.endswith("/driver")]
    name = options.name or (drivers or names)[-1]
    if not options.follow or name not in names:  # which the reader refuses
        for _, part in read_logs(folder.url, name):
            _show(part.decode(errors="replace"))
        return
    offset = 0
    while not should_stop():
        over = _is_over(folder, name.rpartition("/")[0])
        part = tail_logs(folder.url, name, offset)
        offset += len(part)
        _show(part.decode(errors="replace"))
        if over and not part:
            return
        time.sleep(LOOK_EVERY)


def _is_over(folder: RunFolder, attempt: str) -> bool:
    """Whether ``attempt-<n>`` has ended, or a later one has begun, as after a death without a word."""
    ended = folder.read(f"logs/{attempt}/outcome.json") is not None
    begun = folder.holder()
    return ended or bool(begun and begun["number"] > int(attempt.removeprefix("attempt-") or 0))


def cancel(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    """Ask the run to keep a checkpoint and end; then remove its job from the cluster."""
    target, folder = target_or_folder(options)
    if target is not None and target.backend.state(target.name).is_over:
        log(f"{target.place} is over; nothing to cancel")
        return
    asked = None
    try:
        asked = ask_to_stop(folder)
    except SortaseError as error:
        if target is None:
            raise
        log(f"the run folder cannot be reached from here ({error}); the run may lose steps since its last checkpoint")
    if asked is None and target is None:
        raise ConfigError(f"nothing works on {folder.url}")
    if asked is not None:
        log(f"asked attempt {asked} to keep a checkpoint and end")
        ended = _wait_for_outcome(folder, asked, options.grace, should_stop, log)
        if not ended and target is None:
            raise InfrastructureError(
                f"attempt {asked} has not ended within {options.grace:.0f} s; it may be gone without a word"
            )
    if target is not None:
        if target.backend.state(target.name).phase != "absent":
            target.backend.delete(target.name)
        elif asked is None:
            raise ConfigError(f"there is no {target.place}, and nothing works on {folder.url}")
        log(f"{target.place} is cancelled; --attempt {target.submission.attempt + 1} continues from {folder.url}")


def _wait_for_outcome(folder: RunFolder, attempt: int, seconds: float, should_stop: Stop, log: Log) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not should_stop():
        outcome = folder.read(f"logs/attempt-{attempt}/outcome.json")
        if outcome is not None:
            log(f"attempt {attempt} ended: {outcome['error'] or outcome['state']}")
            return True
        time.sleep(1)
    return False


def _show(text: str) -> None:
    show(text, end="")
