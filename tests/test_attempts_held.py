"""An attempt that was held, as by SIGSTOP or a suspended machine, and wakes after a later one has finished the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from makers import architecture
from sortase import storage
from test_run import cells

# A write of each kind; `python holder.py` without them holds at every one.
WHERE = {
    "local": ("labeled.dataset/data-", "manifest.json", "write model/model.safetensors", "write stages/train"),
    "s3": ("manifest.json", "write stages/train"),  # a run there takes three times as long
}


@pytest.fixture
def configs(tmp_path: Path, root: str) -> list[str]:
    """Two configurations of a run, with other labels' rows, seeds and learning rates."""
    for name, data in (("cells", cells()), ("new", cells(17, seed=3).remove_columns("cell_type"))):
        data.save_to_disk(str(tmp_path / f"{name}.dataset"))
    made = []
    for name, seed in (("first", 1), ("later", 2)):
        settings: dict[str, Any] = {
            "run": {"name": "x", "output": storage.join(root, "runs"), "seed": seed},
            "data": {"dataset": str(tmp_path / "cells.dataset"), "filter": {"donor": ["d0", "d1", f"d{seed + 1}"]}},
            "labels": {"task": "sequence", "column": "cell_type"},
            "model": {"config": architecture()},
            "train": {"num_train_epochs": 1, "learning_rate": 0.001 * seed},
            "evaluate": {"bootstrap": 0, "baseline": False},
            "predict": {"dataset": str(tmp_path / "new.dataset")},
            "compute": {"device": "cpu"},
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        made.append(str(tmp_path / f"{name}.yaml"))
    return made


@pytest.mark.slow
def test_what_a_held_attempt_writes_late_is_not_taken_for_the_later_ones(configs: list[str], root: str) -> None:
    """Whatever it was about to write: the run is the later one's, byte for byte, when that command is given again."""
    where = WHERE["s3" if root.startswith("s3://") else "local"]
    command = [sys.executable, str(Path(__file__).with_name("holder.py")), *configs, *where]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(where)
    for write, codes, wrong in told:
        assert not wrong, f"after an attempt was held before '{write}': {wrong}"
        assert (codes["later"], codes["third"]) == (0, 0), write
        assert codes["held"] == 5, write
