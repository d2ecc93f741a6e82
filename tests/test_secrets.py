"""Nothing secret in a run folder, in what is said, in Ray's logs, in error words, or on a command line."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from datasets import Dataset

from faulty_s3 import FaultyS3, faulty_s3
from makers import architecture, rows
from sortase import storage
from sortase.config.check import validate
from sortase.config.load import check, parse
from sortase.config.train import TrainSpec
from sortase.errors import ConfigError, StorageError
from sortase.redact import redacted
from sortase.runs.events import Events
from sortase.runs.folder import RunFolder
from sortase.storage import retry

NAMES = [
    *("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "HF_TOKEN"),
    *("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD"),
]
MARK = "RUN_OF_A_TEST"
AWS_EXAMPLE = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SECONDS = 400


# Words and settings


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("http://me:hunter22@host:9000/x", "http://***@host:9000/x", id="password in a URL"),
        pytest.param("s3://b/k?X-Amz-Signature=abc&x=1", "s3://b/k?X-Amz-Signature=***&x=1", id="signature"),
        pytest.param("https://h/x?a=1&token=abc", "https://h/x?a=1&token=***", id="token in a query"),
        pytest.param("Authorization: Bearer abc.def", "Authorization: Bearer ***", id="header"),
        pytest.param("--set storage.secret_key=abc: no", "--set storage.secret_key=*** no", id="flag"),
        pytest.param('{"hub_token": "abc"}', '{"hub_token": "***"}', id="JSON"),
        pytest.param("aws_secret_access_key = abc", "aws_secret_access_key = ***", id="credentials file"),
        pytest.param(f"s3://AKIAIOSFODNN7EXAMPLE:{AWS_EXAMPLE}@b/x", "s3://***@b/x", id="a key with slashes in it"),
        pytest.param(f"http://me:{AWS_EXAMPLE}@host:9000/x", "http://***@host:9000/x", id="such a password"),
        pytest.param("https://me:a@b/c@host/x", "https://***@host/x", id="a password with @ in it"),
        pytest.param("https://ghp_0123456789@host/x", "https://***@host/x", id="a token alone"),
        pytest.param("https://me:123@host/x", "https://***@host/x", id="a password of digits"),
        pytest.param("'http://host:9000/x@y'", "'http://host:9000/x@y'", id="a port and a path with @ in it"),
        pytest.param("hdfs://node:8020/data@v2", "hdfs://node:8020/data@v2", id="another port"),
        pytest.param("http://[::1]:9000/a@b", "http://[::1]:9000/a@b", id="an address with colons"),
        pytest.param("registry://cells@champion", "registry://cells@champion", id="a reference"),
        pytest.param("cannot read s3://b/a:b@c?x=1", "cannot read s3://b/a:b@c?x=1", id="a key like a password"),
        pytest.param("task token: give labels.vocabulary", "task token: give labels.vocabulary", id="a token of text"),
        pytest.param("set AWS_SECRET_ACCESS_KEY, or more", "set AWS_SECRET_ACCESS_KEY, or more", id="a name alone"),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert redacted(text) == expected
    assert redacted(expected) == expected


@pytest.mark.parametrize("name", NAMES)
def test_values_of_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "abc/+defgh")
    assert redacted({"words": ["x: abc/+defgh."], 3: 0.5}) == {"words": ["x: ***."], 3: 0.5}
    assert str(StorageError("cannot read: abc/+defgh")) == "cannot read: ***"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "pgpassword",
            "MyApiKey",
            "STRIPE_SECRET_LIVE",
            "DATABASE_CONNECTION_STRING",
            "SIGNING_KEY_ID",
            "mysql_pwd_pass",
        ),
        *("Azure_Credentials", "GITHUB_TOKEN_1", "PASSPHRASE", "AWS_ACCESS_KEY_ID"),
    ],
)
def test_every_name_that_says_so_hides_its_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "abc/+defgh")
    assert redacted("cannot reach abc/+defgh.") == "cannot reach ***."


def test_values_over_several_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG\n9w0BAQEFAASCBKcwggSj\n-----END PRIVATE KEY-----\n"
    monkeypatch.setenv("TLS_PRIVATE_KEY", key)
    for shown in (key, key.replace("\n", "\r\n"), key.splitlines()[1], repr(key), f"  {key.splitlines()[2]}"):
        assert "MIIEvQIBADANBgkqhkiG" not in redacted(shown)
        assert "9w0BAQEFAASCBKcwggSj" not in redacted(shown)


def test_files_of_secrets_are_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/var/run/google/key.json")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/var/run/aws/credentials")
    words = "cannot open /var/run/google/key.json and /var/run/aws/credentials"
    assert redacted(words) == words


def test_short_values_and_paths_of_the_environment_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/var/run/token")
    assert redacted("s3://test/var/run/token") == "s3://test/var/run/token"


def test_names_of_settings() -> None:
    given = {"hub_token": "abc", "pad_token": "<pad>", "pad_token_id": 0, "max_tokens_per_device": 8, "password": 3}
    assert redacted(given) == {**given, "hub_token": "***"}
    assert redacted({"a": [{"api_key": "abc"}]}) == {"a": [{"api_key": "***"}]}


def test_run_folder_and_timeline(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    settings = {"url": "https://me:hunter22@host/x", "hub_token": "hunter22", "rate": 0.1}
    folder.describe(config=settings)
    with folder.stage("train", settings) as result:
        result["report"] = settings["url"]
    events = Events(folder)
    events.write("train", "lost", step=3, words=f"cannot read {settings['url']}")
    events.flush()
    assert folder.is_done("train", settings)
    with pytest.raises(ConfigError, match=r"rate 0\.1 → 0\.2") as caught:
        folder.is_done("train", {**settings, "rate": 0.2})
    assert "***" not in str(caught.value)
    files = {name: storage.read_bytes(folder.path(name)) for name in storage.list_files(folder.url)}
    assert sorted(name.split("/")[0] for name in files) == ["attempts", "attempts", "events", "run.json", "stages"]
    assert not [name for name, content in files.items() if b"hunter22" in content]
    assert all(b"***@host/x" in content for content in files.values())


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        pytest.param({"data": {"dataset": "https://me:hunter22@host/d"}}, "data.dataset", id="dataset"),
        pytest.param(
            {"data": {"dataset": f"s3://AKIA:{AWS_EXAMPLE}hunter22@b/d"}}, "data.dataset", id="key with slashes"
        ),
        pytest.param({"storage": {"endpoint": "https://hunter22@host:9000"}}, "storage.endpoint", id="endpoint"),
        pytest.param({"tracking": {"mlflow_uri": "https://ghp_hunter22@host/x"}}, "tracking.mlflow_uri", id="token"),
        pytest.param({"run": {"output": "https://h/x?X-Amz-Signature=hunter22"}}, "run.output", id="signature"),
        pytest.param({"train": {"hub_token": "hunter22"}}, "train.hub_token", id="training argument"),
        pytest.param({"model": {"config": {"token": "hunter22"}}}, "model.config.token", id="model"),
        pytest.param(
            {"compute": {"deepspeed": {"x": [{"api_key": "hunter22"}]}}}, "compute.deepspeed.x.api_key", id="x"
        ),
    ],
)
def test_a_configuration_with_a_credential_is_refused(sections: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=rf"{place} .*has no place in a configuration") as caught:
        check({**sections, "unknown": "key"})
    assert "hunter22" not in str(caught.value)


def test_settings_of_python_are_refused_in_the_same_words() -> None:
    with pytest.raises(ConfigError, match="hub_token is a credential") as caught:
        validate(TrainSpec, {"hub_token": "hunter22"}, "train")
    assert "hunter22" not in f"{caught.value}{caught.value.__cause__}"


def test_what_is_no_credential_is_not_refused() -> None:
    settings = {
        "run": {"name": "x", "output": "abfs://container@account/x"},
        "data": {"dataset": "hdfs://user@host/d", "filter": {"token": ["a"]}},
        "labels": {"column": "y", "mapping": {"password": 0, "secret": 1}},
        "model": {"config": {"pad_token_id": 0}},
    }
    assert check(settings).labels.mapping == {"password": 0, "secret": 1}


def test_a_yaml_error_does_not_quote_a_secret() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("storage:\n  secret_key: hunter22: hunter22\n")
    assert "not valid YAML" in str(caught.value)
    assert "secret_key: hunter22" not in str(caught.value)


# Whole runs


@pytest.fixture
def server(s3_server: str) -> Iterator[FaultyS3]:
    with faulty_s3(s3_server) as server:
        yield server


def test_an_answer_that_shows_a_secret(
    server: FaultyS3, s3_url: str, monkeypatch: pytest.MonkeyPatch, s3_through: Any
) -> None:
    """Neither in the error nor in its traceback, which Ray writes to its logs."""
    import traceback

    secret = secrets.token_hex(20)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setattr(retry, "BUDGET", 0.0)
    s3_through(server.address)
    for fault in (f"400 Wrong {secret}", f"503 {secret}"):
        server.fail(fault)
        with pytest.raises(StorageError, match=r"cannot write .*\*\*\*") as caught:
            storage.write_bytes(f"{s3_url}/x", b"1")
        assert secret not in "".join(traceback.format_exception(caught.value))


def started(mark: str) -> dict[int, bytes]:
    """Command lines of the processes that have the mark in their environment."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = (folder / "cmdline").read_bytes()
        except OSError:  # gone, or another user's
            continue
    return found


