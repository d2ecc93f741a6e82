"""The README's code runs, its configuration is valid, its commands and paths exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sortase.cli import parser
from sortase.config.load import parse

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_runs(tmp_path: Path) -> None:
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "{'B': 0, 'NK': 1, 'T': 2}" in done.stdout


def test_configuration_is_valid() -> None:
    """Whole ones, and sections that belong into the first, where they take the place of its own."""
    whole, *others = blocks("yaml")
    first = yaml.safe_load(whole)
    for text in [whole, *(text if "run:" in text else yaml.safe_dump(first | yaml.safe_load(text)) for text in others)]:
        assert parse(text).split.column == "donor"


def test_commands_are_understood() -> None:
    commands = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("sortase ")]
    assert commands
    for line in commands:
        parser().parse_args(shlex.split(line)[1:])


def test_the_test_command_is_the_one_that_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    (command,) = [block for block in blocks("bash") if "pytest" in block]
    for part in command.strip().split(" && ")[1:]:
        assert part in script


@pytest.mark.parametrize("name", re.findall(r"^  {2,4}([a-z_]+\.py)", README, re.MULTILINE))
def test_files_of_the_tree_exist(name: str) -> None:
    assert list((ROOT / "src").rglob(name))


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists() or target.startswith("https://"), target
