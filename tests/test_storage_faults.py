"""Faults between this machine and S3, on real sockets, and the copies that a node keeps."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faulty_s3 import FaultyS3, faulty_s3
from patience import PATIENCE
from sortase import storage
from sortase.errors import InputError, MissingInputError, StorageError
from sortase.storage import cache, retry

CONTENT = os.urandom(300_000)


@pytest.fixture(scope="module")
def faulty_server(s3_server: str) -> Iterator[FaultyS3]:
    with faulty_s3(s3_server) as server:
        yield server


@pytest.fixture
def faulty(
    faulty_server: FaultyS3, s3_through: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyS3]:
    """Between this test and S3; it spoils nothing until it is told to, and nobody waits long to ask again."""
    monkeypatch.setattr(retry, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(retry, "BUDGET", 0.5)
    monkeypatch.setattr(retry._GivenUp, "at", -math.inf)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)
    s3_through(faulty_server.address)
    faulty_server.heal()
    yield faulty_server
    faulty_server.go_on.set()


def through_input(url: str) -> bytes:
    with storage.open_input(url) as file:
        return file.read()


def through_output(url: str) -> None:
    with storage.open_output(url) as file:
        file.write(CONTENT)


def downloaded(url: str, folder: Path) -> bytes:
    storage.download(url, folder / "copy")
    return (folder / "copy").read_bytes()


def written(write: Callable[[str, Path], None]) -> Callable[[str, Path], bytes]:
    """What a request reads afterwards from the place that it wrote to."""

    def work(url: str, folder: Path) -> bytes:
        write(f"{url}-new", folder)
        return storage.read_bytes(f"{url}-new")

    return work


def removed(url: str, folder: Path) -> bool:
    storage.remove(url)
    return storage.exists(url)


def upload(url: str, folder: Path) -> None:
    (folder / "file").write_bytes(CONTENT)
    storage.upload(folder / "file", url)


# Each operation with what it gives; "x" is there before, with CONTENT.
OPERATIONS: dict[str, tuple[Callable[[str, Path], Any], Any]] = {
    "read_bytes": (lambda url, _: storage.read_bytes(url), CONTENT),
    "open_input": (lambda url, _: through_input(url), CONTENT),
    "download": (downloaded, CONTENT),
    "fetch": (lambda url, _: storage.fetch(url).read_bytes(), CONTENT),
    "write_bytes": (written(lambda url, _: storage.write_bytes(url, CONTENT)), CONTENT),
    "open_output": (written(lambda url, _: through_output(url)), CONTENT),
    "upload": (written(upload), CONTENT),
    "exists": (lambda url, _: storage.exists(url), True),
    "exists not": (lambda url, _: storage.exists(f"{url}-absent"), False),
    "is_dir": (lambda url, _: storage.is_dir(url.rpartition("/")[0]), True),
    "list_files": (lambda url, _: list(storage.list_files(url)), [""]),
    "remove": (removed, False),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_busy_service_is_asked_again(operation: str, faulty: FaultyS3, s3_url: str, tmp_path: Path) -> None:
    work, expected = OPERATIONS[operation]
    storage.write_bytes(f"{s3_url}/run/x", CONTENT)
    faulty.fail("503", times=2)
    assert work(f"{s3_url}/run/x", tmp_path) == expected
    assert len(faulty.requests) >= 3


@pytest.mark.parametrize("operation", ["read_bytes", "open_input", "write_bytes", "upload", "list_files", "remove"])
def test_a_reset_connection_is_opened_again(operation: str, faulty: FaultyS3, s3_url: str, tmp_path: Path) -> None:
    work, expected = OPERATIONS[operation]
    storage.write_bytes(f"{s3_url}/run/x", CONTENT)
    faulty.fail("reset", times=2)
    assert work(f"{s3_url}/run/x", tmp_path) == expected
    assert len(faulty.requests) >= 3


@pytest.mark.parametrize("fault", ["503", "reset", "cut"])
@pytest.mark.parametrize("operation", ["read_bytes", "open_input", "download", "fetch"])
def test_content_is_whole_after_faults_in_its_midst(
    operation: str, fault: str, faulty: FaultyS3, s3_url: str, tmp_path: Path
) -> None:
    work, expected = OPERATIONS[operation]
    storage.write_bytes(f"{s3_url}/run/x", CONTENT)
    faulty.fail(fault, times=2, where="/run/x")
    assert work(f"{s3_url}/run/x", tmp_path) == expected


def test_a_long_read_goes_on_where_it_failed(
    faulty: FaultyS3, s3_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(storage, "BLOCK", 100_000)
    storage.write_bytes(f"{s3_url}/x", CONTENT)
    with storage.open_input(f"{s3_url}/x") as file:
        start = file.read(50_000)
        faulty.fail("503", times=3, where="GET")
        assert start + file.read() == CONTENT
    assert faulty.gets("/x") <= 3 + 3


def test_a_service_that_stays_busy(faulty: FaultyS3, s3_url: str) -> None:
    storage.write_bytes(f"{s3_url}/x", b"old")
    faulty.fail("503")
    with pytest.raises(
        StorageError, match=rf"cannot write {s3_url}/x after \d+ attempts in \d s: .*Service Unavailable"
    ) as caught:
        storage.write_bytes(f"{s3_url}/x", CONTENT)
    assert caught.value.exit_code == 3
    assert len(faulty.requests) > 2
    faulty.heal()
    assert storage.read_bytes(f"{s3_url}/x") == b"old"


def test_a_service_that_is_gone(faulty: FaultyS3, s3_url: str, s3_through: Callable[[str], None]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        s3_through(f"http://127.0.0.1:{unused.getsockname()[1]}")
        with pytest.raises(
            StorageError, match=rf"cannot read {s3_url}/x after \d+ attempts in \d s: EndpointConnectionError"
        ):
            storage.read_bytes(f"{s3_url}/x")


def test_a_service_that_goes_while_a_file_is_read(
    faulty: FaultyS3, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BUDGET", 0.1)
    storage.write_bytes(f"{s3_url}/x", CONTENT)
    with storage.open_input(f"{s3_url}/x") as file:
        faulty.fail("503")
        with pytest.raises(StorageError, match=rf"cannot read {s3_url}/x after \d+ attempts"):
            file.read()


@pytest.mark.parametrize("operation", ["read_bytes", "open_input", "write_bytes", "upload", "exists", "list_files"])
def test_a_refusal_is_final(operation: str, faulty: FaultyS3, s3_url: str, tmp_path: Path) -> None:
    faulty.fail("403")
    with pytest.raises(StorageError, match=rf"{s3_url}/x(-new)?: PermissionError: ") as caught:
        OPERATIONS[operation][0](f"{s3_url}/x", tmp_path)
    assert len(faulty.requests) == 1
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("operation", ["read_bytes", "open_input", "write_bytes", "upload", "fetch"])
def test_a_bucket_that_does_not_exist(operation: str, faulty: FaultyS3, tmp_path: Path) -> None:
    faulty.heal()
    with pytest.raises(MissingInputError, match=r"s3://no-such-bucket/x.* exist"):
        OPERATIONS[operation][0]("s3://no-such-bucket/x", tmp_path)
    assert len(faulty.requests) == len(set(faulty.requests)) <= 4


def test_a_hint_that_cannot_be_had(faulty: FaultyS3, s3_url: str) -> None:
    """Where listing is forbidden, a missing file is still told as missing."""
    faulty.fail("403", where="prefix=&delimiter")
    with pytest.raises(MissingInputError, match=r"cannot read .*/x: it does not exist$"):
        storage.read_bytes(f"{s3_url}/x")


def test_parts_of_two_versions_are_never_read_as_one(
    faulty: FaultyS3, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "BLOCK", 100_000)
    storage.write_bytes(f"{s3_url}/x", b"1" * 300_000)
    with storage.open_input(f"{s3_url}/x") as file:
        assert set(file.read(10)) == {ord("1")}
        storage.write_bytes(f"{s3_url}/x", b"2" * 300_000)
        faulty.heal()
        with pytest.raises(StorageError, match=f"{s3_url}/x was replaced while it was read"):
            file.read()
    assert faulty.gets("/x") == 1


@pytest.fixture
def in_parts(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A content that is sent in three parts, the smallest that S3 takes."""
    monkeypatch.setattr("s3fs.core.calculate_chunksize", lambda *_, **__: 5 * 2**20)
    return bytes(range(256)) * (11 * 2**12)


