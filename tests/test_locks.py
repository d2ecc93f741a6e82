"""docker/locks: whole, of the versions that are tested, and as pyproject.toml has it now."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "docker" / "locks"
AGAIN = "dependencies have changed: python docker/lock.py"
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def script(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


WANTED: dict[str, set[str]] = script(ROOT / "docker" / "lock.py").wanted()


@cache
def entries(name: str) -> list[tuple[Requirement, list[str]]]:
    """Pins and their hashes."""
    text = re.sub(r"\\\n\s*", "", (LOCKS / f"{name}.txt").read_text())
    lines = [line.split() for line in text.splitlines() if not line.startswith("#")]
    return [
        (
            Requirement(" ".join(word for word in words if not word.startswith("--hash"))),
            [word for word in words if word.startswith("--hash")],
        )
        for words in lines
    ]


def here(name: str) -> dict[str, Requirement]:
    """What is installed on a machine as this one."""
    pins = [pin for pin, _ in entries(name)]
    return {canonicalize_name(pin.name): pin for pin in pins if pin.marker is None or pin.marker.evaluate()}


def version(pin: Requirement) -> str:
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


@pytest.mark.parametrize("name", WANTED)
class TestLocks:
    def test_every_package_has_one_version_and_hashes_and_no_address(self, name: str) -> None:
        for pin, hashes in entries(name):
            assert version(pin)
            assert hashes
            assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes)
            assert pin.url is None
        assert not re.search(r"://|--(extra-)?index|--find-links", (LOCKS / f"{name}.txt").read_text())

    def test_what_is_required_is_in_it(self, name: str) -> None:
        for requirement in map(Requirement, WANTED[name]):
            pin = here(name).get(canonicalize_name(requirement.name))
            assert pin is not None, f"{requirement}: {AGAIN}"
            assert requirement.specifier.contains(version(pin)), f"{requirement}: {AGAIN}"

    def test_versions_are_those_that_are_tested(self, name: str) -> None:
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        tested: dict[str, set[str]] = {}
        for line in lines:
            if line and not line.startswith("#"):
                pin = Requirement(line)
                tested.setdefault(canonicalize_name(pin.name), set()).add(version(pin))
        for pin, _ in entries(name):
            assert version(pin) in tested.get(canonicalize_name(pin.name), {version(pin)}), f"{pin}: {AGAIN}"

    def test_what_its_packages_require_is_in_it(self, name: str) -> None:
        """By what the installed ones say; pip gets no dependency from elsewhere. DeepSpeed's are in torch and image."""
        if name == "deepspeed":
            assert here(name).keys() == {"deepspeed"}
            return
        found, asked = here(name), 0
        for package in found:
            try:
                requires = metadata.requires(package) or []
            except metadata.PackageNotFoundError:
                continue
            for requirement in map(Requirement, requires):
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                    asked += 1
                    assert canonicalize_name(requirement.name) in found, f"{package} wants {requirement}: {AGAIN}"
        assert asked or name == "build"


def test_the_image_installs_nothing_without_hashes() -> None:
    """But for a torch from an index that is named by hand, and the code itself, which reaches for no index."""
    lines = re.sub(r"\\\n\s*", " ", DOCKERFILE)
    calls = re.findall(r"pip install[^&;\n]*", "\n".join(line for line in lines.splitlines() if line[:1] != "#"))
    assert len(calls) == 6
    of_torch, *rest = calls
    assert "--index-url" in of_torch
    for call in rest:
        assert "--require-hashes" in call or {"--no-index", "--no-deps", "--no-build-isolation"} <= set(call.split())


def test_code_and_metadata_are_copied_after_the_dependencies() -> None:
    """A change of theirs builds no dependency again."""
    dependencies = DOCKERFILE.partition(" AS dependencies")[2].partition("\nFROM ")[0]
    copied = re.findall(r"^COPY (.*)$", dependencies, re.MULTILINE)
    assert copied == [f"docker/locks/{name}.txt ./" for name in ("torch", "deepspeed", "image")]


def test_what_the_last_layer_leaves_out_is_in_the_first() -> None:
    """Torch and what CUDA brings: with versions of the one, the other is not there again."""
    left_out = re.compile("torch==|triton==|nvidia-|cuda-")
    found = [{str(pin) for pin, _ in entries(name) if left_out.match(str(pin))} for name in ("torch", "image")]
    assert found[0] == found[1]
    assert len(found[0]) > 10


def test_the_build_backend_is_one_version() -> None:
    (backend,) = map(Requirement, WANTED["build"])
    assert str(backend) == f"hatchling=={version(here('build')['hatchling'])}"


class TestScan:
    """What .ci/supply.py makes of pip-audit's report."""

    CLEAN: ClassVar[dict[str, Any]] = {"name": "numpy", "version": "2.0", "vulns": []}
    SKIPPED: ClassVar[dict[str, Any]] = {
        "name": "torch",
        "skip_reason": "Dependency not found and could not be audited",
    }
    KNOWN: ClassVar[dict[str, Any]] = {
        "name": "jinja2",
        "version": "2.4.1",
        "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.7.2"]}, {"id": "PYSEC-2", "fix_versions": []}],
    }

    @pytest.mark.parametrize(
        ("packages", "code", "words"),
        [
            ([CLEAN], 0, "nothing is known against 1 packages"),
            ([SKIPPED, SKIPPED], 0, "SKIPPED: no database of vulnerabilities answers"),
            ([CLEAN, SKIPPED], 1, "torch: nothing is known of it"),
            ([CLEAN, KNOWN], 1, "jinja2 2.4.1: PYSEC-1, mended in 2.7.2\njinja2 2.4.1: PYSEC-2, mended in no version"),
            ([SKIPPED, KNOWN], 1, "PYSEC-1"),
        ],
    )
    def test_silence_is_not_taken_for_health(self, packages: list[dict[str, Any]], code: int, words: str) -> None:
        found = script(ROOT / ".ci" / "supply.py").judged({"dependencies": packages})
        assert found[0] == code
        assert words in found[1]
