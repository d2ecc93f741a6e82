"""A Ray head of this machine, with token authentication and everything in the S3 server: one for all tests."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from patience import PATIENCE


@dataclass(frozen=True)
class Head:
    """A Ray head of this machine with its secrets; ``mark`` is in the environment of all its processes."""

    dashboard: str
    gcs: str
    folder: Path
    token: str
    aws_secret: str
    mark: str
    environment: dict[str, str]

    @property
    def client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        return JobSubmissionClient(self.dashboard, headers={"Authorization": f"Bearer {self.token}"})

    def processes(self) -> dict[int, str]:
        """Command lines by process id."""
        found = {}
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and self.mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # gone, or another user's
                continue
        return found

    def secrets_in(self, text: str | bytes) -> list[str]:
        content = text if isinstance(text, bytes) else text.encode()
        named = {"the token": self.token, "the AWS secret": self.aws_secret}
        return [name for name, value in named.items() if value.encode() in content]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def needs_jobs_api() -> None:
    pytest.importorskip("ray")
    for part_of_ray_default in ("aiohttp_cors", "opencensus", "prometheus_client", "virtualenv"):
        pytest.importorskip(part_of_ray_default, reason="Ray's Jobs API needs ray[default]")


@contextmanager
def folder_with_a_short_name() -> Iterator[Path]:
    """For Ray: the paths of its sockets end after 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def ray_folder() -> Iterator[Path]:
    with folder_with_a_short_name() as folder:
        yield folder


@pytest.fixture(scope="session")
def head(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    needs_jobs_api()
    with folder_with_a_short_name() as ray_folder:
        yield from started_head(tmp_path_factory.mktemp("head"), ray_folder)


def started_head(folder: Path, ray_folder: Path) -> Iterator[Head]:
    token, aws_secret, mark = (secrets.token_hex(32) for _ in range(3))
    port, dashboard = free_port(), free_port()
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "RAY_AUTH_TOKEN")}
    environment.pop("RAY_gcs_server_port_wait_time_s", None)  # it is also how long a wrong address is tried
    environment |= {
        "HOME": str(folder),
        "SORTASE_CACHE": str(folder / "cache"),
        "SORTASE_PROGRESS": "0",
        "HF_HUB_OFFLINE": "1",
        "AWS_SECRET_ACCESS_KEY": aws_secret,
        "RAY_AUTH_MODE": "token",
        "CLUSTER_OF_A_TEST": mark,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
    command += [f"--port={port}", "--include-dashboard=true", f"--dashboard-port={dashboard}"]
    command += [f"--{name}-port={free_port()}" for name in ("dashboard-agent-listen", "ray-client-server")]
    command += ["--disable-usage-stats", f"--temp-dir={ray_folder}", "--object-store-memory=100000000"]
    made = Head(f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}", ray_folder, token, aws_secret, mark, environment)
    with (folder / "out").open("wb") as out:
        started = subprocess.Popen(
            command,
            env={**environment, "RAY_AUTH_TOKEN": token, "RAY_gcs_server_port_wait_time_s": str(PATIENCE)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until_ready(made, started, folder / "out")
        yield made
    finally:
        end(made, started)


def wait_until_ready(head: Head, started: subprocess.Popen[bytes], out: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and started.poll() is None:
        try:
            head.client.submit_job(entrypoint="true")  # the API answers before there is a node to run a job
        except (ConnectionError, RuntimeError):
            time.sleep(0.5)
        else:
            return
    pytest.fail(f"the Ray head did not start: {out.read_text()[-2000:]}")


def end(head: Head, started: subprocess.Popen[bytes]) -> None:
    """The head's processes and no others."""
    for _ in range(20):
        for process in head.processes():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        started.wait()
        if not head.processes():
            return
        time.sleep(0.2)


def sortase(head: Head, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command on a machine that reaches the cluster and the storage."""
    return subprocess.run(
        [sys.executable, "-m", "sortase", *words, "--address", head.dashboard],
        env=head.environment | {"RAY_AUTH_TOKEN": head.token} | environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
