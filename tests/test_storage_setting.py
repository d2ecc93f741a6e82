"""The one storage setting: run.yaml alone says where the S3 server is, to this process and to all that Ray starts."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset, load_from_disk

from faulty_s3 import FaultyS3, faulty_s3
from makers import architecture, rows
from sortase import storage
from sortase.cli import main
from sortase.config.load import check
from sortase.config.storage import StorageSpec
from sortase.errors import ConfigError, StorageError

REGION = "eu-central-7"
ENVIRONMENT = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
ARTEFACTS = {"run.json", "model/model.safetensors", "evaluation.json", "predictions.parquet", "report.html"}
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server(s3_server: str) -> Iterator[FaultyS3]:
    """Before the S3 server, under an address that no environment variable holds."""
    from s3fs import S3FileSystem

    with faulty_s3(s3_server) as server, pytest.MonkeyPatch.context() as patch:
        for name in (*ENVIRONMENT, *KEYS):
            patch.delenv(name, raising=False)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        patch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(S3FileSystem, "_cache", {})
        yield server


@pytest.fixture
def bucket(server: FaultyS3, s3_client: Any) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    s3_client.create_bucket(Bucket=name)
    server.heal()
    server.signed_by.clear()
    yield f"s3://{name}"
    storage.configure(StorageSpec())


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from the environment, and so the workers'."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")


@pytest.fixture
def credentials_file(tmp_path: Path) -> str:
    path = tmp_path / "mounted"
    path.write_text("[default]\naws_access_key_id = AKMOUNTED\naws_secret_access_key = test\n")
    return str(path)


def setting(server: FaultyS3, **more: Any) -> dict[str, Any]:
    return {"endpoint": server.address, "region": REGION, **more}


def config(tmp_path: Path, bucket: str, reached: dict[str, Any], **sections: Any) -> Path:
    """A run.yaml, with all that it names in the bucket."""
    storage.configure(StorageSpec(**reached))
    ids = rows(120)
    cells = Dataset.from_dict({"input_ids": ids, "cell_type": ["BNT"[row[0] - 5] for row in ids]})
    cells.save_to_disk(str(tmp_path / "cells.dataset"))
    storage.upload(tmp_path / "cells.dataset", f"{bucket}/input/cells.dataset")
    storage.configure(StorageSpec())
    settings = {
        "run": {"name": "small", "output": f"{bucket}/runs"},
        "data": {"dataset": f"{bucket}/input/cells.dataset"},
        "labels": {"task": "sequence", "column": "cell_type"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 20},
        "compute": {"device": "cpu"},
        "storage": reached,
        **sections,
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def stored(bucket: str) -> set[str]:
    return set(storage.list_files(f"{bucket}/runs/small"))


def test_a_run_reaches_storage_by_its_setting_alone(
    server: FaultyS3, bucket: str, keys: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, bucket, setting(server))
    server.signed_by.clear()
    assert main(["run", "-c", str(path)]) == 0, capsys.readouterr().err
    assert stored(bucket) >= ARTEFACTS
    assert server.signed_by == {("AKENVIRONMENT", REGION)}


def test_a_mounted_credentials_file(server: FaultyS3, bucket: str, credentials_file: str, tmp_path: Path) -> None:
    path = config(tmp_path, bucket, setting(server, credentials_file=credentials_file))
    assert main(["prepare", "-c", str(path)]) == 0
    assert server.signed_by == {("AKMOUNTED", REGION)}


def test_everyone_who_opens_s3_is_told(server: FaultyS3, bucket: str, credentials_file: str, tmp_path: Path) -> None:
    """datasets, pandas, pyarrow, and this package: each reads what another wrote."""
    import pandas as pd
    import pyarrow.parquet as pq

    storage.configure(StorageSpec(**setting(server, credentials_file=credentials_file)))
    Dataset.from_dict({"x": [1, 2]}).save_to_disk(f"{bucket}/data")
    assert load_from_disk(f"{bucket}/data")["x"][:] == [1, 2]
    options = storage.storage_options(bucket)
    assert load_from_disk(f"{bucket}/data", storage_options=options)["x"][:] == [1, 2]
    assert (storage.fetch(f"{bucket}/data") / "dataset_info.json").is_file()
    pd.DataFrame({"x": [3]}).to_parquet(f"{bucket}/x.parquet", storage_options=options)
    filesystem, place = storage.arrow_filesystem(f"{bucket}/x.parquet")
    assert pq.read_table(place, filesystem=filesystem).column("x").to_pylist() == [3]
    assert server.signed_by == {("AKMOUNTED", REGION)}


def test_a_server_that_is_not_there_is_said_before_anything_starts(
    server: FaultyS3, bucket: str, keys: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, bucket, setting(server))
    server.vanish("/", 1e9)
    assert main(["run", "-c", str(path)]) == StorageError.exit_code
    said = capsys.readouterr().err
    assert re.search(
        rf"sortase run: cannot \w+( \w+)? {bucket}/\S+ after \d+ attempts in \d s: EndpointConnection", said
    )
    assert "starting" not in said


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        pytest.param(
            {"endpoint": "http://me:hunter22@host:9000"}, "storage.endpoint has a credential", id="in the URL"
        ),
        pytest.param({"endpoint": "http://me@host:9000"}, "storage.endpoint has a credential in its URL", id="a user"),
        pytest.param({"endpoint": "host:9000"}, "must be an address such as https://host:9000", id="no scheme"),
        pytest.param({"secret_key": "hunter22"}, "storage.secret_key is a credential", id="a key"),
        pytest.param({"user": "hunter22"}, "storage.user cannot be set: credentials have no place", id="a user's name"),
        pytest.param({"anonymous": True, "profile": "x"}, "leave out storage.profile", id="two identities"),
        pytest.param({"adressing": "path"}, "did you mean 'addressing'", id="a typing error"),
    ],
)
def test_settings_that_are_refused(wrong: dict[str, Any], words: str) -> None:
    settings = {"run": {"name": "x"}, "labels": {"column": "y"}, "model": {"checkpoint": "z"}, "data": {"dataset": "d"}}
    with pytest.raises(ConfigError, match=words) as caught:
        check({**settings, "storage": wrong})
    assert "hunter22" not in str(caught.value)


@pytest.mark.slow
class TestOnRay:
    """Ray's processes have the credentials from the environment, and nothing else but the setting."""

    @pytest.fixture(autouse=True, scope="class")
    def ray_here(self, server: FaultyS3) -> Iterator[None]:
        ray = pytest.importorskip("ray")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ACCESS_KEY_ID", "AKENVIRONMENT")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("PYTHONWARNINGS", "ignore")
            ray.init(address="local", num_cpus=2, include_dashboard=False, namespace="sortase", log_to_driver=False)
            yield
            ray.shutdown()

    @pytest.mark.filterwarnings("ignore")
    def test_workers_of_all_stages(
        self, server: FaultyS3, bucket: str, keys: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        there = {"workers": 1}
        path = config(
            tmp_path, bucket, setting(server), compute={"device": "cpu", "prepare": there, "score": there, **there}
        )
        assert main(["run", "-c", str(path)]) == 0, capsys.readouterr().err
        assert stored(bucket) >= ARTEFACTS
        assert storage.read_json(f"{bucket}/runs/small/run.json")["training"]["starts"] == 1
        assert server.signed_by == {("AKENVIRONMENT", REGION)}

    @pytest.mark.filterwarnings("ignore")
    def test_trials(
        self, server: FaultyS3, bucket: str, keys: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        space = {"learning_rate": [0.001, 0.002]}
        path = config(tmp_path, bucket, setting(server), tune={"trials": 1, "space": space, "scheduler": "none"})
        for stage in ("prepare", "tune"):
            assert main([stage, "-c", str(path)]) == 0, capsys.readouterr().err
        assert "model/model.safetensors" in stored(bucket)
        assert server.signed_by == {("AKENVIRONMENT", REGION)}
