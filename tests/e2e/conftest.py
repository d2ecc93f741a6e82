"""End-to-end tests on a live cluster with the KubeRay operator: they run with --e2e, where KUBECONFIG names one.

    eval "$(../shared/cluster/cluster up)"        # or any cluster whose pods reach this machine
    pytest -n 0 --e2e tests/e2e

They need 15 minutes on two cores. Environment: SORTASE_E2E_IMAGE (default sortase:dev) is the image, which the nodes
have; KUBE_TESTBED_HOST an address of this machine that pods reach; SORTASE_E2E_VALUES a file of further values for the
chart; SORTASE_E2E_NAMESPACE a namespace to use instead of a new one.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from live import Cluster, restricted_namespace
from s3 import served

HERE = Path(__file__).parent
STARTED = time.monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """No test starts after the time that SORTASE_E2E_SECONDS gives to all of them."""
    given = os.environ.get("SORTASE_E2E_SECONDS")
    if given and HERE in item.path.parents and time.monotonic() - STARTED > float(given):
        pytest.skip(
            f"no time left; alone: pytest {item.path.relative_to(HERE.parents[1])} -k {item.name.split('[')[0]}"
        )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A KUBECONFIG alone is no consent: on a person's machine it names the cluster that they work with."""
    if config.getoption("--e2e"):
        if not os.environ.get("KUBECONFIG"):
            raise pytest.UsageError("--e2e needs a cluster: KUBECONFIG=... pytest -n 0 --e2e tests/e2e")
        return
    skip = pytest.mark.skip(reason="needs a live cluster: KUBECONFIG=... pytest -n 0 --e2e tests/e2e")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture(scope="session")
def bucket(s3: str) -> str:
    import boto3

    name = f"e2e-{uuid.uuid4().hex[:8]}"
    boto3.client("s3", endpoint_url=s3).create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture(scope="session")
def cells(bucket: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 labelled rows in the bucket."""
    from makers import dataset
    from sortase import storage

    source = dataset()
    named = source.remove_columns("label").add_column("cell_type", ["abc"[label] for label in source["label"]])
    folder = tmp_path_factory.mktemp("cells")
    named.save_to_disk(folder / "cells.dataset")
    for path in (folder / "cells.dataset").iterdir():
        storage.write_bytes(f"{bucket}/input/cells.dataset/{path.name}", path.read_bytes())
    return f"{bucket}/input/cells.dataset"


@pytest.fixture(scope="session")
def cluster(s3: str) -> Iterator[Cluster]:
    """The live cluster, with a namespace that enforces the restricted standard."""
    with restricted_namespace() as name:
        yield Cluster(name)
