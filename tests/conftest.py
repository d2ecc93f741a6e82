"""What the tests share: an S3 server on this machine, a place of each kind to write to, and quiet surroundings."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_head import head as head

# Models of a few kilobytes gain nothing from threads, and threads that wait for each other crawl on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")  # the same for a Ray that a test starts

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
CLIENTS: dict[str, dict[str, Any]] = {}  # what s3fs keeps, by address; s3fs itself does not see addresses change


def forget_filesystems() -> None:
    """Make the next S3 request read its endpoint anew."""
    if "s3fs" in sys.modules:
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()


@pytest.fixture(autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test, no progress, no Hugging Face hub."""
    monkeypatch.setenv("SORTASE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("SORTASE_PROGRESS", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server for the whole session, which the AWS environment variables name."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", address)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_REGION", "us-east-1")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "HTTP_PROXY", "http_proxy"):
            patch.delenv(name, raising=False)
        forget_filesystems()
        yield address
        forget_filesystems()
    server.stop()


@pytest.fixture(scope="session")
def s3_client(s3_server: str) -> Any:
    """For what storage never does: make buckets and odd objects."""
    import boto3

    return boto3.client("s3", endpoint_url=s3_server)


@pytest.fixture
def s3_url(s3_client: Any) -> str:
    """A bucket that nothing else uses."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture
def s3_through(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sends this test's S3 requests to another address, with clients of its own."""
    from s3fs import S3FileSystem

    def send(address: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        monkeypatch.setattr(S3FileSystem, "_cache", CLIENTS.setdefault(address, {}))

    return send


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place to write below: a local folder, then a bucket."""
    if request.param == "local":
        return str(tmp_path)
    return str(request.getfixturevalue("s3_url"))


@pytest.fixture
def geneformer_dir() -> Path:
    """The published token dictionary and gene medians of Geneformer, which lie beside the repository where present."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the Geneformer files are not at {SHARED_DATA}")
    return SHARED_DATA
