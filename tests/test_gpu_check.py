"""The GPU check stays alive: its reduced form does all parts on a CPU, and a broken bound is an exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "gpu.py"


def check(output: Path, *options: str) -> tuple[subprocess.CompletedProcess[str], dict]:
    command = [sys.executable, str(SCRIPT), "--reduced", "--output", str(output), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    return done, json.loads(output.read_text()) if output.exists() else {}


@pytest.mark.slow
def test_all_parts_work_on_a_cpu(tmp_path: Path) -> None:
    done, found = check(tmp_path / "gpu.json")
    assert done.returncode == 0, done.stderr
    assert found["reduced"] and found["ok"] and found["versions"]["torch"]
    bounds = {finding["name"] for finding in found["findings"] if finding["ok"]}
    numbers = ("loss", "gradient norm", "largest gradient", "logits", "accuracy")
    combinations = [
        f"{kind} {family} {precision}: {number}"
        for kind in ("sequence", "token")
        for family in ("bert", "esm", "modernbert")
        for precision in ("fp32", "bf16", "fp16")
        for number in numbers
    ]
    others = ["precision: auto", "killed by", "largest difference of a loss", "early stopping at step"]
    assert {*combinations, *others, "settings named for training", "setting named for evaluation"} <= bounds
    figures = {f["name"]: f["value"] for f in found["findings"] if isinstance(f["value"], float)}
    for variant in ("ours", "stock, longest", "stock, grouped"):
        assert figures[f"tiny to 32, {variant}: useful tokens/s"] > 0
        assert 0 < figures[f"tiny to 32, {variant}: MFU"] < 1
    assert figures["tiny: evaluated cells/s"] > 0
    assert figures["tiny to 32, ours: padding, share"] < figures["tiny to 32, stock, longest: padding, share"]


def test_a_broken_bound_is_an_exit_code(tmp_path: Path) -> None:
    done, found = check(tmp_path / "gpu.json", "--only", "right: precision", "--break", "precision: auto")
    (finding,) = found["findings"]
    assert (done.returncode, finding["ok"], found["ok"]) == (1, False, False)
    assert "precision: auto" in done.stderr


def forever() -> None:
    while True:
        pass


def failing() -> None:
    raise OSError("no such device")


@pytest.mark.parametrize(
    ("seconds", "limit", "work", "value", "ok"),
    [
        pytest.param(0, 10, forever, "skipped: no time is left (--seconds)", None, id="no time at all"),
        pytest.param(1.05, 10, forever, "skipped: no time is left (--seconds)", None, id="no time for all of it"),
        pytest.param(60, 1, forever, "not done in 1 s", False, id="too slow"),
        pytest.param(60, 10, failing, "OSError: no such device", False, id="an error"),
    ],
)
def test_a_part_ends_in_its_time(
    seconds: float, limit: float, work: Any, value: str, ok: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from gpu_check.checks import Report

    report = Report(seconds)
    report.run("part", limit, work)
    (finding,) = report.findings
    assert (finding.value, finding.ok) == (value, ok)


def test_without_a_gpu_only_the_reduced_form_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--output", str(tmp_path / "gpu.json")],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert done.returncode == 2
    assert "--reduced" in done.stderr
    assert not (tmp_path / "gpu.json").exists()
