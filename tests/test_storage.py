"""Storage: a local folder and an S3 bucket behave alike, writes are whole, passing faults are repeated."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from patience import PATIENCE
from sortase import storage
from sortase.errors import DeadlineError, InputError, MissingInputError, StorageError

CONTENT = bytes(range(256)) * 1000


def names(url: str) -> list[str]:
    return sorted(storage.list_files(url))


def python(script: str, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Another process with this one's storage and environment."""
    path = os.pathsep.join([str(Path(storage.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    head = "import os, sys, tempfile, time\nfrom sortase import storage\nfrom sortase.errors import *\n"
    command = [*before, sys.executable, "-c", head + script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": path})


def finish(process: subprocess.Popen[str]) -> str:
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    return out


# What a path means


@pytest.mark.parametrize(
    ("url", "remote"), [("s3://b/k", True), ("gs://b", True), ("/a", False), ("a", False), ("file:///a", False)]
)
def test_is_remote(url: str, remote: bool) -> None:
    assert storage.is_remote(url) is remote


def test_join() -> None:
    assert storage.join("s3://b/run/", "/fold/", "x.json") == "s3://b/run/fold/x.json"
    assert storage.join("/a/", "b", "c") == "/a/b/c"
    assert storage.join("file:///a", "b") == "/a/b"
    assert storage.join("a", "b") == str(Path.cwd() / "a" / "b")
    assert storage.join("/a", "/b/", "c") == "/a/b/c"


def test_local_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert storage.local_path("~/a") == tmp_path / "a"
    with pytest.raises(InputError, match="s3://b/k is not on this machine"):
        storage.local_path("s3://b/k")


def test_a_scheme_nobody_knows() -> None:
    with pytest.raises(InputError, match="nowhere://x/y is not a storage URL"):
        storage.read_bytes("nowhere://x/y")


# Both kinds of place


def test_bytes_and_json(root: str) -> None:
    url = storage.join(root, "a", "b", "x.json")
    storage.write_bytes(url, CONTENT)
    assert storage.read_bytes(url) == CONTENT
    storage.write_json(url, {"gene": "α", "n": [1, 2.5, None]})
    assert storage.read_json(url) == {"gene": "α", "n": [1, 2.5, None]}
    assert storage.read_bytes(url).decode().startswith('{\n  "gene": "α"')
    assert storage.text(url).readline() == "{\n"


def test_what_json_and_text_refuse(root: str) -> None:
    url = storage.join(root, "x.json")
    storage.write_json(url, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(url, {"a": float("nan")})
    assert storage.read_json(url) == {"a": 1}
    storage.write_bytes(url, b"{")
    with pytest.raises(InputError, match=r"x\.json is not valid JSON"):
        storage.read_json(url)
    storage.write_bytes(url, b"[" * 200_000)
    with pytest.raises(InputError, match=r"x\.json is not valid JSON"):
        storage.read_json(url)
    storage.write_bytes(url, b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"x\.json is not text in UTF-16"):
        storage.text(url)


def test_empty_files(root: str) -> None:
    storage.write_bytes(storage.join(root, "a"), b"")
    with storage.open_output(storage.join(root, "b")):
        pass
    assert [info.size for info in storage.list_files(root).values()] == [0, 0]
    with storage.open_input(storage.join(root, "b")) as file:
        assert file.read() == b""


def test_what_is_there(root: str) -> None:
    storage.write_bytes(storage.join(root, "run", "deep", "x"), b"1")
    storage.write_bytes(storage.join(root, "running"), b"2")
    assert storage.exists(storage.join(root, "run")) and storage.is_dir(storage.join(root, "run"))
    assert storage.exists(storage.join(root, "running")) and not storage.is_dir(storage.join(root, "running"))
    assert not storage.exists(storage.join(root, "ru")) and not storage.is_dir(storage.join(root, "ru"))
    assert storage.is_dir(root)


def test_list_files(root: str) -> None:
    for name, data in {"run/b": b"22", "run/a/x": b"1", "run/a/y": b"333", "runs": b"4"}.items():
        storage.write_bytes(storage.join(root, *name.split("/")), data)
    found = storage.list_files(storage.join(root, "run"))
    assert {name: info.size for name, info in found.items()} == {"a/x": 1, "a/y": 3, "b": 2}
    assert list(found) == sorted(found)
    assert list(storage.list_files(storage.join(root, "run", "b"))) == [""]
    assert storage.list_files(storage.join(root, "absent")) == {}


def test_a_version_follows_the_content(root: str) -> None:
    url = storage.join(root, "x")
    storage.write_bytes(url, b"1")
    before = storage.list_files(url)[""].version
    assert storage.list_files(url)[""].version == before
    storage.write_bytes(url, b"2")
    assert storage.list_files(url)[""].version != before


def test_reading_in_pieces(root: str) -> None:
    url = storage.join(root, "x")
    storage.write_bytes(url, CONTENT)
    with storage.open_input(url) as file:
        assert file.read(10) == CONTENT[:10]
        assert file.seek(-5, io.SEEK_END) == len(CONTENT) - 5
        assert file.read() == CONTENT[-5:]
        assert file.seek(100) == 100 and file.tell() == 100
        assert file.read(1000) == CONTENT[100:1100]
    assert file.closed


def test_a_folder_is_no_file(root: str) -> None:
    storage.write_bytes(storage.join(root, "run", "x"), b"1")
    with (
        pytest.raises(InputError, match="run is a folder where a file is expected"),
        storage.open_input(storage.join(root, "run")),
    ):
        pass
    with pytest.raises((InputError, MissingInputError)):
        storage.read_bytes(storage.join(root, "run"))


def test_remove(root: str) -> None:
    for name in ("run/a/x", "run/b", "run2", "keep"):
        storage.write_bytes(storage.join(root, *name.split("/")), b"1")
    storage.remove(storage.join(root, "run"))
    assert names(root) == ["keep", "run2"]
    storage.remove(storage.join(root, "run2"))
    storage.remove(storage.join(root, "run2"))
    assert names(root) == ["keep"]


@pytest.mark.parametrize("name", ["x*", "x?", "x[12]", "α β%20+#"])
def test_names_are_no_patterns(root: str, name: str) -> None:
    for each in ("x1", "x2", name):
        storage.write_bytes(storage.join(root, each), each.encode())
        storage.write_bytes(storage.join(root, f"{each}-folder", "y"), b"1")
    assert storage.read_bytes(storage.join(root, name)) == name.encode()
    assert list(storage.list_files(storage.join(root, name))) == [""]
    storage.remove(storage.join(root, name))
    storage.remove(storage.join(root, f"{name}-folder"))
    assert names(root) == ["x1", "x1-folder/y", "x2", "x2-folder/y"]


def test_upload_and_download(root: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "a").write_bytes(CONTENT)
    (source / "deep" / "b").write_bytes(b"2")
    (source / ".0123.partial").write_bytes(b"what a killed writer left")
    target = storage.join(root, "model")
    storage.write_bytes(storage.join(target, "old"), b"stays")
    storage.write_bytes(storage.join(target, "a"), b"replaced")
    storage.upload(source, target)
    assert names(target) == ["a", "deep/b", "old"]
    storage.download(target, tmp_path / "back")
    assert (tmp_path / "back" / "a").read_bytes() == CONTENT
    assert names(str(tmp_path / "back")) == ["a", "deep/b", "old"]
    storage.download(storage.join(target, "deep", "b"), tmp_path / "one" / "b")
    assert (tmp_path / "one" / "b").read_bytes() == b"2"


def test_probe_leaves_nothing(root: str) -> None:
    storage.write_bytes(storage.join(root, "run", "x"), b"1")
    storage.probe(storage.join(root, "run"))
    assert names(root) == ["run/x"]


def test_folder_markers_are_no_files(s3_client: Any, s3_url: str, tmp_path: Path) -> None:
    """Consoles of S3 make an empty object that ends with a slash where a user makes a folder."""
    storage.write_bytes(f"{s3_url}/run/x", b"1")
    for marker in ("run/", "run/empty/"):
        s3_client.put_object(Bucket=s3_url.removeprefix("s3://"), Key=marker, Body=b"")
    assert names(f"{s3_url}/run") == ["x"]
    storage.download(f"{s3_url}/run", tmp_path / "run")
    assert names(str(tmp_path / "run")) == ["x"]
    storage.remove(f"{s3_url}/run")
    assert not storage.exists(f"{s3_url}/run")


def test_another_file_system_of_fsspec(tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/run"
    storage.write_json(storage.join(url, "x.json"), {"a": 1})
    with storage.open_output(storage.join(url, "y")) as file:
        file.write(b"2")
    assert names(url) == ["x.json", "y"]
    assert storage.fetch(storage.join(url, "x.json")).read_text() == '{\n  "a": 1\n}\n'
    storage.remove(url)
    assert not storage.exists(url)


# What is missing


READS: dict[str, Callable[[str, Path], Any]] = {
    "read_bytes": lambda url, _: storage.read_bytes(url),
    "read_json": lambda url, _: storage.read_json(url),
    "text": lambda url, _: storage.text(url),
    "open_input": lambda url, _: storage.open_input(url).__enter__(),
    "download": lambda url, folder: storage.download(url, folder / "copy"),
    "fetch": lambda url, _: storage.fetch(url),
    "fingerprint": lambda url, _: storage.fingerprint(url),
}


@pytest.mark.parametrize("read", READS)
def test_missing_names_the_nearest(root: str, read: str, tmp_path: Path) -> None:
    for name in ("medians.csv", "median.csv", "unlike"):
        storage.write_bytes(storage.join(root, "genes", name), b"1")
    url = storage.join(root, "genes", "medians.cvs")
    with pytest.raises(MissingInputError) as caught:
        READS[read](url, tmp_path)
    assert url in str(caught.value)
    assert "does not exist; near it are ['medians.csv', 'median.csv']" in str(caught.value)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "copy").exists()


def test_missing_folder(root: str) -> None:
    with pytest.raises(MissingInputError, match="genes is empty or does not exist"):
        storage.read_bytes(storage.join(root, "genes", "medians.csv"))


def test_an_upload_of_nothing(root: str, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=f"{tmp_path}/absent does not exist"):
        storage.upload(tmp_path / "absent", storage.join(root, "x"))


def test_require(tmp_path: Path) -> None:
    assert storage.require(f"file://{tmp_path}") == tmp_path
    with pytest.raises(InputError, match="not on this machine"):
        storage.require("s3://b/k")


# All or nothing


def test_an_exception_leaves_what_was_there(root: str) -> None:
    url = storage.join(root, "x")
    storage.write_bytes(url, b"old")
    with pytest.raises(ZeroDivisionError), storage.open_output(url) as file:
        file.write(CONTENT)
        raise ZeroDivisionError
    assert storage.read_bytes(url) == b"old"
    assert names(root) == ["x"]


@pytest.mark.parametrize("error", [DeadlineError("late"), MissingInputError("gone"), TimeoutError("their own")])
def test_an_exception_of_the_writer_passes_as_it_is(root: str, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, storage.open_output(storage.join(root, "x")) as file:
        file.write(b"1")
        raise error
    assert caught.value is error
    assert names(root) == []


KILLED = """
with storage.open_output(sys.argv[1]) as file:
    file.write(b"new" * 100_000)
    file.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_a_killed_writer_leaves_what_was_there(root: str) -> None:
    url = storage.join(root, "run", "x")
    storage.write_bytes(url, b"old")
    writer = python(KILLED, url)
    assert writer.stdout is not None and writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert storage.read_bytes(url) == b"old"
    assert names(root) == ["run/x"]


def test_readers_see_the_old_or_the_new(root: str) -> None:
    """Never a part, and never nothing, while a writer replaces a file again and again."""
    url = storage.join(root, "x")
    storage.write_bytes(url, b"0" * 100_000)
    stop = threading.Event()

    def write() -> None:
        for number in range(1, 10_000):
            if stop.is_set():
                return
            with storage.open_output(url) as file:
                file.write(str(number % 10).encode() * 100_000)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = [storage.read_bytes(url) for _ in range(20)]
    finally:
        stop.set()
        writer.join()
    assert all(len(data) == 100_000 and len(set(data)) == 1 for data in seen)


def test_threads_share_a_place(root: str) -> None:
    def work(number: int) -> bytes:
        url = storage.join(root, str(number))
        storage.write_bytes(url, str(number).encode() * 1000)
        with storage.open_input(url) as file:
            return file.read()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(32))) == [str(number).encode() * 1000 for number in range(32)]
    assert len(names(root)) == 32


FORKED = """
url = sys.argv[1]
storage.write_bytes(storage.join(url, "x"), b"parent")
child = os.fork()
if not child:
    storage.write_bytes(storage.join(url, "y"), storage.read_bytes(storage.join(url, "x")) + b" and child")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(storage.read_bytes(storage.join(url, "y")).decode(), storage.read_bytes(storage.join(url, "x")).decode())
"""


def test_a_forked_process_has_its_own_connections(root: str) -> None:
    assert finish(python(FORKED, root)) == "parent and child parent\n"


FULL = """
def refused(work):
    try:
        work()
    except StorageError as error:
        print(f"{error.exit_code} {error}")

def through_output(url):
    with storage.open_output(url) as file:
        for _ in range(64):
            file.write(bytes(65_536))

folder, remote = sys.argv[1:]
storage.write_bytes(f"{folder}/run/x", b"old")
refused(lambda: through_output(f"{folder}/run/x"))
refused(lambda: storage.write_bytes(f"{folder}/run/x", bytes(4_000_000)))
refused(lambda: storage.download(remote, storage.Path(folder, "run", "x")))
os.environ |= {"SORTASE_CACHE": f"{folder}/cache", "SORTASE_CACHE_SIZE": "1TB"}
refused(lambda: storage.fetch(remote))
os.environ["TMPDIR"] = tempfile.tempdir = folder
refused(lambda: through_output(remote))
print(storage.read_bytes(f"{folder}/run/x"))
print([str(path) for path in storage.Path(folder).rglob("*") if path.is_file() and path.name != ".lock"])
"""


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        pytest.param("ulimit -f 1000", "File too large", id="a limit on the size of files"),
        pytest.param('mount -t tmpfs -o size=1m none "$4"', "the disk is full", id="a disk of a mebibyte"),
    ],
)
def test_a_full_disk(limit: str, words: str, s3_url: str, tmp_path: Path) -> None:
    if "mount" in limit and subprocess.run(["unshare", "-m", "sh", "-c", limit, "", "", "", "", tmp_path]).returncode:
        pytest.skip("a file system of a mebibyte cannot be mounted here")
    remote = f"{s3_url}/big"
    storage.write_bytes(remote, CONTENT * 10)
    own_mounts = ("unshare", "-m") if "mount" in limit else ()
    shell = (*own_mounts, "bash", "-c", f'{limit} || exit; exec "$@"', "")
    lines = finish(python(FULL, str(tmp_path), remote, before=shell)).splitlines()
    output, whole, download, fetch, send, content, files = lines
    for line in (output, whole, download):
        assert line.startswith(f"3 cannot write {tmp_path}/run/x: ")
    assert fetch.startswith(f"3 cannot write {tmp_path}/cache/")
    assert send.startswith(f"3 cannot write {tmp_path}/sortase-write-")
    for line in (output, whole, download, fetch, send):
        assert words in line
        assert line.rpartition(" (")[2].removesuffix(" bytes free)").replace(",", "").isdigit()
    assert content == "b'old'"
    assert files == f"['{tmp_path}/run/x']"
    assert storage.read_bytes(remote) == CONTENT * 10


def test_what_cannot_be_written_or_removed_here(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=rf"cannot write {tmp_path}/file/x: .* bytes free\)"):
        storage.write_bytes(str(tmp_path / "file" / "x"), b"2")
    with pytest.raises(StorageError, match=f"cannot write {tmp_path}/folder: "):
        storage.write_bytes(str(tmp_path / "folder"), b"2")
    with pytest.raises(StorageError, match=f"cannot remove {tmp_path}/file/x: "):
        storage.remove(str(tmp_path / "file" / "x"))
    assert names(str(tmp_path)) == ["file"]
