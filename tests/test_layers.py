"""The layers of the package, read from its import statements."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sortase

ROOT = Path(sortase.__file__).parent

# A part may import from itself and from the parts below it in this list.
LAYERS = [
    {"cli", "__main__"},
    {"demo", "retrain"},
    {"classifier", "deploy"},
    {"cluster"},
    {"report", "pipeline", "gate"},
    {"model", "data"},
    {"registry"},
    {"members"},
    {"arguments"},
    {"storage", "pickles", "_pickled_arrays", "progress"}
    | {"_retry", "_s3", "_local", "_contents", "_hashes", "_written", "_cache", "_entries", "_locks", "scratch"},
    {"config"},
    {"deadlines"},
    {"caller_state", "errors", "plain", "redact", "text", "types", "unread", "wording"},
]
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}

DOORS = {
    "fsspec": {"storage", "_retry", "_local"},
    "s3fs": {"storage", "_retry", "_local"},
    "botocore": {"storage", "_retry", "_local"},
    "matplotlib": {"report"},
    "pickle": {"pickles"},
    "ray": {"cluster", "deploy"},
    "kubernetes": {"deploy"},
    "tempfile": {"scratch"},
}


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> list[tuple[str, str]]:
    """(kind, name) of every import: ``own`` parts of the package and ``foreign`` top-level packages."""
    depth = len(path.relative_to(ROOT).parts)
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [("foreign", alias.name.split(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(("foreign", (node.module or "").split(".")[0]))
        elif isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
            found += [("own", name) for name in names]
    return found


FILES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down_only(path: Path) -> None:
    part = part_of(path)
    above = [name for kind, name in imports(path) if kind == "own" and name in RANK and RANK[name] < RANK[part]]
    assert not above, f"{part} must not import from {above}"
    assert part in RANK, f"{part} has no place in the layers"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_foreign_things_have_one_door(path: Path) -> None:
    outside = [n for kind, n in imports(path) if kind == "foreign" and n in DOORS and part_of(path) not in DOORS[n]]
    assert not outside, f"{part_of(path)} must not import {outside}"


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
