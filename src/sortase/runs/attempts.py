"""Attempts at a run: their numbers, the driver's log, and what became of each.

``logs/attempt-<n>/outcome.json`` is written when an attempt ends. One that was refused before it took the run over, or
before it made anything, leaves it only where somebody waits for it: the job was submitted, or logs are kept.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import storage
from ..config.load import dump, parse, settings_of
from ..config.run import Config
from ..config.storage import StorageSpec
from ..errors import CancelledError, ConfigError, ConflictError, FencedError, GateError, SortaseError, StorageError
from ..redact import redacted
from . import layout
from .events import Events
from .folder import MODEL, RunFolder, now
from .logs import LogDestination, kept_logs, placed_at, wanted
from .untouched import untouched_by_refusal

STATES = {0: "succeeded", 2: "refused", 5: "cancelled"}
_OUTCOME = re.compile(r"attempt-(\d+)/outcome\.json")


@dataclass
class Attempt:
    """An attempt that has not ended. ``number`` is None where storage could not tell the earlier ones; ``begun``: it
    has taken the run over."""

    folder: RunFolder
    number: int | None
    started: str
    begun: bool = False

    def begin(self) -> None:
        """Take the run over; attempts that were refused are counted too. Once more within an attempt: it has to be the
        latest still."""
        if self.begun:
            self.folder.fence()
            return
        self.number = self.folder.begin(self.number or 1)
        self.begun = True

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """The run is taken over, and given back as it was when it is refused before anything is made."""
        self.begin()
        with untouched_by_refusal(self.folder):  # as it was then: others may have worked on it until this one had it
            try:
                yield
            except SortaseError as error:
                try:
                    self.folder.fence()  # what failed may be the work of a later attempt
                except StorageError:
                    if not isinstance(error, CancelledError):
                        raise
                raise

    def end(self, error: BaseException | None) -> None:
        """Write the outcome down. A fault of storage changes nothing: there may be an error on its way already."""
        if self.number is None:
            return
        code = _exit_code(error)
        outcome = {
            "attempt": self.number,
            "state": STATES.get(code, "failed"),
            "exit_code": code,
            "error": None if error is None else redacted(f"{type(error).__name__}: {error}"),
            "started": self.started,
            "ended": now(),
            "host": socket.gethostname(),
            "submission": submission_name(),
        }
        try:
            with storage.impatiently():
                if code == ConfigError.exit_code and not self._leaves_traces():
                    return
                storage.write_json(self.folder.path("logs", f"attempt-{self.number}", "outcome.json"), outcome)
                if self._has_timeline():
                    self.folder.number = self.folder.number or self.number
                    events = Events(self.folder)
                    named = ("attempt", "exit_code", "error")
                    events.write("run", str(outcome["state"]), **{name: outcome[name] for name in named})
                    events.flush()
        except (SortaseError, OSError, ValueError) as fault:
            sys.stderr.write(
                f"sortase: the outcome of this attempt is not written down whole: {redacted(str(fault))}\n"
            )

    def _leaves_traces(self) -> bool:
        """Whether a refusal is written down: where it is waited for, or follows on something that was made."""
        if submission_name() is not None or wanted():
            return True
        current = self.folder.holder()
        return self.begun and current is not None and bool(current["id"] == self.folder.attempt)

    def _has_timeline(self) -> bool:
        """Not when a later attempt has it, or, where this one was refused, one that is at work meanwhile."""
        current = self.folder.holder()
        if current is None:
            return True
        if self.begun:
            return bool(current["id"] == self.folder.attempt)
        return self.folder.read(f"logs/attempt-{current['number']}/outcome.json") is not None


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    if isinstance(error, KeyboardInterrupt):
        return CancelledError.exit_code
    return error.exit_code if isinstance(error, SortaseError) else 1


def submission_name() -> str | None:
    """Of the job that this process is, where it was submitted as one."""
    return os.environ.get("SORTASE_SUBMISSION") or None


class _Open:
    attempt: ClassVar[Attempt | None] = None


@contextmanager
def attempted(url: str, reached: StorageSpec, model_name: str = MODEL) -> Iterator[Attempt]:
    """One attempt at the run whose folder this is, from its first check to its outcome. Within an attempt at the same
    run it is that one. ``model_name`` is where in the folder the model lies."""
    if _Open.attempt is not None and _Open.attempt.folder.url == url:
        yield _Open.attempt
        return
    storage.configure(reached)
    folder = RunFolder(url, model_name)
    number = _next_number(folder)
    attempt = Attempt(folder, number, now())
    keeps = LogDestination(folder.path("logs", f"attempt-{number}")) if number and wanted() else None
    before, _Open.attempt = _Open.attempt, attempt
    with storage.without_empty_folders(url):
        try:
            with placed_at(keeps), kept_logs(keeps, "driver"):
                yield attempt
        except BaseException as error:
            attempt.end(error)
            raise
        else:
            attempt.end(None)
        finally:
            _Open.attempt = before


def _next_number(folder: RunFolder) -> int | None:
    """After all attempts that began, or left anything; None where that cannot be found out now."""
    try:
        with storage.impatiently():
            begun = folder.holder() or {"number": 0}
            names = storage.list_files(folder.path("logs"))
    except SortaseError:  # the run will meet it, and say it
        return None
    left = [int(match[1]) for name in names if (match := re.match(r"attempt-(\d+)/", name))]
    return 1 + max(begun["number"], *left, 0)


def outcomes(folder_url: str) -> list[dict[str, Any]]:
    """What became of the attempts that have ended, in order."""
    url = storage.join(folder_url, "logs")
    found = {int(match[1]): name for name in storage.list_files(url) if (match := _OUTCOME.fullmatch(name))}
    return [storage.read_json(storage.join(url, *found[number].split("/"))) for number in sorted(found)]


def refuse_again(folder_url: str) -> None:
    """Kubernetes starts the same command again after any failure of a submission (``SORTASE_SUBMISSION``); this one is
    not to be worked on again where that would repeat a refusal, undo a cancellation, or fight a later attempt.

    Raises:
        ConfigError, ConflictError, CancelledError, GateError: the submission was refused, is out of date, was
            cancelled, taken over by another one, or its model did not pass the gate.
    """
    submission = submission_name()
    if submission is None:
        return
    wish = RunFolder(folder_url).read(layout.STOP) or {}
    for outcome in outcomes(folder_url):
        if outcome["submission"] != submission or outcome["error"] is None:
            continue
        kind, _, words = outcome["error"].partition(": ")
        if outcome["exit_code"] == ConfigError.exit_code:
            raise ConfigError(f"this submission was refused before: {words}")
        if outcome["exit_code"] == GateError.exit_code:
            raise GateError(f"this submission was judged before: {words}")
        if kind == ConflictError.__name__:
            raise ConflictError(f"this submission is out of date: {words}")
        if kind == FencedError.__name__:
            raise CancelledError(f"this submission was taken over before: {words}")
        if outcome["exit_code"] == CancelledError.exit_code and outcome["attempt"] == wish.get("attempt"):
            raise CancelledError("this submission was cancelled; another attempt of the run continues it")


@contextmanager
def attempted_from(text: str, overrides: list[str]) -> Iterator[None]:
    """`attempted`, for a run.yaml that may be wrong elsewhere; nothing where not even the run's folder is known.

    Raises:
        ConfigError, CancelledError: the same submission was refused, cancelled or taken over before.
    """
    known = _run_of(text, overrides)
    if known is None:
        yield
        return
    url = storage.join(known.run.output, known.run.name)
    storage.configure(known.storage)
    with storage.impatiently():
        refuse_again(url)
    with attempted(url, known.storage):
        yield


def _run_of(text: str, overrides: list[str]) -> Config | None:
    """Where the run's folder lies and how storage is reached, beside sections that stand for the others."""
    try:
        settings = settings_of(text)
    except ConfigError:
        return None
    if not isinstance(settings.get("run"), dict):
        return None
    run = {name: value for name, value in settings["run"].items() if name in ("name", "output")}
    own = {"run": run, "storage": settings.get("storage") or {}}
    others = {"data": {"dataset": "-"}, "labels": {"column": "-"}, "model": {"config": {}}}
    where = ("run.name=", "run.output=", "storage.")
    try:
        return parse(dump({**others, **own}), [o for o in overrides if o.strip().startswith(where)])
    except ConfigError:
        return None
