"""The entrypoints of jobs/ as jobs of a real Ray head: Jobs API, token authentication, everything in the S3 server."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from makers import architecture, rows
from patience import PATIENCE
from ray_head import Head, sortase
from sortase import storage
from sortase.cli import parser

pytest.importorskip("ray")
JOBS = Path(__file__).resolve().parents[1] / "jobs"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@dataclass(frozen=True)
class Ended:
    status: str
    exit_code: int | None
    logs: str
    described: str
    commands: str


def submit(head: Head, job: str, config: str, *options: str) -> Ended:
    """Run a job to its end; ``commands`` are the command lines of all the cluster's processes meanwhile."""
    client = head.client
    entrypoint = shlex.join([sys.executable, str(JOBS / f"{job}.py"), "--config", config, *options])
    deadline = time.monotonic() + PATIENCE
    name = client.submit_job(entrypoint=entrypoint)
    commands: set[str] = set()
    while not client.get_job_status(name).is_terminal():
        assert time.monotonic() < deadline, client.get_job_logs(name)
        commands |= set(head.processes().values())
        time.sleep(0.3)
    details = client.get_job_info(name)
    return Ended(details.status, details.driver_exit_code, client.get_job_logs(name), str(details), "\n".join(commands))


@pytest.fixture
def config(s3_url: str, tmp_path: Path) -> str:
    """The URL of a run.yaml in the S3 server, beside the data that it names."""
    ids = rows(120)
    cells = Dataset.from_dict({"input_ids": ids, "cell_type": ["BNT"[row[0] - 5] for row in ids]})
    cells.save_to_disk(str(tmp_path / "cells.dataset"))
    storage.upload(tmp_path / "cells.dataset", f"{s3_url}/input/cells.dataset")
    settings = {
        "run": {"name": "small", "output": f"{s3_url}/runs"},
        "data": {"dataset": f"{s3_url}/input/cells.dataset"},
        "labels": {"task": "sequence", "column": "cell_type"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 20},
        "compute": {"device": "cpu"},
    }
    storage.write_bytes(f"{s3_url}/run.yaml", yaml.safe_dump(settings).encode())
    return f"{s3_url}/run.yaml"


def assert_no_secret(head: Head, ended: Ended, bucket: str) -> None:
    """Not in what the run stored, said or was started with, nor in what Ray wrote about it."""
    assert not head.secrets_in(ended.logs)
    assert not head.secrets_in(ended.described)
    assert not head.secrets_in(ended.commands)
    for name in storage.list_files(bucket):
        assert not head.secrets_in(storage.read_bytes(f"{bucket}/{name}")), name
    for path in head.folder.glob("session_*/logs/**/*"):
        assert not path.is_file() or not head.secrets_in(path.read_bytes()), path


ARTEFACTS = ["run.json", "model/model.safetensors", "evaluation.json", "predictions.parquet", "report.html"]


def test_a_run_as_a_job_leaves_everything_in_storage(head: Head, config: str) -> None:
    ended = submit(head, "pipeline", config)
    assert (ended.status, ended.exit_code) == ("SUCCEEDED", 0), ended.logs
    bucket = config.removesuffix("/run.yaml")
    stored = storage.list_files(f"{bucket}/runs/small")
    assert not [name for name in ARTEFACTS if name not in stored]
    assert storage.read_json(f"{bucket}/runs/small/run.json")["training"]["steps"] > 0
    assert f"{bucket}/runs/small/report.html" in ended.logs
    assert "jobs/pipeline.py" in ended.commands
    assert head.secrets_in(Path(f"/proc/{min(head.processes())}/environ").read_bytes()) == [
        "the token",
        "the AWS secret",
    ]
    assert_no_secret(head, ended, bucket)


def test_a_run_as_a_job_on_workers_of_the_cluster(head: Head, config: str) -> None:
    workers = ("compute.workers=1", "compute.prepare.workers=1", "compute.score.workers=1")
    ended = submit(head, "pipeline", config, *(part for setting in workers for part in ("--set", setting)))
    assert (ended.status, ended.exit_code) == ("SUCCEEDED", 0), ended.logs
    bucket = config.removesuffix("/run.yaml")
    stored = storage.list_files(f"{bucket}/runs/small")
    assert not [name for name in ARTEFACTS if name not in stored]
    training = storage.read_json(f"{bucket}/runs/small/run.json")["training"]
    assert training["starts"] == 1, ended.logs  # this process's own training has no starts
    assert "RayTrainWorker" in ended.commands
    assert "ray::_Worker" in ended.commands
    assert_no_secret(head, ended, bucket)


def test_a_job_with_a_bad_configuration_fails_with_its_message_and_exit_code(head: Head, config: str) -> None:
    ended = submit(head, "prepare", config, "--set", "labels.column=celltype")
    assert (ended.status, ended.exit_code) == ("FAILED", 2)
    assert "sortase prepare: unknown column 'celltype' for labels.column; did you mean 'cell_type'?" in ended.logs


def test_the_command_line_of_ray_submits_a_job(head: Head, config: str) -> None:
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--address", head.dashboard]
    command += ["--working-dir", str(JOBS), "--", sys.executable, "train.py", "--config", config]
    command += ["--set", "compute.worker=2"]
    environment = head.environment | {"RAY_AUTH_TOKEN": head.token}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "unknown key 'compute.worker'; did you mean 'workers'?" in done.stdout
    assert not head.secrets_in(done.stdout + done.stderr)


