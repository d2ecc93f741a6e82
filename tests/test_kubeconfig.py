"""Kubeconfigs as they should not be: each is refused in words that name the file, and nothing is asked of a cluster."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fake_kubernetes import ApiServer, api_server
from makers import architecture
from sortase.cli import main

pytest.importorskip("helm_python", reason="pip install helm-python-sdk")
pytest.importorskip("kubernetes", reason="pip install kubernetes")

NO_CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()
EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never"}


def config(cluster: Any = None, user: Any = None, context: Any = None, **top: Any) -> bytes:
    """A good one, but for what is given."""
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "one", "user": "me", **(context or {})}}],
        "clusters": [{"name": "one", "cluster": {"server": "https://127.0.0.1:1", **(cluster or {})}}],
        "users": [{"name": "me", "user": {"token": "kept"} if user is None else user}],
    }
    return yaml.safe_dump({**settings, **top}).encode()


def fetched_by(command: str, *arguments: str) -> bytes:
    return config(user={"exec": {**EXEC, "command": command, "args": list(arguments)}})


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "FILE must hold clusters, contexts and users, not nothing"),
    "a list": (b"- 1\n", "FILE must hold clusters, contexts and users, not a list"),
    "text": (b"hello", "FILE must hold clusters, contexts and users, not text"),
    "binary": (bytes(range(256)), "FILE is not a kubeconfig: FILE holds zero bytes"),
    "no YAML": (
        b"users:\n- name: me\n  user: {token: kept\n",
        r"FILE is not valid YAML in line 4: expected ',' or '}'",
    ),
    "control characters": (b"users: \x07", "FILE is not valid YAML"),
    "nested": (b"[" * 100_000, "FILE is not a kubeconfig: it is nested too deeply"),
    "clusters a number": (config(clusters=1), "'clusters' of FILE must be a list, not a number"),
    "clusters a mapping": (config(clusters={"one": {}}), "'clusters' of FILE must be a list, not a mapping"),
    "users text": (config(users="me"), "'users' of FILE must be a list, not text"),
    "contexts yes": (config(contexts=True), "'contexts' of FILE must be a list, not yes or no"),
    "an entry of text": (config(clusters=["one"]), "entry 1 of 'clusters' of FILE must be a mapping with a name"),
    "an entry without a name": (
        config(users=[{"user": {}}]),
        "entry 1 of 'users' of FILE must be a mapping with a name",
    ),
    "nothing in it": (b"kind: Config\n", "FILE has no current-context; --context names one of its contexts: none"),
    "no current": (config(**{"current-context": ""}), "FILE has no current-context; --context names one.*: 'here'$"),
    "another current": (config(**{"current-context": "x"}), "the context 'x' is not in FILE; there are 'here'"),
    "a context of nothing": (
        config(contexts=[{"name": "here"}]),
        "context 'here' of FILE must have settings under 'con",
    ),
    "a context of text": (
        config(contexts=[{"name": "here", "context": "one"}]),
        "context 'here' of FILE must have settings under 'context', not text",
    ),
    "no such cluster": (
        config(context={"cluster": "two"}),
        "the cluster 'two' is named by context 'here' of FILE and not there; there are 'one'",
    ),
    "no clusters": (config(clusters=None), "the cluster 'one' is named by context 'here' of FILE and not there.*none"),
    "no such user": (
        config(context={"user": "you"}),
        "the user 'you' is named by context 'here' of FILE and not there",
    ),
    "a cluster unnamed": (config(context={"cluster": None}), "context 'here' of FILE names no cluster"),
    "a cluster's number": (config(context={"cluster": 1}), "cluster of context 'here' of FILE must be text, not a num"),
    "a namespace's list": (config(context={"namespace": ["a"]}), "namespace of context 'here' of FILE must be text"),
    "no server": (config({"server": None}), "server of cluster 'one' of FILE must be a URL such as .*, not None"),
    "a server's name": (config({"server": "host"}), "server of cluster 'one' of FILE must be a URL such as .*'host'"),
    "a cluster's text": (
        config(clusters=[{"name": "one", "cluster": "x"}]),
        "cluster 'one' of FILE must have settings",
    ),
    "no base64": (
        config({"certificate-authority-data": "LS0t!"}),
        "certificate-authority-data of cluster 'one' of FILE is not base64: ",
    ),
    "no base64 of a user": (
        config(user={"client-key-data": "a"}),
        "client-key-data of user 'me' of FILE is not base64",
    ),
    "base64's number": (
        config({"certificate-authority-data": 7}),
        "certificate-authority-data of cluster 'one' of FILE must be text, not a number",
    ),
    "no certificate": (
        config({"certificate-authority-data": NO_CERTIFICATE}),
        "the certificates of cluster 'one' of FILE, or of its user, are none: ",
    ),
    "no file": (config({"certificate-authority": "/gone/ca"}), "user 'me' of FILE cannot be used: File does not exist"),
    "no token's file": (config(user={"tokenFile": "/gone/t"}), "user 'me' of FILE cannot be used: .*'/gone/t'"),
    "a user's number": (config(users=[{"name": "me", "user": 1}]), "user 'me' of FILE must have settings.*a number"),
    "a provider's number": (config(user={"auth-provider": 1}), "user 'me' of FILE cannot be used: TypeError"),
    "a command's number": (config(user={"exec": 1}), "exec of user 'me' of FILE must hold a command"),
    "no command": (
        fetched_by("no-such-command"),
        "exec of user 'me' of FILE brought nothing.*no command 'no-such-command'",
    ),
    "no command there": (
        fetched_by("./gone"),
        "exec of user 'me' of FILE brought nothing.*no command './gone' on this machine",
    ),
}
FAILING = {
    "a command that fails": (fetched_by("sh", "-c", "echo expired >&2; exit 7"), r"exec: process returned 7\. expired"),
    "a command that says nothing": (fetched_by("true"), "exec: failed to decode process output"),
}


@pytest.fixture
def run_yaml(tmp_path: Path) -> str:
    settings = {
        "run": {"name": "x", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "cells.dataset")},
        "labels": {"column": "kind"},
        "model": {"config": architecture()},
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """Writes the kubeconfig of this machine."""
    path = tmp_path / "kube.yaml"
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    monkeypatch.setenv("SORTASE_LIMITS", "kubernetes-call=20 kubernetes-answer=1")

    def write(content: bytes) -> Path:
        path.write_bytes(content)
        return path

    return write


def matches(words: str, path: Path, said: str) -> bool:
    return re.search(words.replace("FILE", re.escape(str(path))), said.strip()) is not None


@pytest.mark.parametrize("what", BAD)
def test_a_malformed_kubeconfig(
    what: str, given: Callable[[bytes], Path], run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, words = BAD[what]
    path = given(content)
    assert main(["submit", "-c", run_yaml]) == 2
    said = capsys.readouterr().err
    assert matches(words, path, said), said
    assert "Traceback" not in said and "kept" not in said
    assert sorted(each.name for each in path.parent.iterdir()) == ["kube.yaml", "run.yaml"]


@pytest.mark.parametrize("what", FAILING)
def test_a_command_that_gives_no_credentials(
    what: str, given: Callable[[bytes], Path], run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, words = FAILING[what]
    path = given(content)
    assert main(["submit", "-c", run_yaml]) == 3
    said = capsys.readouterr().err
    assert matches(f"exec of user 'me' of FILE brought nothing to log in with: {words}", path, said), said


@pytest.mark.parametrize("command", ["submit", "plan", "status", "logs", "cancel"])
def test_every_command_says_so(
    command: str, given: Callable[[bytes], Path], run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = given(config(clusters=1))
    assert main([command, "-c", run_yaml, "--namespace", "ml"]) == 2
    assert f"'clusters' of {path} must be a list, not a number" in capsys.readouterr().err


def test_a_folder_and_a_context_that_is_not_there(
    given: Callable[[bytes], Path], run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = given(config())
    assert main(["submit", "-c", run_yaml, "--context", "there"]) == 2
    assert f"the context 'there' is not in {path}; there are 'here'" in capsys.readouterr().err
    path.unlink()
    assert main(["submit", "-c", run_yaml]) == 2
    assert f"no cluster: there is no kubeconfig at {path}, which KUBECONFIG" in capsys.readouterr().err
    path.mkdir()
    assert main(["submit", "-c", run_yaml]) == 2
    assert f"the kubeconfig {path} cannot be read: Is a directory" in capsys.readouterr().err


@pytest.fixture
def server() -> Any:
    with api_server() as made:
        yield made


def test_several_files_and_a_command_that_works(
    server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kubectl reads them: one that is not there is passed over, and of one name the first counts."""
    from sortase.deploy.kube import Kubernetes

    answer = json.dumps({"apiVersion": EXEC["apiVersion"], "kind": "ExecCredential", "status": {"token": "made"}})
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(yaml.safe_dump({"clusters": [{"name": "one", "cluster": {"server": server.address}}]}).encode())
    user = {"exec": {**EXEC, "command": "echo", "args": [answer]}}
    second.write_bytes(config(user=user, context={"namespace": "ml"}))
    where = f"{tmp_path / 'gone'}:{first}:{second}"
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", where)
    cluster = Kubernetes()
    assert cluster.namespace == "ml"
    assert cluster.job("x") is None
