"""What is around the package: one version, templates that hold to their schemas, no script without a word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import sortase
from programs import program

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"
PAGES = ["CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md"]


def test_there_is_one_version() -> None:
    chart = yaml.safe_load((ROOT / "helm" / "sortase" / "Chart.yaml").read_text())
    told = {
        "pyproject.toml": tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"],
        "Chart.yaml": chart["version"],
        "appVersion of Chart.yaml": chart["appVersion"],
        "CITATION.cff": yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"],
    }
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", (ROOT / "docker" / "Dockerfile").read_text(), re.MULTILINE))
    told["VERSION of the Dockerfile"] = arguments["VERSION"]
    assert told == dict.fromkeys(told, sortase.__version__)


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        ("citation-file-format", ROOT / "CITATION.cff"),
        ("github-issue-config", TEMPLATES / "config.yml"),
        *(("github-issue-forms", path) for path in sorted(TEMPLATES.glob("*.yml")) if path.stem != "config"),
    ],
    ids=lambda value: getattr(value, "stem", None),
)
def test_by_its_schema(schema: str, path: Path) -> None:
    check = program("check-jsonschema", "pip install -e '.[test]'")
    command = [check, "--builtin-schema", f"vendor.{schema}", "--default-filetype", "yaml", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_hooks_are_the_checks_of_ci() -> None:
    """Nothing is downloaded for them, and what they call is what .ci/run calls."""
    (here,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert here["repo"] == "local"
    assert {hook["language"] for hook in here["hooks"]} == {"system"}
    called = re.findall(r"^\.venv/bin/(ruff \w+|mypy)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert [hook["entry"].removesuffix(" --force-exclude") for hook in here["hooks"]] == called


def test_the_changelog_keeps_its_form() -> None:
    heads = re.findall(r"^##+ .*", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "## [Unreleased]"
    kinds = {head for head in heads if head.startswith("###")}
    assert kinds <= {f"### {kind}" for kind in ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")}
    versions = [head for head in heads[1:] if head not in kinds]
    assert all(re.fullmatch(r"## \[\d+\.\d+\.\d+\S*\] - \d{4}-\d\d-\d\d", head) for head in versions), versions


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    named = re.findall(r"`((?:tests|docs|src|helm|docker|\.github|\.ci)/[\w./-]+)`", (ROOT / page).read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_every_benchmark_is_listed() -> None:
    scripts = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    named = set(re.findall(r"`(\w+\.py)`", (ROOT / "benchmarks" / "README.md").read_text()))
    assert scripts == named & scripts
    assert named <= scripts | {path.name for path in (ROOT / "benchmarks" / "gpu_check").glob("*.py")}


@pytest.mark.parametrize("given", [[], ["--e2e"]], ids=["not asked", "asked"])
def test_a_live_cluster_is_used_only_when_asked(given: list[str], tmp_path: Path) -> None:
    """With a KUBECONFIG of the person's own nothing runs; asked without one is an error."""
    environment = {**os.environ, "KUBECONFIG": "" if given else str(tmp_path / "production")}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", *given, "tests/e2e/test_live_releases.py"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if given:
        assert done.returncode == pytest.ExitCode.USAGE_ERROR, done.stdout
        assert "--e2e needs a cluster" in done.stderr
    else:
        assert done.returncode == 0, done.stdout
        assert re.search(r"^\d+ skipped in", done.stdout, re.MULTILINE), done.stdout
