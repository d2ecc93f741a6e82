"""A real S3 server on an address of this machine that pods reach."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from faulty_s3 import faulty_s3
from ray_head import free_port

HOST = os.environ.get("KUBE_TESTBED_HOST", "10.79.0.1")
KEYS = {"AWS_ACCESS_KEY_ID": "e2e-user", "AWS_SECRET_ACCESS_KEY": "e2e-secret-0123456789"}
REGION = "us-east-1"


@contextmanager
def served() -> Iterator[str]:
    """The address of a server with these keys: versitygw where it is installed, otherwise moto's. The AWS environment
    variables of this process name it meanwhile."""
    port = free_port()
    folder = tempfile.mkdtemp(prefix="e2e-s3-")
    gateway = shutil.which("versitygw")
    if gateway:
        command = [gateway, "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder]
    else:
        moto = shutil.which("moto_server")
        assert moto, "neither versitygw nor moto_server is on the PATH"
        command = [moto, "-H", "127.0.0.1", "-p", str(port)]
    environment = {
        **os.environ,
        "ROOT_ACCESS_KEY": KEYS["AWS_ACCESS_KEY_ID"],
        "ROOT_SECRET_KEY": KEYS["AWS_SECRET_ACCESS_KEY"],
    }
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(port, server)
        with faulty_s3(f"http://127.0.0.1:{port}", HOST) as front, pytest.MonkeyPatch.context() as patch:
            for name, value in {**KEYS, "AWS_ENDPOINT_URL": front.address, "AWS_REGION": REGION}.items():
                patch.setenv(name, value)
            patch.setenv("AWS_DEFAULT_REGION", REGION)
            yield front.address
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the S3 server ended with {server.returncode}"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the S3 server did not listen within a minute")
