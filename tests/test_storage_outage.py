"""A training whose S3 server fails in the middle of a checkpoint's upload."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster_data import finished_steps
from faulty_s3 import FaultyS3, faulty_s3
from makers import assert_same_weights, run_training, train_job, weights
from sortase import storage
from sortase.errors import StorageError
from sortase.storage import retry
from sortase.train.checkpoints import Checkpoints

UPLOAD = "PUT /{bucket}/run/checkpoints/step-00000008/[0-9a-f]+/optimizer"  # the model's file is sent before it
STEPS = [16, 20, 24]


@pytest.fixture(scope="module")
def faulty_server(s3_server: str) -> Iterator[FaultyS3]:
    with faulty_s3(s3_server) as server:
        yield server


@pytest.fixture
def faulty(faulty_server: FaultyS3, s3_through: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> FaultyS3:
    monkeypatch.setattr(retry._GivenUp, "at", float("-inf"))
    s3_through(faulty_server.address)
    faulty_server.heal()
    return faulty_server


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long to ask again."""
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.001)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("undisturbed")
    run_training(folder, train_job(save_total_limit=3))
    return weights(folder)


def train(url: str) -> Any:
    fitted, _ = run_training(f"{url}/run", train_job(save_total_limit=3))
    return fitted.summary


def assert_as_undisturbed(url: str, expected: dict[str, np.ndarray], folder: Path) -> None:
    """The same weights, and checkpoints of which every file is what was written."""
    assert_same_weights(weights(storage.fetch(f"{url}/run")), expected)
    assert set(STEPS) <= set(finished_steps(f"{url}/run"))
    for checkpoint in Checkpoints(f"{url}/run/checkpoints", None, lambda: None).all():
        checkpoint.download(folder / "copy")


def upload_of(url: str) -> re.Pattern[str]:
    return re.compile(UPLOAD.format(bucket=url.removeprefix("s3://")))


@pytest.mark.parametrize("fault", ["500 InternalError", "503 SlowDown", "reset"])
def test_a_server_that_fails_for_a_while(
    fault: str, faulty: FaultyS3, hasty: None, s3_url: str, undisturbed: dict[str, np.ndarray], tmp_path: Path
) -> None:
    faulty.fail(fault, times=12, where=upload_of(s3_url))
    train(s3_url)
    assert sum(bool(upload_of(s3_url).search(request)) for request in faulty.requests) == 13
    assert_as_undisturbed(s3_url, undisturbed, tmp_path)


def test_a_slow_server(faulty: FaultyS3, s3_url: str, undisturbed: dict[str, np.ndarray], tmp_path: Path) -> None:
    faulty.delay = 0.05
    train(s3_url)
    faulty.delay = 0.0
    assert_as_undisturbed(s3_url, undisturbed, tmp_path)


@pytest.mark.slow
def test_a_server_that_is_gone_for_20_seconds(
    faulty: FaultyS3, s3_url: str, undisturbed: dict[str, np.ndarray], tmp_path: Path
) -> None:
    faulty.vanish(upload_of(s3_url), 20)
    train(s3_url)
    assert faulty.vanished
    assert_as_undisturbed(s3_url, undisturbed, tmp_path)


def test_a_server_that_is_gone_for_too_long(
    faulty: FaultyS3,
    hasty: None,
    s3_url: str,
    undisturbed: dict[str, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The checkpoint that breaks off does not count, the one before it does."""
    monkeypatch.setattr(retry, "BUDGET", 0.5)
    faulty.vanish(upload_of(s3_url), 1e9)
    with pytest.raises(StorageError, match=r"cannot \w+ .* after \d+ attempts in \d s: ") as caught:
        train(s3_url)
    assert caught.value.exit_code == 3
    faulty.heal()
    assert finished_steps(f"{s3_url}/run") == [4]
    left = storage.list_files(f"{s3_url}/run/checkpoints/step-00000008")
    assert [name.rpartition("/")[2] for name in left] == ["config.json", "model.safetensors"]
    assert not storage.exists(f"{s3_url}/run/model")
    assert train(s3_url)["resumed_from"] == 4
    assert_as_undisturbed(s3_url, undisturbed, tmp_path)
