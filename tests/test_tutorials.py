"""The tutorials are executed as they stand, each in an empty folder; that of a cluster has tests/e2e beside it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "left"),
    [
        pytest.param("blood-cells", ["runs/blood/report.html", "labels.parquet"], id="blood cells"),
        pytest.param("genes", ["model/model.safetensors", "model/evaluation.json"], id="genes"),
        pytest.param("text", ["runs/text/report.html"], id="text"),
    ],
)
def test_a_tutorial_runs(page: str, left: list[str], tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "tests" / "pages.py", TUTORIALS / f"{page}.md"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [name for name in left if not (tmp_path / name).exists()] == []


def test_all_tutorials_are_executed_but_that_of_a_cluster() -> None:
    (mark,) = [each for each in test_a_tutorial_runs.pytestmark if each.name == "parametrize"]
    executed = {parameters.values[0] for parameters in mark.args[1]}
    assert {path.stem for path in TUTORIALS.glob("*.md")} == executed | {"cluster"}


def test_a_page_with_a_fault_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    for text in ("```python\n1 / 0\n```\n", "```bash\nfalse\n```\n", "```bash\nsortase status .  # exit code 3\n```\n"):
        page.write_text(text)
        command = [sys.executable, ROOT / "tests" / "pages.py", page]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode != 0, text


def made() -> Any:
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "docs" / "notebook.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notebook_is_that_of_the_page() -> None:
    text = (TUTORIALS / "blood-cells.ipynb").read_text()
    assert text == made().notebook((TUTORIALS / "blood-cells.md").read_text()), "run: python docs/notebook.py"
    sources = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert any(source.startswith("%%writefile run.yaml\nrun:") for source in sources)
    assert "!sortase run -c run.yaml" in sources
