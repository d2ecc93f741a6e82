"""Servers that accept and never answer: every door to something outside gives up in its time, in words."""

from __future__ import annotations

import http.server
import math
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster_data import wait_until
from faulty_s3 import faulty_s3
from makers import dataset
from patience import PATIENCE
from ray_head import free_port
from silent import answering
from sortase import deadlines, storage
from sortase.config.compute import ComputeSpec
from sortase.deadlines import LIMITS, UnansweredError, limit, within
from sortase.errors import ConfigError, InfrastructureError, StorageError
from sortase.storage import retry

ENOUGH = 120.0  # seconds that a door may take, which needs one or two; without limits it is five minutes and more
SETTINGS = b"\0\0\0\4\0\0\0\0\0"


@pytest.fixture
def shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    """All limits are a second or less."""
    monkeypatch.setenv("SORTASE_LIMITS", " ".join(f"{name}=0.7" for name in LIMITS))


def test_limits_are_set_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_LIMITS", "ray-port=2.5  storage-call=9")
    assert (limit("ray-port"), limit("storage-call"), limit("hub-look")) == (2.5, 9, LIMITS["hub-look"])


@pytest.mark.parametrize("told", ["ray=5", "ray-port", "ray-port=", "ray-port=soon", "ray-port=0", "ray-port=inf"])
def test_a_limit_that_is_none_is_named(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_LIMITS", told)
    with pytest.raises(ConfigError, match=rf"^SORTASE_LIMITS.*'{told.partition('=')[0]}"):
        limit("ray-port")


def test_work_keeps_its_result_and_its_error() -> None:
    assert within(60, lambda: 5) == 5
    with pytest.raises(KeyError, match="missing"):
        within(60, lambda: {}["missing"])


def test_who_has_to_end_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to end shortens what is under way, too."""
    held = threading.Event()
    monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "2")
    asking = threading.Timer(0.1, deadlines.leave)
    asking.start()
    try:
        with pytest.raises(UnansweredError):
            within(600, lambda: held.wait(600))
    finally:
        held.set()
        asking.join()
        deadlines.stay()


@pytest.fixture
def web() -> Iterator[int]:
    """The port of an HTTP server, as Ray's dashboard is one."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def other_grpc() -> Iterator[int]:
    """The port of a gRPC server that is no GCS, as Ray Client's is."""
    grpc = pytest.importorskip("grpc")
    from concurrent.futures import ThreadPoolExecutor

    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("0.0.0.0:0")
    server.start()
    yield port
    server.stop(None).wait()


@pytest.fixture
def silent() -> Iterator[int]:
    with answering() as port:
        yield port


@pytest.fixture
def silent_grpc() -> Iterator[int]:
    """It greets as gRPC servers do, and answers no call."""
    with answering(SETTINGS) as port:
        yield port


@pytest.fixture
def closed() -> int:
    return free_port()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("web", "what listens there is not Ray's GCS"),
        ("other_grpc", "Method not found"),
        ("silent", "nothing answers there within 0.7 s"),
        ("silent_grpc", "no answer in 1 s"),
        ("closed", "Connection refused"),
    ],
)
def test_ray_where_none_is(kind: str, words: str, shortened: None, request: pytest.FixtureRequest) -> None:
    pytest.importorskip("ray")
    from sortase.cluster.connect import connected

    address = f"127.0.0.1:{request.getfixturevalue(kind)}"
    with pytest.raises(InfrastructureError) as caught, connected(ComputeSpec(address=address)):
        pass
    said = str(caught.value)
    assert f"Ray on {address} cannot be reached: " in said
    assert words in said
    assert "(6379" in said
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("nobody", "nobody"),
        ("127.0.0.1:70000", "70000"),
        ("no-such-host.invalid:6379", "no-such-host"),
    ],
)
def test_ray_at_what_is_no_address(address: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from sortase.cluster.connect import connected

    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InfrastructureError, match=words), connected(ComputeSpec()):
        pass