@pytest.mark.parametrize("headers", [pytest.param({}, id="none"), pytest.param({"Authorization": "Bearer x"}, id="x")])
def test_without_the_token_no_job_is_taken(head: Head, headers: dict[str, str]) -> None:
    import requests
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    with pytest.raises(AuthenticationError):
        JobSubmissionClient(head.dashboard, headers=headers)
    before = len(head.client.list_jobs())
    answer = requests.post(
        f"{head.dashboard}/api/jobs/", json={"entrypoint": "true"}, headers=headers, timeout=PATIENCE
    )
    assert answer.status_code in (401, 403)
    assert len(head.client.list_jobs()) == before


@pytest.mark.parametrize("token", [pytest.param({}, id="none"), pytest.param({"RAY_AUTH_TOKEN": "ab" * 32}, id="x")])
def test_without_the_token_no_run_connects(head: Head, config: str, tmp_path: Path, token: dict[str, str]) -> None:
    command = [sys.executable, str(JOBS / "train.py"), "--config", config, "--set", "compute.workers=1"]
    environment = head.environment | {"HOME": str(tmp_path), "RAY_ADDRESS": head.gcs} | token
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 3, done.stderr
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr


def jobs_of(head: Head) -> list[Any]:
    return [job for job in head.client.list_jobs() if (job.submission_id or "").startswith("sortase-")]


def test_submit_follows_a_run_to_its_end_and_the_same_again_attaches(head: Head, config: str) -> None:
    before = len(jobs_of(head))
    done = sortase(head, "submit", "--config", config)
    assert done.returncode == 0, done.stdout + done.stderr
    folder = config.replace("run.yaml", "runs/small")
    assert done.stdout.splitlines()[0] == folder
    assert "evaluate: done" in done.stdout
    assert not [name for name in ARTEFACTS if name not in storage.list_files(folder)]
    assert storage.read_json(f"{folder}/logs/attempt-1/outcome.json")["submission"].startswith("sortase-small-")
    again = sortase(head, "submit", "--config", config)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "attached to it" in again.stderr
    assert again.stdout.count("evaluate: done") == 1
    assert len(jobs_of(head)) == before + 1
    told = sortase(head, "status", "--config", config)
    assert "succeeded" in told.stdout
    assert not head.secrets_in(done.stdout + done.stderr + again.stderr + told.stdout)


def test_a_refused_run_is_found_before_or_ends_with_its_code(head: Head, config: str) -> None:
    before = len(jobs_of(head))
    words = ("submit", "--config", config, "--set", "labels.column=celltype")
    refused = sortase(head, *words)
    assert refused.returncode == 2
    assert "did you mean 'cell_type'?" in refused.stderr
    assert refused.stderr.endswith("; nothing was submitted\n")
    assert len(jobs_of(head)) == before
    failed = sortase(head, *words, "--no-checks")
    assert failed.returncode == 2, failed.stdout + failed.stderr
    assert "unknown column 'celltype'" in failed.stdout
    assert "exit code 2" in failed.stderr


def test_cancel_leaves_a_run_that_goes_on_from_its_checkpoint(head: Head, config: str) -> None:
    words = ("--config", config, "--set", "train.num_train_epochs=2000")
    detached = sortase(head, "submit", *words, "--detach")
    assert detached.returncode == 0, detached.stderr
    folder = config.replace("run.yaml", "runs/small")
    deadline = time.monotonic() + PATIENCE
    while not any(name.endswith("manifest.json") for name in storage.list_files(f"{folder}/checkpoints")):
        assert time.monotonic() < deadline, sortase(head, "status", *words).stdout
        time.sleep(0.5)
    cancelled = sortase(head, "cancel", *words)
    assert cancelled.returncode == 0, cancelled.stderr
    assert "attempt 1 ended" in cancelled.stderr
    outcome = storage.read_json(f"{folder}/logs/attempt-1/outcome.json")
    assert (outcome["state"], outcome["exit_code"]) == ("cancelled", 5)
    step = int(outcome["error"].split("at step ")[1].split(" ")[0])
    assert f"step-{step:08d}/manifest.json" in storage.list_files(f"{folder}/checkpoints")
    attached = sortase(head, "submit", *words)
    assert attached.returncode == 5, attached.stderr
    assert "--attempt 2 starts another one" in attached.stderr


def test_a_wrong_token_is_told(head: Head, config: str) -> None:
    for command in ("submit", "cancel"):
        refused = sortase(head, command, "--config", config, RAY_AUTH_TOKEN="ab" * 32)
        assert refused.returncode == 2, refused.stderr
        assert "refuses the token" in refused.stderr
        assert "Traceback" not in refused.stderr


@pytest.mark.parametrize("job", sorted(path.stem for path in JOBS.glob("*.py")))
def test_each_job_is_a_command(job: str) -> None:
    command = "run" if job == "pipeline" else job
    done = subprocess.run([sys.executable, JOBS / f"{job}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"{command} [-h] [--config CONFIG]" in done.stdout
    replace = [] if job == "retrain" else ["--replace"]  # whose runs are named by what they are made from
    options = parser().parse_args([command, "--config", "s3://b/run.yaml", "--set", "run.seed=1", *replace])
    assert options.set == ["run.seed=1"]


def test_the_exit_code_of_a_job_is_the_commands(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("run: {}\n")
    command = [sys.executable, str(JOBS / "train.py"), "--config", str(tmp_path / "run.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "'labels' is required" in done.stderr
