"""Versions of a model that no run made, for what does not look into models."""

from __future__ import annotations

import hashlib
from typing import Any

from sortase import storage
from sortase.registry.models import Model
from sortase.registry.versions import Version, find

NAMES = [f"2026010{day}T120000-{day}{day}{day}{day}{day}{day}{day}{day}" for day in range(1, 8)]


def version(model: Model, name: str, **record: Any) -> Version:
    """A complete version with one file."""
    url = storage.join(model.url, "versions", name)
    content = f"weights of {name}".encode()
    storage.write_bytes(storage.join(url, "model", "model.safetensors"), content)
    told = {
        "version": name,
        "run": "runs/x",
        "task": "sequence",
        "classes": {"a": 0, "b": 1},
        "vocabulary": None,
        "metrics": {"macro_f1": 0.5, "accuracy": 0.5},
        "intervals": {},
        "baseline": None,
        "lineage": {
            "data": {"fingerprint": "d", "source": "x"},
            "config": "c",
            "code": None,
            "image": None,
            "parents": [],
        },
        "files": {
            "model/model.safetensors": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()},
        },
        "registered": "2026-01-01T00:00:00+00:00",
        "context": {"who": "somebody"},
        **record,
    }
    storage.write_json(storage.join(url, "version.json"), told)
    return find(model.url, name)
