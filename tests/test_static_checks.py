"""Shell scripts and the Dockerfile, by the checkers that are made for them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {".git", ".venv", "node_modules", "__pycache__"}


def shell_scripts() -> list[Path]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for path in (Path(folder, name) for name in names):
            if path.stat().st_size < 100_000 and path.read_bytes().startswith((b"#!/usr/bin/env bash", b"#!/bin/sh")):
                found.append(path)
    return found


def checker(name: str) -> str:
    """The program as the test extra installs it, beside this Python."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed: pip install -e '.[test]'")
    return found


def test_shell_scripts() -> None:
    scripts = shell_scripts()
    assert ROOT / ".ci" / "run" in scripts
    done = subprocess.run([checker("shellcheck"), *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_dockerfile() -> None:
    """Versions of Debian's packages (DL3008) are the base image's matter."""
    command = [checker("hadolint"), "--ignore", "DL3008", str(ROOT / "docker" / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_ends_without_a_compiler_and_not_as_root() -> None:
    last = (ROOT / "docker" / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    assert not [word for word in ("g++", "gcc", "build-essential", "python3-dev") if word in last]
    users = [line for line in last.splitlines() if line.startswith("USER ")]
    assert users == ["USER 1000:0"]