@pytest.mark.slow
def test_a_run_on_workers_with_secrets_in_its_environment(
    server: FaultyS3, s3_url: str, tmp_path: Path, ray_folder: Path
) -> None:
    pytest.importorskip("ray")
    values = {name: secrets.token_hex(20) for name in NAMES}
    values["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    mark = secrets.token_hex(8)
    ids = rows(120)
    cells = Dataset.from_dict({"input_ids": ids, "cell_type": ["BNT"[row[0] - 5] for row in ids]})
    cells.save_to_disk(str(tmp_path / "cells.dataset"))
    there = {"workers": 1}
    settings = {
        "run": {"name": "small", "output": f"{s3_url}/runs"},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"task": "sequence", "column": "cell_type"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1, "learning_rate": 0.001},
        "evaluate": {"bootstrap": 20},
        "compute": {"device": "cpu", "prepare": there, "score": there, **there, "max_failures": 0},
        "storage": {"endpoint": server.address, "region": "us-east-1"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    gone = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in gone}
    environment |= {**values, MARK: mark, "HOME": str(tmp_path), "RAY_TMPDIR": str(ray_folder)}
    environment |= {"RAY_AUTH_MODE": "token", "SORTASE_RAY_LOGS": "1"}

    def run(*options: str) -> tuple[int, bytes, set[bytes]]:
        command = [sys.executable, "-m", "sortase", "run", "-c", str(tmp_path / "run.yaml"), *options]
        commands: set[bytes] = set()
        deadline = time.monotonic() + SECONDS
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
            while process.poll() is None:
                assert time.monotonic() < deadline
                commands |= set(started(mark).values())
                time.sleep(0.2)
        return process.returncode, (tmp_path / "said").read_bytes(), commands

    code, said, commands = run()
    assert code == 0, said.decode()
    assert b"RayTrainWorker" in b"".join(commands)
    server.fail(f"400 Wrong {values['AWS_SECRET_ACCESS_KEY']}", where="PUT /" + s3_url[5:] + "/runs/other/model")
    failed, told, more = run("--set", "run.name=other")
    assert failed == StorageError.exit_code, told.decode()
    assert b"***" in told
    server.heal()
    logs = {path: path.read_bytes() for path in ray_folder.rglob("*") if path.is_file()}
    assert any("worker" in path.name for path in logs)
    storage.configure(storage.StorageSpec())
    found: dict[Any, bytes] = {"said": said, "told": told, "commands": b"\n".join(commands | more), **logs}
    found |= {name: storage.read_bytes(f"{s3_url}/{name}") for name in storage.list_files(s3_url)}
    assert "runs/small/run.json" in found
    shown = [(place, name) for place, text in found.items() for name, value in values.items() if value.encode() in text]
    assert not shown
