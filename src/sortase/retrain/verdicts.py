"""Verdicts of the gate, kept beside the versions that they are about."""

from __future__ import annotations

import json
from typing import Any

from .. import storage
from ..registry.models import Model
from ..registry.versions import Version


def _folder(model: Model, version: Version) -> str:
    return storage.join(model.url, "gates", version.name)


def keep(model: Model, version: Version, verdict: dict[str, Any]) -> str:
    """Store a verdict under what it was made from; the same again stays as it is. Returns its URL."""
    url = storage.join(_folder(model, version), f"{verdict['inputs']}.json")
    storage.create_bytes(url, (json.dumps(verdict, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    return url


def find(model: Model, version: Version, inputs: str) -> dict[str, Any] | None:
    url = storage.join(_folder(model, version), f"{inputs}.json")
    return storage.read_json(url) if storage.exists(url) else None


def passed(model: Model, version: Version, champion: Version | None) -> tuple[str, dict[str, Any]] | None:
    """The newest verdict that lets this version take the champion's place, with its URL."""
    folder = _folder(model, version)
    found = [
        (url, storage.read_json(url)) for url in (storage.join(folder, name) for name in storage.list_files(folder))
    ]
    against = champion.name if champion else None
    good = [each for each in found if each[1]["passed"] and each[1]["champion"] == against]
    return max(good, key=lambda each: str(each[1]["judged"]), default=None)
