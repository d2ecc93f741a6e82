"""The workflows of docs/ci, and how CI runs the scripts in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CI = Path(__file__).resolve().parents[1] / "docs" / "ci"
SHELL = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")


def read(path: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(path.read_text()))


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in read(path)["jobs"].values():
        yield from job["steps"]


def step(path: Path, name: str) -> dict[str, Any]:
    (found,) = [each for each in steps(path) if each.get("name") == name]
    return found
