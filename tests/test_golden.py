"""What a run writes and says, held against files: a changed key or word is a decision, not an accident.

``GOLDEN=write pytest -n 0 tests/test_golden.py`` writes the files anew; look at the difference before you commit it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from makers import architecture, dataset
from sortase.cli import main

GOLDEN = Path(__file__).parent / "golden"
TASKS: dict[str, dict[str, Any]] = {
    "sequence": {"labels": {"task": "sequence", "column": "label"}},
    "token": {"labels": {"task": "token", "column": "labels"}, "split": {"strategy": "random"}},
}


def shape(value: Any) -> Any:
    """Keys, and types in the place of values; lists as the shapes that occur in them."""
    if isinstance(value, dict):
        return {general(key): shape(inner) for key, inner in sorted(value.items())}
    if isinstance(value, list):
        shapes = {json.dumps(shape(inner), sort_keys=True) for inner in value}
        return [json.loads(each) for each in sorted(shapes)]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def general(text: str) -> str:
    """A name without what differs from one run to the next."""
    return re.sub(r"\d+", "0", re.sub(r"\b[0-9a-f]{8,}\b", "ID", text))


def shapes_of(folder: Path) -> dict[str, Any]:
    """By file: the shape of each JSON, and of each line where a file has many."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*.json*")):
        lines = path.suffix == ".jsonl"
        if stage := re.fullmatch(r"\d+-(\w+)-mark\.json", path.name):
            assert json.loads(path.read_text()) == json.loads((folder / "stages" / f"{stage[1]}.json").read_text())
            continue
        text = path.read_text().replace(str(folder.parents[1]), "FOLDER")
        values = [json.loads(line) for line in text.splitlines()] if lines else json.loads(text)
        found[general(path.relative_to(folder).as_posix())] = shape(values)
    return found


def messages(text: str, folder: Path) -> str:
    """What was said, without numbers, folders, and verdicts on how well the model does."""
    text = re.sub(r"^The (transformer|model) .*\n", "", text, flags=re.MULTILINE)
    lines = [re.sub(r"\d[\d,.]*(e-?\d+)?", "#", line.replace(str(folder), "FOLDER")) for line in text.splitlines()]
    return "\n".join(dict.fromkeys(lines)) + "\n"


def hold(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("task", TASKS)
def test_a_run_writes_and_says_what_it_did(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(task, donor=[f"d{i % 6}" for i in range(120)])
    data.save_to_disk(str(tmp_path / "cells.dataset"))
    settings = {
        "run": {"name": "small", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 6, "learning_rate": 0.02},
        "evaluate": {"bootstrap": 20},
        "predict": {"dataset": str(tmp_path / "cells.dataset")},
        "compute": {"device": "cpu"},
        **TASKS[task],
    }
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(settings))
    capsys.readouterr()
    assert main(["run", "-c", str(config)]) == 0
    assert main(["status", str(tmp_path / "runs" / "small")]) == 0
    said = capsys.readouterr()
    hold(f"{task}.txt", messages(said.err + said.out, tmp_path))
    hold(f"{task}.json", json.dumps(shapes_of(tmp_path / "runs" / "small"), indent=1, sort_keys=True) + "\n")
