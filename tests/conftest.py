"""What the tests share: an S3 server on this machine, a place of each kind to write to, and quiet surroundings."""

from __future__ import annotations

import gc
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

from ray_head import head as head
from ray_head import ray_folder as ray_folder

# Models of a few kilobytes gain nothing from threads, and threads that wait for each other crawl on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # read when its library is imported
os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "120")  # the same for a Ray that a test starts

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ALONE = re.compile(
    "/e2e/|cluster|tune|jobs|retrain_ray|deadlines|from_stformer|checkpoint_trust|storage_setting|tokenize_shards"
)
CLIENTS: dict[str, dict[str, Any]] = {}  # what s3fs keeps, by address; s3fs itself does not see addresses change


def forget_filesystems() -> None:
    """Make the next S3 request read its endpoint anew."""
    if "s3fs" in sys.modules:
        sys.modules["s3fs"].S3FileSystem.clear_instance_cache()


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "also run tests/e2e, on the cluster that KUBECONFIG names; they make and delete namespaces in it"
    parser.addoption("--e2e", action="store_true", help=words)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`pytest` by itself leaves out what is slow. Tests that are named, and `pytest -m slow`, run whatever they are."""
    whole = [Path(given).resolve() for given in config.args] == [Path(__file__).parent]
    if whole and not config.option.markexpr:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # of `libraries_apart`: libraries in C count what is left at the end


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Processes of a parallel run take whole files; those that start Ray, or use a live cluster, share one process,
    because two Rays at once are too much for two cores. xdist's own groups do nothing under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "alone" if ALONE.search(path) else path

    return ByFile(config, log)


@pytest.fixture(scope="module", autouse=True)
def libraries_apart() -> None:
    """The garbage collector looks at what a test makes, not again and again at millions of objects of libraries; and a
    library that sets the number of threads when it is imported, as loompy does, sets it for no other file's tests."""
    gc.collect()
    gc.freeze()
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(os.environ["OMP_NUM_THREADS"]))


@pytest.fixture(autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own for each test, no progress, no Hugging Face hub."""
    from sortase import storage

    monkeypatch.setenv("SORTASE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("SORTASE_PROGRESS", "0")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    yield
    storage.release()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server for the whole session, which the AWS environment variables name."""
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    put, alone = S3Response.put_object, Lock()

    def put_alone(response: Any) -> Any:
        """As S3 does it: of two who may only create an object, one does. moto itself looks first and puts then."""
        with alone:
            return put(response)

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_alone)
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