def test_the_address_of_ray_client(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    from sortase.cluster.connect import connected

    words = r"ray://head:10001 is one of Ray Client.*head:6379.*http://head:8265"
    with pytest.raises(ConfigError, match=words), connected(ComputeSpec(address="ray://head:10001")):
        pass


@pytest.fixture
def silent_s3(silent: int, shortened: None, s3_through: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(retry, "BUDGET", 0.5)
    monkeypatch.setattr(retry._GivenUp, "at", -math.inf)
    s3_through(f"http://127.0.0.1:{silent}")
    return "s3://bucket/folder"


def read_whole(url: str) -> bytes:
    with storage.open_input(url) as file:
        return file.read()


STORAGE = {
    "look": storage.exists,
    "look for a folder": storage.is_dir,
    "list": storage.list_files,
    "read": storage.read_bytes,
    "open": read_whole,
    "write": lambda url: storage.write_bytes(url, b"1"),
    "create": lambda url: storage.create_bytes(url, b"1"),
    "remove": storage.remove,
    "fetch": storage.fetch,
    "identify": storage.fingerprint,
    "upload": lambda url: storage.upload(Path(__file__), url),
    "probe": storage.probe,
}


@pytest.mark.parametrize("what", STORAGE)
def test_s3_that_never_answers(what: str, silent_s3: str) -> None:
    with pytest.raises(StorageError, match=f"cannot .* {silent_s3}"):
        within(ENOUGH, lambda: STORAGE[what](f"{silent_s3}/file"))


def test_another_storage_that_never_answers(shortened: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a file system of fsspec does by itself, a call has its time."""
    from fsspec.implementations.memory import MemoryFileSystem

    held = threading.Event()
    monkeypatch.setattr(retry._GivenUp, "at", -math.inf)
    for name in ("info", "cat_file", "find"):
        monkeypatch.setattr(MemoryFileSystem, name, lambda *_, **__: held.wait(ENOUGH))
    for work in (storage.exists, storage.read_bytes, storage.list_files):
        with pytest.raises(StorageError, match=r"cannot .* memory://bucket/file: no answer in \d s"):
            within(ENOUGH, lambda: work("memory://bucket/file"))  # noqa: B023
    held.set()


KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me, namespace: team}}}}]
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {user}}}]
"""
EXEC = "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sleep, args: ['600']}}"
OBJECT = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {}}
CLUSTER = {
    "job": lambda cluster: cluster.job("x"),
    "state": lambda cluster: cluster.state("x"),
    "list": lambda cluster: cluster.jobs_of("x"),
    "log": lambda cluster: cluster.new_log("x"),
    "try out": lambda cluster: cluster.try_out([OBJECT]),
    "submit": lambda cluster: cluster.submit([{**OBJECT, "kind": "RayJob"}]),
    "delete": lambda cluster: cluster.delete("x"),
}


@pytest.mark.parametrize("what", CLUSTER)
def test_kubernetes_that_never_answers(
    what: str, silent: int, shortened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("kubernetes")
    from sortase.deploy.kube import Kubernetes

    (tmp_path / "config").write_text(KUBECONFIG.format(port=silent, user="{token: x}"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    cluster = Kubernetes()
    with pytest.raises(InfrastructureError, match="the cluster does not answer: "):
        within(ENOUGH, lambda: CLUSTER[what](cluster))


def test_kubernetes_whose_credentials_never_come(
    shortened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("kubernetes")
    from sortase.deploy.kube import Kubernetes

    (tmp_path / "config").write_text(KUBECONFIG.format(port=1, user=EXEC))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))
    with pytest.raises(InfrastructureError, match=r"credentials of user 'me' of .*no answer in"):
        within(ENOUGH, Kubernetes)


@pytest.mark.parametrize("what", ["state", "new_log", "delete"])
def test_a_jobs_api_that_never_answers(what: str, silent: int, shortened: None) -> None:
    pytest.importorskip("ray.job_submission")
    from sortase.deploy.ray_jobs import RayJobs

    jobs = RayJobs(f"http://127.0.0.1:{silent}")
    with pytest.raises(InfrastructureError, match=f"Ray at http://127.0.0.1:{silent} does not answer: no answer in"):
        within(ENOUGH, lambda: getattr(jobs, what)("x"))


def test_a_hub_that_never_answers(
    silent: int, shortened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    from sortase.model.load import load_config
    from sortase.model.tokenizer import load_tokenizer

    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for ask in (lambda name: load_config(name, None), load_tokenizer):
        with pytest.raises(InfrastructureError, match=r"hub does not answer for someone/model: no answer in"):
            within(ENOUGH, lambda: ask("someone/model"))  # noqa: B023


def test_a_cache_whose_holder_sleeps(shortened: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is another's; as long as its copy grows it is waited for."""
    from sortase.storage import cache

    monkeypatch.setenv("SORTASE_CACHE", str(tmp_path))
    with ThreadPoolExecutor(max_workers=1) as pool:
        held, go_on = threading.Event(), threading.Event()

        def fill(path: Path) -> None:
            path.parent.mkdir(parents=True)
            for size in range(1, 8):
                path.write_bytes(b"1" * size)
                go_on.wait(0.3)
            held.set()
            go_on.wait(ENOUGH)

        filling = pool.submit(cache.cached, "s3://bucket/x", "1", "x", 7, fill)
        wait_until(lambda: list(tmp_path.rglob("x")), "the copy")
        with pytest.raises(StorageError, match=r"another process holds .*, and has copied nothing to it for \d s"):
            within(ENOUGH, lambda: cache.cached("s3://bucket/x", "1", "x", 7, fill))
        assert held.is_set()
        go_on.set()
        filling.result()


RUN = """
run: {{name: small, output: {output}, seed: 7}}
data: {{dataset: {data}}}
labels: {{column: cell_type}}
model: {{config: {{vocab_size: 64, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}}}}
train: {{num_train_epochs: 2000, save_strategy: steps, save_steps: 10, {evaluated}}}
compute: {{device: cpu}}
"""
SEARCH = "tune: {{trials: 1, space: {{learning_rate: [1.0e-4, 1.0e-2]}}, scheduler: none}}\n"
UNTESTED = RUN.replace("{evaluated}", 'eval_strategy: "no"')
DOORS = {
    "run": (UNTESTED, 3, "no answer"),
    "search": (RUN.replace("{evaluated}", "eval_strategy: steps, eval_steps: 10") + SEARCH, 5, "have not ended in"),
    "workers": (UNTESTED.replace("device: cpu", "device: cpu, workers: 2"), 5, "have not ended in"),
}


class Held:
    """A run in a process of its own, whose storage answers until it is at work."""

    def __init__(self, settings: str, server: Any, folder: Path, output: str, monkeypatch: pytest.MonkeyPatch):
        source = dataset()
        names = ["abc"[label] for label in source["label"]]
        source.remove_columns("label").add_column("cell_type", names).save_to_disk(str(folder / "cells.dataset"))
        (folder / "run.yaml").write_text(settings.format(output=output, data=folder / "cells.dataset"))
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", "30")
        monkeypatch.setenv("SORTASE_LIMITS", "storage-answer=9000 storage-call=9000 nodes-answer=9000")
        self.server, self.words = server, folder / "said"
        command = [sys.executable, "-m", "sortase", "run", "-c", str(folder / "run.yaml")]
        with self.words.open("wb") as words:
            self.process = subprocess.Popen(command, stdout=words, stderr=words)

    def terminated(self, begun: Callable[[], bool]) -> tuple[int | None, str]:
        """The exit code, and what it said."""
        try:
            wait_until(lambda: self.process.poll() is not None or begun(), "its work")
            self.server.fail("silence")
            assert self.server.stalled.wait(PATIENCE)
            self.process.terminate()
            self.process.wait(timeout=PATIENCE)
        finally:
            self.process.kill()
            self.process.wait()
        return self.process.returncode, self.words.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("door", DOORS)
def test_the_time_until_a_job_is_killed_is_kept(
    door: str, s3_server: str, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM while storage accepts and never answers: the driver ends by itself, with words, whether it is it that
    asks storage or a process that it waits for. By the limits alone it would wait for hours."""
    settings, expected, words = DOORS[door]
    done = "/checkpoints/step-00000020/manifest.json"
    with faulty_s3(s3_server) as server:
        held = Held(settings, server, tmp_path, s3_url, monkeypatch)
        code, said = held.terminated(lambda: any(done in request for request in server.requests))
    assert code == expected, said
    assert re.search(f"^sortase run: .*{words}", said, re.MULTILINE), said


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["prepare", "evaluate"])
def test_the_time_is_kept_while_workers_do_parts(
    stage: str, s3_server: str, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver waits for workers that write to storage, which does not answer them."""
    kind, part = {"prepare": ("prepare", "labeled.dataset/"), "evaluate": ("score", ".parquet.parts/")}[stage]
    settings = UNTESTED.replace("device: cpu", f"device: cpu, {kind}: {{{{workers: 2}}}}").replace("2000", "1")
    with faulty_s3(s3_server) as server:
        server.fail("silence", where=re.compile(f"^(PUT|POST) .*{part}"))
        code, said = Held(settings, server, tmp_path, s3_url, monkeypatch).terminated(server.stalled.is_set)
    assert code == 5, said
    assert f"sortase run: stopped in stage '{stage}'; the same command does it again" in said


def test_the_table_of_limits() -> None:
    text = (Path(__file__).parents[1] / "docs" / "deadlines.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z]+-[a-z]+)` \| (\d+) \|", text, re.MULTILINE))
    assert {name: float(seconds) for name, seconds in rows.items()} == LIMITS