def unfinished(client: Any, url: str) -> list[Any]:
    """The uploads whose parts are stored, and paid for, without being visible."""
    return client.list_multipart_uploads(Bucket=url.removeprefix("s3://")).get("Uploads", [])


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_an_upload_that_breaks_off_leaves_nothing(
    fault: str, in_parts: bytes, faulty: FaultyS3, s3_url: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "BUDGET", 0.1)
    storage.write_bytes(f"{s3_url}/x", b"old")
    faulty.fail(fault, where="partNumber=2")
    with pytest.raises(StorageError, match=f"cannot write {s3_url}/x"), storage.open_output(f"{s3_url}/x") as file:
        file.write(in_parts)
    assert any("partNumber=1" in request for request in faulty.requests)
    assert storage.read_bytes(f"{s3_url}/x") == b"old"
    assert unfinished(s3_client, s3_url) == []


@pytest.mark.parametrize(("fault", "where"), [("503", "partNumber=2"), ("reset", "partNumber=2"), ("cut", "uploadId")])
def test_an_upload_in_parts_is_repeated(
    fault: str, where: str, in_parts: bytes, faulty: FaultyS3, s3_url: str, s3_client: Any
) -> None:
    faulty.fail(fault, times=1, where=where)
    with storage.open_output(f"{s3_url}/x") as file:
        file.write(in_parts)
    assert storage.read_bytes(f"{s3_url}/x") == in_parts
    assert unfinished(s3_client, s3_url) == []


