"""Verdicts of the gate, kept beside the versions that they are about."""

from __future__ import annotations

import json
from typing import Any

from .. import storage
from ..config.gate import GateSpec
from .models import Model
from .versions import Version


def _folder(model: Model, version: Version) -> str:
    return storage.join(model.url, "gates", version.name)


def keep(model: Model, version: Version, verdict: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Store a verdict under what it was made from, numbered above all that are there. Returns the one that is there
    then, which may be of somebody who judged the same at the same time, and its URL."""
    url = storage.join(_folder(model, version), f"{verdict['inputs']}.json")
    if "number" not in verdict:
        verdict = {**verdict, "number": 1 + max((_number(each) for each, _ in _all(model, version)), default=0)}
    text = json.dumps(verdict, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    return (verdict if storage.create_bytes(url, text.encode()) else storage.read_json(url)), url


def find(model: Model, version: Version, inputs: str) -> dict[str, Any] | None:
    url = storage.join(_folder(model, version), f"{inputs}.json")
    return storage.read_json(url) if storage.exists(url) else None


def newest(
    model: Model, version: Version, champion: str | None, rules: GateSpec | None = None
) -> tuple[dict[str, Any], str] | None:
    """The last verdict on this version against this champion, and its URL; where rules are given, only by these. Of two
    that were made side by side it is the one that was not passed."""
    by = rules and rules.model_dump(mode="json")
    found = [
        (each, url)
        for each, url in _all(model, version)
        if each["champion"] == champion and by in (None, each.get("gate"))
    ]
    return max(found, key=lambda one: _place(one[0]), default=None)


def _all(model: Model, version: Version) -> list[tuple[dict[str, Any], str]]:
    folder = _folder(model, version)
    urls = [storage.join(folder, name) for name in storage.list_files(folder)]
    return [(storage.read_json(url), url) for url in urls]


def _number(verdict: dict[str, Any]) -> int:
    return int(verdict.get("number", 0))


def _place(verdict: dict[str, Any]) -> tuple[int, str, bool]:
    """By numbers, because the clocks of those who judge differ; those of an earlier sortase have only the time."""
    number = _number(verdict)
    return number, "" if number else str(verdict["judged"]), not verdict["passed"]
