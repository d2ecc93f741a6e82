"""Aliases: a numbered file for every move, each created by one of those who race for its number.

The newest file holds the whole table of aliases, so that one reading is one state. Nothing is ever changed or removed:
the files are the history.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from typing import Any

from .. import storage
from ..errors import ConfigError, ConflictError
from ..redact import redacted
from .context import context, now

_FILE = re.compile(r"(\d{8})\.json")
ATTEMPTS = 50  # at a number that others take first
ANY = object()
_PLAIN = ("alias", "version", "before", "aliases")  # names, also where they look like those of credentials


@dataclass(frozen=True)
class Table:
    """The aliases after move ``number``; 0 before the first."""

    number: int
    aliases: dict[str, str]


def _numbers(model_url: str) -> list[int]:
    names = storage.list_files(storage.join(model_url, "moves"))
    return sorted(int(match[1]) for name in names if (match := _FILE.fullmatch(name)))


def _file(model_url: str, number: int) -> str:
    return storage.join(model_url, "moves", f"{number:08d}.json")


def table(model_url: str) -> Table:
    numbers = _numbers(model_url)
    if not numbers:
        return Table(0, {})
    return Table(numbers[-1], dict(storage.read_json(_file(model_url, numbers[-1]))["aliases"]))


def history(model_url: str, alias: str | None = None) -> list[dict[str, Any]]:
    """All moves, oldest first; those of one alias where it is named."""
    found = [storage.read_json(_file(model_url, number)) for number in _numbers(model_url)]
    return [each for each in found if alias is None or each["alias"] == alias]


def last(model_url: str, alias: str) -> dict[str, Any] | None:
    """The newest move of this alias."""
    moves = (storage.read_json(_file(model_url, number)) for number in reversed(_numbers(model_url)))
    return next((each for each in moves if each["alias"] == alias), None)


def move(
    model_url: str,
    alias: str,
    version: str,
    *,
    kind: str,
    expected: Any = ANY,
    asked: dict[str, str] | None = None,
    why: str | None = None,
    **told: Any,
) -> dict[str, Any] | None:
    """Let an alias mean a version; None where it does already.

    ``expected``: what the alias meant (None: nothing) when this was decided. ``asked``: by whom, else the environment
    tells. ``told``: more for the record.

    Raises:
        ConflictError: somebody moved the alias since.
    """
    own = uuid.uuid4().hex
    for _ in range(ATTEMPTS):
        current = table(model_url)
        before = current.aliases.get(alias)
        if before == version:
            return None
        if expected is not ANY and before != expected:
            raise moved_since(model_url, alias, before, expected)
        if current.number == 0:
            require_exclusive(model_url)
        record = {
            "number": current.number + 1,
            "id": own,
            "kind": kind,
            "alias": alias,
            "version": version,
            "before": before,
            "when": now(),
            "why": why,
            **told,
            "context": asked or context(),
            "aliases": {**current.aliases, alias: version},
        }
        shown = {key: value if key in _PLAIN else redacted({key: value})[key] for key, value in record.items()}
        data = (json.dumps(shown, indent=2, ensure_ascii=False) + "\n").encode()
        if storage.create_bytes(_file(model_url, current.number + 1), data):
            return record
    raise ConflictError(f"{ATTEMPTS} others moved aliases of {model_url} in the meantime; try again")


def moved_since(model_url: str, alias: str, found: str | None, expected: str | None) -> ConflictError:
    return ConflictError(
        f"{alias} of {model_url} is {found or 'unset'} by now, and was {expected or 'unset'} when this was decided; "
        "run the gate again"
    )


def require_exclusive(model_url: str) -> None:
    """Refuse a storage that overwrites where it is asked to create: there two promotions could both win."""
    url = storage.join(model_url, f".probe-{uuid.uuid4().hex[:12]}")
    first = storage.create_bytes(url, b"1")
    try:
        second = storage.create_bytes(url, b"2")
    finally:
        storage.remove(url)
    if not first or second:
        raise ConfigError(
            f"{model_url}: this storage does not create files exclusively (S3's If-None-Match), so aliases could not "
            "move safely; use one that does"
        )


def version_before(model_url: str, alias: str) -> str | None:
    """What the alias meant before the promotion that holds now: ways back undo promotions, one after another."""
    meant, _ = _replayed(model_url, alias)
    return meant[-2] if len(meant) > 1 else None


def rolled_back(model_url: str, alias: str) -> dict[str, dict[str, Any]]:
    """By version, the move back that took the alias away from it, where no later move gave it back."""
    return _replayed(model_url, alias)[1]


def _replayed(model_url: str, alias: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """What the alias means after what it meant before, and what was taken back. A way back is a rollback, or a person's
    promotion of an older version: names begin with the time when a model was made."""
    meant: list[str] = []
    undone: dict[str, dict[str, Any]] = {}
    for each in history(model_url, alias):
        version, before = each["version"], each["before"]
        undone.pop(version, None)
        if version in meant and each.get("by") != "retrain":
            place = len(meant) - 1 - meant[::-1].index(version)
            undone |= dict.fromkeys(meant[place + 1 :], each)
            meant = meant[: place + 1]
            continue
        if before is not None and version < before and each.get("by") != "retrain":
            undone[before] = each
        meant.append(version)
    return meant, undone
