"""Programs that tests call and that not every machine has."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest


def program(name: str, hint: str, *folders: Path) -> str:
    """Where it is: beside this Python, in the folders or on PATH. Elsewhere the test is skipped, with the hint."""
    places = [str(place) for place in (Path(sys.executable).parent, *folders)]
    found = shutil.which(name, path=os.pathsep.join([*places, os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"needs {name}: {hint}")
    return found


def kubectl(hint: str) -> str:
    """The test cluster keeps one of its own beside its kubeconfig."""
    config = os.environ.get("KUBECONFIG")
    return program("kubectl", hint, *([Path(config).resolve().parent.parent / "bin"] if config else []))
