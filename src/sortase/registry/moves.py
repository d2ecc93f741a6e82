"""Aliases: a numbered file for every move, each created by one of those who race for its number.

The newest file holds the whole table of aliases, so that one reading is one state. Nothing is ever changed or removed:
the files are the history. What came before what is told by their numbers alone: clocks of different machines differ.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .. import storage
from ..config.registry import NAME
from ..errors import ConflictError, InputError
from ..redact import redacted
from .context import context, now
from .exclusive import require_exclusive
from .versions import read, version_names

_FILE = re.compile(r"([0-9]{8}|[1-9][0-9]{8,})\.json")
FIRST = 1
ATTEMPTS = 50  # at a number that others take first
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
    """What the aliases mean now.

    Raises:
        InputError: files of moves are missing, or the newest is damaged.
    """
    numbers = _numbers(model_url)
    _refuse_lost(model_url, numbers)
    if not numbers:
        return Table(0, {})
    source = _file(model_url, numbers[-1])
    aliases = dict(storage.read_json(source)["aliases"])
    for alias, version in aliases.items():
        if not isinstance(version, str) or not NAME.fullmatch(version):
            raise InputError(f"{source} lets {alias!r} mean {version!r}, which is not the name of a version")
    return Table(numbers[-1], aliases)


def _refuse_lost(model_url: str, numbers: list[int]) -> None:
    """Moves are never removed, so they are numbered without gaps; a version tells how many came before it."""
    known = [FIRST - 1, *numbers] if numbers else [FIRST - 1, _before_the_newest_version(model_url) + 1]
    for before, after in pairwise(known):
        if after > before + 1:
            until = f" to {after - 1:08d}.json" if after > before + 2 else ""
            raise InputError(
                f"{storage.join(model_url, 'moves')} lacks {before + 1:08d}.json{until}: moves were lost, and "
                "with them what the aliases mean; restore these files"
            )


def _before_the_newest_version(model_url: str) -> int:
    newest = next((found for name in version_names(model_url)[-1:] if (found := read(model_url, name))), None)
    return int(newest.record.get("moves", 0)) if newest is not None else 0


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
    seen: Table | None = None,
    asked: dict[str, str] | None = None,
    why: str | None = None,
    **told: Any,
) -> dict[str, Any] | None:
    """Let an alias mean a version; None where it does already.

    ``seen``: the aliases when this was decided. ``asked``: by whom, else the environment tells. ``told``: more for the
    record.

    Raises:
        ConflictError: the alias was moved since ``seen``, also where it means the same again.
        InputError: moves were lost.
        ConfigError: the storage does not create files exclusively, which is tried before every move.
    """
    own, tried = uuid.uuid4().hex, False
    for _ in range(ATTEMPTS):
        current = table(model_url)
        before = current.aliases.get(alias)
        if before == version:
            return None
        if seen is not None:
            refuse_moved(model_url, alias, seen, current)
        if not tried:
            require_exclusive(model_url)
            tried = True
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


def refuse_moved(model_url: str, alias: str, seen: Table, current: Table) -> None:
    """ConflictError where the alias moved between these two tables."""
    since = (storage.read_json(_file(model_url, number)) for number in range(seen.number + 1, current.number + 1))
    moved = next((each for each in since if each["alias"] == alias), None)
    if moved is not None:
        raise ConflictError(
            f"{alias} of {model_url} moved from {moved['before'] or 'nothing'} to {moved['version']} after this was "
            f"decided, and is {current.aliases[alias]} now; run the gate again"
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
    promotion of an older version: the move that named it first, as a challenger or otherwise, is the earlier one."""
    meant: list[str] = []
    undone: dict[str, dict[str, Any]] = {}
    first: dict[str, int] = {}
    for number, each in enumerate(history(model_url)):
        version, before = each["version"], each["before"]
        first.setdefault(version, number)
        if each["alias"] != alias:
            continue
        undone.pop(version, None)
        if version in meant and each.get("by") != "retrain":
            place = len(meant) - 1 - meant[::-1].index(version)
            undone |= dict.fromkeys(meant[place + 1 :], each)
            meant = meant[: place + 1]
            continue
        if before is not None and first[version] < first.get(before, 0) and each.get("by") != "retrain":
            undone[before] = each
        meant.append(version)
    return meant, undone
