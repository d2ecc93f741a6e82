"""Shell scripts and the Dockerfile, by the checkers that are made for them."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from programs import program

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
SKIPPED = {".git", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "__pycache__", "build", "dist", "runs"}
SHEBANG = re.compile(rb"#!\s*\S*[/ ](ba|da|k|)sh\b")
EXTRA = "pip install -e '.[test]'"
SECRET = re.compile(r"secret|password|passwd|token|credential|access_?key|api_?key", re.IGNORECASE)


def shell_scripts() -> Iterator[Path]:
    """By their names or their first lines."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for path in (Path(folder, name) for name in names):
            if path.is_file() and (path.suffix == ".sh" or _begins_as_one(path)):
                yield path


def _begins_as_one(path: Path) -> bool:
    with path.open("rb") as file:
        return SHEBANG.match(file.read(64)) is not None


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, continued lines joined and comments left out: ("FROM", "${BASE_IMAGE} AS tools"), ..."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in split]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(index for index, (word, _) in enumerate(found) if word == "FROM") :]


def test_shell_scripts() -> None:
    scripts = list(shell_scripts())
    assert {ROOT / ".ci" / "run", ROOT / ".ci" / "cluster"} <= set(scripts)
    done = subprocess.run([program("shellcheck", EXTRA), *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_dockerfile() -> None:
    """Versions of Debian's packages (DL3008) are the base image's matter."""
    command = [program("hadolint", EXTRA), "--ignore", "DL3008", str(DOCKERFILE)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_ends_without_a_compiler_and_not_as_root() -> None:
    last = last_stage()
    installed = {word for kind, rest in last if kind == "RUN" for word in re.findall(r"[\w.+-]+", rest)}
    assert "wget" in installed
    assert not [name for name in installed if re.search(r"^(g\+\+|gcc|clang|build-essential|make|cmake)|-dev$", name)]
    assert [rest for kind, rest in last if kind == "USER"] == ["1000:0"]


def test_every_stage_is_from_the_base_image_or_another_stage() -> None:
    """So that one argument names the base, and no tag is fixed out of sight."""
    bases = [rest.split() for kind, rest in instructions() if kind == "FROM"]
    stages = {words[2] for words in bases if len(words) == 3}
    assert {words[0] for words in bases} <= {"${BASE_IMAGE}", *stages}
    assert len(bases) > 1
    assert next(rest for kind, rest in instructions() if kind == "ARG") == "BASE_IMAGE=python:3.11-slim"


@pytest.mark.parametrize("kind", ["ARG", "ENV"])
def test_no_secret_is_an_argument_or_in_the_environment(kind: str) -> None:
    """Both stay in the image's history."""
    names = [name for word, rest in instructions() if word == kind for name in re.findall(r"(\w+)(?:=|$)", rest)]
    assert names
    assert not [name for name in names if SECRET.search(name)]
