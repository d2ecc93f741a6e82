"""The layers of the package are held by import-linter, as pyproject.toml has them; here are the doors to libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sortase

ROOT = Path(sortase.__file__).parent

DOORS = {  # who may import it, by the beginnings of paths
    "anndata": ("data/counts/",),
    "botocore": ("storage/",),
    "fsspec": ("storage/",),
    "h5py": ("data/counts/",),
    "kubernetes": ("deploy/",),
    "matplotlib": ("report/", "api/plots.py"),
    "pickle": ("storage/pickles.py",),
    "ray": ("cluster/", "deploy/"),
    "s3fs": ("storage/",),
    "tempfile": ("storage/scratch.py",),
}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def imported(path: Path) -> set[str]:
    """The packages of others that a file imports, at its top or later."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add((node.module or "").split(".")[0])
    return found


def test_imports_go_down_only() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT.parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", FILES)
def test_foreign_things_have_one_door(path: str) -> None:
    outside = [name for name in imported(ROOT / path) if not path.startswith(DOORS.get(name, ("",)))]
    assert not outside, f"{path} must not import {outside}"


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("import sortase", id="import"),
        pytest.param("import sortase.cli; sortase.cli.parser()", id="help"),
        pytest.param("import sortase.storage", id="storage"),
    ],
)
def test_heavy_packages_load_only_when_needed(statement: str) -> None:
    code = f"import sys; {statement}; print([n for n in ('torch','ray','matplotlib','datasets') if n in sys.modules])"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"
