"""Who asked for a retraining that works elsewhere: the job on the cluster does not have CI's environment."""

from __future__ import annotations

from .. import storage
from ..registry.context import context
from ..runs.attempts import submission_name
from ..runs.folder import RunFolder

FILE = "asked.json"


def ask(folder: RunFolder, who: str | None) -> None:
    """Leave word in the run's folder before it is submitted."""
    storage.write_json(folder.path(FILE), context(who))


def asked_by(folder: RunFolder, who: str | None) -> dict[str, str]:
    """What was left, in a submitted job; otherwise the caller."""
    told: dict[str, str] | None = folder.read(FILE) if submission_name() else None
    return told or context(who)
