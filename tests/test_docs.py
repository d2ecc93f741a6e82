"""The documents beside the README: links, commands and values that they name exist."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from sortase.cli import parser

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "docs" / "operations.md", ROOT / "k8s" / "README.md", ROOT / "helm" / "sortase" / "README.md"]
VALUES = yaml.safe_load((ROOT / "helm" / "sortase" / "values.yaml").read_text())
SECTIONS = "|".join(name for name in VALUES if name != "run")


def writer() -> Any:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "helm" / "readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_charts_readme_is_what_its_values_say() -> None:
    assert DOCUMENTS[2].read_text() == writer().readme(), "run: python helm/readme.py"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.parent.name)
def test_commands_are_understood(path: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL)
    for line in (line.strip() for block in blocks for line in block.splitlines()):
        if line.startswith("sortase "):
            parser().parse_args(shlex.split(line)[1:])


def test_values_that_are_named_exist() -> None:
    named = re.findall(rf"`((?:{SECTIONS})(?:\.[A-Za-z*]+)+)", DOCUMENTS[0].read_text())
    assert len(named) > 15
    for name in named:
        value: Any = VALUES
        for part in name.replace(".*.", ".train.").split("."):
            assert part in value, name
            value = value[part]
