"""An attempt that was held, as by SIGSTOP or a suspended machine, and wakes after a later one has finished the run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import held_jobs

# A write of each kind; `held_everywhere.py` holds at every one, and in searches and other storages, too.
WHERE = {
    "local": ("write attempts/00001-training", "write model/model.safetensors"),
    "s3": ("checkpoints/step-00000006/manifest.json",),  # a run there takes three times as long
}


@pytest.mark.slow
def test_what_a_held_attempt_writes_late_is_not_taken_for_the_later_ones(tmp_path: Path, root: str) -> None:
    """Whatever it was about to write: the run is the later one's, byte for byte, when that command is given again."""
    where = WHERE["s3" if root.startswith("s3://") else "local"]
    command = [sys.executable, str(Path(__file__).with_name("holder.py")), *held_jobs.configs(tmp_path, root), *where]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) == len(where)
    for each in told:
        assert not each["wrong"] + each["unnoticed"], f"after an attempt was held before '{each['write']}': {each}"
        assert each["codes"]["held"] == 5, each
