"""The README is short, its code runs, its configuration is valid, its commands and paths exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from pages import blocks, commands
from sortase.cli import parser
from sortase.config.load import parse

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_it_is_read_in_five_minutes() -> None:
    assert len(README.split()) <= 1500


def test_python_runs(tmp_path: Path) -> None:
    (block,) = blocks(README, "python")
    done = subprocess.run([sys.executable, "-c", block.code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "{'B': 0, 'NK': 1, 'T': 2}" in done.stdout


def test_configuration_is_valid() -> None:
    (block,) = blocks(README, "yaml")
    assert parse(block.code).split.column == "donor"


def test_commands_are_understood() -> None:
    found = [line for block in blocks(README, "bash") for line in commands(block.code)]
    assert found
    for arguments in found:
        parser().parse_args(arguments)


def test_the_two_commands_are_those_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    demo, tests = [block.code.strip().split(" && ") for block in blocks(README, "bash") if "venv" in block.code]
    assert demo[-1] in script
    for part in tests[1:]:
        assert part in script


def test_its_picture_is_small() -> None:
    (picture,) = re.findall(r"^!\[.+\]\((.+)\)$", README, re.MULTILINE)
    assert (ROOT / picture).read_bytes().startswith(b"\x89PNG")
    assert (ROOT / picture).stat().st_size < 150_000