def test_an_upload_that_the_service_forgot(in_parts: bytes, faulty: FaultyS3, s3_url: str, s3_client: Any) -> None:
    """Some services answer so when a completion whose answer was lost is asked for again."""
    faulty.fail("404 NoSuchUpload", times=1, where="POST /" + s3_url.removeprefix("s3://") + "/x?uploadId")
    with storage.open_output(f"{s3_url}/x") as file:
        file.write(in_parts)
    assert storage.read_bytes(f"{s3_url}/x") == in_parts
    assert unfinished(s3_client, s3_url) == []


@pytest.mark.parametrize("fault", ["503 SlowDown", "500 InternalError", "429 TooManyRequests", "400 RequestTimeout"])
def test_what_a_busy_service_says(fault: str, faulty: FaultyS3, s3_url: str) -> None:
    storage.write_bytes(f"{s3_url}/x", CONTENT)
    faulty.fail(fault, times=2)
    assert storage.read_bytes(f"{s3_url}/x") == CONTENT


def test_pauses_grow_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = waiting(monkeypatch)
    with pytest.raises(StorageError, match=r"after \d+ attempts in 60 s"):
        retry.attempt(refuse, "read", "s3://b/x")
    longest = [min(retry.LONGEST_WAIT, retry.FIRST_WAIT * 2**number) for number in range(len(pauses) - 1)]
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, longest, strict=False))
    assert sum(pauses) == pytest.approx(retry.BUDGET)


def waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses are noted down, and are over at once by the clock of the repeats."""
    pauses: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", pauses.append)
    monkeypatch.setattr(retry.time, "monotonic", lambda: 1000.0 + sum(pauses))
    monkeypatch.setattr(retry._GivenUp, "at", -math.inf)
    return pauses


def refuse() -> None:
    raise ConnectionResetError


def test_what_is_asked_after_a_service_was_given_up_does_not_wait_as_long(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = waiting(monkeypatch)
    spent = []
    for _ in range(2):
        with pytest.raises(StorageError):
            retry.attempt(refuse, "read", "s3://b/x")
        spent.append(sum(pauses))
    retry.attempt(lambda: None, "read", "s3://b/x")
    with pytest.raises(StorageError):
        retry.attempt(refuse, "read", "s3://b/x")
    assert [*spent, sum(pauses)] == pytest.approx([60, 65, 125])


def test_before_anything_is_lost_a_service_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = waiting(monkeypatch)
    with storage.impatiently(), pytest.raises(StorageError, match="in 5 s: ConnectionResetError"):
        retry.attempt(refuse, "read", "s3://b/x")
    assert sum(pauses) == pytest.approx(retry.IMPATIENT)


def test_processes_do_not_come_back_at_the_same_moment() -> None:
    script = "from sortase.storage import retry as _retry; print([_retry._JITTER.random() for _ in range(4)])"
    path = os.pathsep.join([str(Path(storage.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", script]
    seen = {subprocess.check_output(command, env={**os.environ, "PYTHONPATH": path}) for _ in range(2)}
    assert len(seen) == 2


def test_missing_credentials(
    s3_through: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3_through("http://127.0.0.1:9")
    with pytest.raises(StorageError, match=r"cannot read s3://b/x: no credentials; set AWS_ACCESS_KEY_ID"):
        storage.read_bytes("s3://b/x")


# Copies in a node's cache


def entries() -> list[Path]:
    """The copies of this node, whole or not."""
    return [path for path in cache.cache_folder().glob("*/*") if path.is_dir()]


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SORTASE_CACHE", "~/mine")
    assert cache.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SORTASE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "sortase"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == tmp_path / ".cache" / "sortase"


def test_a_local_file_is_its_own_copy(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"1")
    assert storage.fetch(str(tmp_path / "x")) == tmp_path / "x"
    assert entries() == []


def test_fetch_copies_once(faulty: FaultyS3, s3_url: str) -> None:
    storage.write_bytes(f"{s3_url}/model/a", CONTENT)
    storage.write_bytes(f"{s3_url}/model/deep/b", b"2")
    faulty.heal()
    first = storage.fetch(f"{s3_url}/model")
    again = storage.fetch(f"{s3_url}/model/")
    assert first == again and first.name == "model"
    assert (first / "a").read_bytes() == CONTENT and (first / "deep" / "b").read_bytes() == b"2"
    assert faulty.gets("/model/a") == faulty.gets("/model/deep/b") == 1


def test_a_new_version_replaces_the_old(s3_url: str) -> None:
    storage.write_bytes(f"{s3_url}/model/a", b"1")
    old = storage.fetch(f"{s3_url}/model")
    storage.write_bytes(f"{s3_url}/model/a", b"2")
    new = storage.fetch(f"{s3_url}/model")
    assert (new / "a").read_bytes() == b"2"
    assert not old.exists()
    storage.write_bytes(f"{s3_url}/model/b", b"3")
    assert sorted(storage.list_files(str(storage.fetch(f"{s3_url}/model")))) == ["a", "b"]
    assert len(entries()) == 1


def test_copies_of_two_urls_stand_side_by_side(s3_url: str) -> None:
    for name in ("one", "two"):
        storage.write_bytes(f"{s3_url}/{name}/model", name.encode())
    paths = [storage.fetch(f"{s3_url}/{name}/model") for name in ("one", "two")]
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]


def test_a_fill_that_fails_leaves_nothing(faulty: FaultyS3, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BUDGET", 0.0)
    storage.write_bytes(f"{s3_url}/model/a", CONTENT)
    storage.write_bytes(f"{s3_url}/model/b", CONTENT)
    faulty.fail("503", where="GET /" + s3_url.removeprefix("s3://") + "/model/b")
    with pytest.raises(StorageError):
        storage.fetch(f"{s3_url}/model")
    assert entries() == []
    faulty.heal()
    assert sorted(storage.list_files(str(storage.fetch(f"{s3_url}/model")))) == ["a", "b"]


def changing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None], times: int) -> None:
    """Let ``change`` happen when the first file of a folder is copied and the others are not, as a writer may."""
    download = storage._download
    left = iter(range(times))

    def late(url: str, names: list[str], local: Path) -> None:
        download(url, names[:1], local)
        if next(left, None) is not None:
            change()
        download(url, names[1:], local)

    monkeypatch.setattr(storage, "_download", late)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda url: storage.write_bytes(f"{url}/a", b"new"), {"a": b"new", "b": b"old"}, id="copied"),
        pytest.param(lambda url: storage.write_bytes(f"{url}/b", b"new"), {"a": b"old", "b": b"new"}, id="to come"),
        pytest.param(lambda url: storage.remove(f"{url}/b"), {"a": b"old"}, id="removed"),
        pytest.param(
            lambda url: storage.write_bytes(f"{url}/c", b"new"), {"a": b"old", "b": b"old", "c": b"new"}, id="added"
        ),
    ],
)
def test_a_copy_is_of_one_version(
    change: Callable[[str], None], expected: dict[str, bytes], s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        storage.write_bytes(f"{s3_url}/model/{name}", b"old")
    changing(monkeypatch, lambda: change(f"{s3_url}/model"), times=1)
    copy = storage.fetch(f"{s3_url}/model")
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == expected
    assert storage.fetch(f"{s3_url}/model") == copy


def test_a_source_that_never_rests(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter(range(100))
    storage.write_bytes(f"{s3_url}/model/a", b"x")
    changing(monkeypatch, lambda: storage.write_bytes(f"{s3_url}/model/a", str(next(numbers)).encode()), times=100)
    with pytest.raises(StorageError, match="changed each of the 3 times"):
        storage.fetch(f"{s3_url}/model")
    assert entries() == []


@pytest.mark.parametrize("copy", ["download", "fetch"])
def test_names_that_lead_out_of_the_folder(copy: str, s3_client: Any, s3_url: str, tmp_path: Path) -> None:
    s3_client.put_object(Bucket=s3_url.removeprefix("s3://"), Key="run/../../../outside", Body=b"x")
    with pytest.raises(InputError, match="leads out of the folder"):
        if copy == "download":
            storage.download(f"{s3_url}/run", tmp_path / "a" / "b" / "c")
        else:
            storage.fetch(f"{s3_url}/run")
    assert list(tmp_path.rglob("outside")) == list(cache.cache_folder().rglob("outside")) == []


def fetching(url: str) -> subprocess.Popen[str]:
    """Another process of this node that fetches, then prints the hash of what it got."""
    script = (
        "import hashlib, sys; from sortase import storage; "
        "print(hashlib.sha256(storage.fetch(sys.argv[1]).read_bytes()).hexdigest())"
    )
    path = os.pathsep.join([str(Path(storage.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    return subprocess.Popen([sys.executable, "-c", script, url], stdout=subprocess.PIPE, text=True, env=environment)


def test_a_fill_that_was_killed_is_never_used(faulty: FaultyS3, s3_url: str) -> None:
    storage.write_bytes(f"{s3_url}/x", CONTENT)
    faulty.fail("stall", times=1, where="GET /" + s3_url.removeprefix("s3://") + "/x")
    killed = fetching(f"{s3_url}/x")
    assert faulty.stalled.wait(PATIENCE)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert entries() != []
    assert storage.fetch(f"{s3_url}/x").read_bytes() == CONTENT
    assert len(entries()) == 1


def test_two_processes_share_one_whole_copy(faulty: FaultyS3, s3_url: str) -> None:
    storage.write_bytes(f"{s3_url}/x", CONTENT)
    faulty.fail("stall", times=1, where="GET /" + s3_url.removeprefix("s3://") + "/x")
    both = [fetching(f"{s3_url}/x") for _ in range(2)]
    assert faulty.stalled.wait(PATIENCE)
    deadline = time.monotonic() + 30
    while sum("list-type" in request for request in faulty.requests) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    faulty.go_on.set()
    found = [process.communicate(timeout=PATIENCE)[0].strip() for process in both]
    assert found == [hashlib.sha256(CONTENT).hexdigest()] * 2
    assert faulty.gets("/x") == 2  # the one that stalled, and its repeat
    assert len(entries()) == 1


def test_a_cache_that_cannot_be_written(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.write_bytes(f"{s3_url}/x", b"1")
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("SORTASE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/file/cache/"):
        storage.fetch(f"{s3_url}/x")


# Fingerprints


def test_a_fingerprint_is_of_the_content(root: str) -> None:
    folder = storage.join(root, "data")
    storage.write_bytes(storage.join(folder, "a"), b"1")
    storage.write_bytes(storage.join(folder, "b"), b"2")
    first = storage.fingerprint(folder)
    assert storage.fingerprint(folder) == first
    storage.write_bytes(storage.join(folder, "b"), b"3")
    changed = storage.fingerprint(folder)
    storage.remove(storage.join(folder, "b"))
    storage.write_bytes(storage.join(folder, "c"), b"2")
    renamed = storage.fingerprint(folder)
    assert len({first, changed, renamed}) == 3
    assert storage.fingerprint(storage.join(folder, "c")) != storage.fingerprint(storage.join(folder, "a"))
    storage.write_bytes(storage.join(folder, "b"), b"2")
    storage.remove(storage.join(folder, "c"))
    assert storage.fingerprint(folder) == first


def test_a_local_fingerprint_ignores_times_and_places(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    storage.write_bytes(str(folder / "a"), b"1")
    first = storage.fingerprint(str(folder))
    os.utime(folder / "a", (1, 1))
    assert storage.fingerprint(str(folder)) == first
    shutil.copytree(folder, tmp_path / "copy")
    assert storage.fingerprint(f"file://{tmp_path}/copy") == first


def test_an_empty_folder_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{tmp_path} is an empty folder"):
        storage.fingerprint(str(tmp_path))
