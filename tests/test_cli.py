"""The command around the stages: help, schema, stopping, exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

import sortase
from makers import architecture, dataset
from patience import PATIENCE
from sortase.cli import STAGES, main


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert all(name in said for name in [*STAGES, "run", "schema", "demo"])


def test_signal_handlers_are_given_back() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    assert main(["schema"]) == 0
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_no_command_is_an_error() -> None:
    assert main([]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"sortase {sortase.__version__}"


def test_schema_describes_run_yaml(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"run", "labels", "model"} <= set(schema["required"])


def test_missing_configuration_names_what_is_near(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("")
    assert main(["run", "-c", str(tmp_path / "runn.yaml")]) == 2
    assert "run.yaml" in capsys.readouterr().err


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    with pytest.raises(sortase.SortaseError):
        main(["run", "-c", str(tmp_path / "no.yaml"), "--debug"])


def test_terminated_training_keeps_a_checkpoint_and_ends_with_5(tmp_path: Path) -> None:
    data = dataset(n=200)
    data = data.add_column("kind", ["xyz"[label] for label in data["label"]]).remove_columns("label")
    data.save_to_disk(str(tmp_path / "cells.dataset"))
    settings = {
        "run": {"name": "long", "output": str(tmp_path)},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"column": "kind"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 500},
        "compute": {"device": "cpu"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "sortase", "run", "-c", str(tmp_path / "run.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "long" / "checkpoints").glob("*/manifest.json")):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGTERM)
    said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 5, said
    assert "the same command continues" in said
    step = int(said.split("at step ")[1].split(" ")[0])
    assert (tmp_path / "long" / "checkpoints" / f"step-{step:08d}" / "manifest.json").exists()


@pytest.mark.parametrize(("column", "code"), [("kind", 0), ("kinds", 2)])
def test_who_stops_reading_ends_the_printing_and_nothing_else(column: str, code: int, tmp_path: Path) -> None:
    """As in ``sortase prepare ... 2>&1 | head -1``."""
    data = dataset(n=40)
    data = data.add_column("kind", ["xyz"[label] for label in data["label"]]).remove_columns("label")
    data.save_to_disk(str(tmp_path / "cells.dataset"))
    settings = {
        "run": {"name": "x", "output": str(tmp_path)},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"column": column},
        "model": {"config": architecture()},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    read, written = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sortase", "prepare", "-c", str(tmp_path / "run.yaml")]
    with os.fdopen(written, "wb") as nobody:
        assert subprocess.run(command, stdout=nobody, stderr=subprocess.STDOUT, timeout=PATIENCE).returncode == code
    assert (tmp_path / "x" / "stages" / "prepare.json").exists() is (code == 0)
