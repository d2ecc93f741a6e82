"""The copies of a node: how much room they take, who uses them, and what dead processes leave."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from patience import PATIENCE
from sortase import storage
from sortase.errors import ConfigError, StorageError
from sortase.storage import cache, hashing, scratch

PROCESS = """
import sys, tempfile
from pathlib import Path
from sortase.storage import cache as _cache, scratch
from sortase.errors import SortaseError

def fill(path):
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size // 2))
    if slow:
        print("half", flush=True)
        sys.stdin.readline()
    path.write_bytes(bytes(size))

kept = []
for line in sys.stdin:
    what, name, size = line.split()
    size, slow = int(size), what == "slowly"
    if what == "scratch":
        kept.append(scratch.Scratch(name))
        print(kept[-1].path.parent, flush=True)
        continue
    try:
        print(_cache.cached(f"s3://b/{name}", "1", name, size, fill), flush=True)
    except SortaseError as error:
        print(error, flush=True)
"""


class Process:
    """Another process of this node, which copies what it is told to and uses it until it ends."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(Path(storage.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def copy(self, name: str, size: int = 100, how: str = "copy") -> str:
        self.tell(f"{how} {name} {size}")
        return self.heard()

    def begin(self, name: str, size: int = 100) -> None:
        assert self.copy(name, size, "slowly") == "half"

    def go_on(self) -> str:
        self.tell()
        return self.heard()

    def end(self, *, killed: bool = False) -> None:
        if killed:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def start() -> Iterator[Callable[[], Process]]:
    processes: list[Process] = []

    def begin() -> Process:
        processes.append(Process())
        return processes[-1]

    yield begin
    for process in processes:
        process.process.kill()
        process.process.communicate()


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_CACHE_SIZE", "350B")


def copies() -> list[str]:
    return sorted(path.name for path in cache.cache_folder().glob("*/*/*"))


def note_of(name: str) -> Path:
    (path,) = cache.cache_folder().glob(f"*/*/{name}")
    return Path(f"{path.parent}.note")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200GB", 200 * 10**9),
        ("20Gi", 20 * 2**30),
        ("1.5 TiB", 3 * 2**39),
        ("18.9Gi", int(18.9 * 2**30)),
        ("500m", 500 * 10**6),
        ("21474836480", 21474836480),
        ("2e10", 2 * 10**10),
        ("25%", 250),
        ("", 800),
    ],
)
def test_the_size_as_people_write_it(text: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_CACHE_SIZE", text)
    assert cache.cache_size(1000) == expected


@pytest.mark.parametrize("text", ["much", "0", "0%", "101%", "-5GB", "5 GBit", "200G%", "1e+"])
def test_what_is_no_size(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_CACHE_SIZE", text)
    with pytest.raises(ConfigError, match=re.escape(f"SORTASE_CACHE_SIZE={text!r} is not a size of a cache; give one")):
        cache.cache_size(1000)


def test_what_was_used_longest_ago_goes_first(limited: None, start: Callable[[], Process]) -> None:
    first = start()
    for age, name in enumerate("abc"):
        path = first.copy(name)
        os.utime(note_of(name), (1000 + age, 1000 + age))
    first.end()
    second = start()
    assert second.copy("a").endswith("/a")
    second.end()
    assert start().copy("d").endswith("/d")
    assert copies() == ["a", "c", "d"]
    assert not Path(path).parents[1].joinpath("b").exists()


def test_a_copy_in_use_survives_a_fill_that_exceeds_the_limit(limited: None, start: Callable[[], Process]) -> None:
    one, two, third = start(), start(), start()
    assert one.copy("a", 200) == two.copy("a", 200)
    one.end(killed=True)
    assert "it has 200 bytes, and others that are in use have 200; SORTASE_CACHE_SIZE=350B allows 350" in third.copy(
        "b", 200
    )
    assert copies() == ["a"]
    two.end(killed=True)
    assert third.copy("b", 200).endswith("/b")
    assert copies() == ["b"]


def test_what_is_larger_than_the_limit_removes_nothing(limited: None, start: Callable[[], Process]) -> None:
    first = start()
    first.copy("a")
    first.end()
    told = start().copy("b", 351)
    assert told.startswith("cannot copy s3://b/b to ")
    assert "it has 351 bytes; SORTASE_CACHE_SIZE=350B allows 350. Set a larger one, or SORTASE_CACHE to" in told
    assert copies() == ["a"]


def test_a_fill_counts_before_it_is_whole(limited: None, start: Callable[[], Process]) -> None:
    """Two at the same time share the room, and neither is removed for the other."""
    one, two, third = start(), start(), start()
    one.begin("a", 150)
    two.begin("b", 150)
    assert "others that are in use have 300" in third.copy("c")
    assert [one.go_on()[-2:], two.go_on()[-2:]] == ["/a", "/b"]
    assert copies() == ["a", "b"]


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_killed_fill_is_cleaned_up_by_the_next_start(
    name: str, limited: None, start: Callable[[], Process], capsys: pytest.CaptureFixture[str]
) -> None:
    process = start()
    process.begin("a", 300)
    scratch.remove_leftovers()
    assert copies() == ["a"]  # half of it: its process lives
    process.end(killed=True)
    assert start().copy(name, 300).endswith(f"/{name}")
    assert copies() == [name]


def test_a_command_begins_with_cleaning_up(start: Callable[[], Process], capsys: pytest.CaptureFixture[str]) -> None:
    from sortase.cli import main

    process = start()
    process.begin("a")
    process.end(killed=True)
    assert copies() == ["a"]
    assert main(["schema"]) == 0
    assert [path.name for path in cache.cache_folder().iterdir()] == [".lock"]


def test_a_copy_of_an_earlier_release(limited: None, start: Callable[[], Process]) -> None:
    """It had no notes: files and times tell."""
    first = start()
    first.copy("a", 300)
    first.end()
    note_of("a").unlink()
    second = start()
    second.copy("a", 300)
    second.end()
    assert note_of("a").read_text() == "300"
    note_of("a").unlink()
    assert start().copy("b", 300).endswith("/b")
    assert copies() == ["b"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
def test_a_copy_of_another_user_stays(limited: None, start: Callable[[], Process]) -> None:
    first = start()
    first.copy("a", 300)
    first.end()
    os.chown(note_of("a").with_suffix(""), 12345, -1)
    assert "others that are in use have 300" in start().copy("b", 300)
    assert copies() == ["a"]


FULL = """
import os, sys
from pathlib import Path
from sortase.storage import cache as _cache
from sortase.storage.local import local_output

def fill(name):
    def filled(path):
        with local_output(path) as file:
            if name == "c" and not other.exists():
                other.write_bytes(bytes(500_000))  # by another program, meanwhile
            file.write(bytes(400_000))
    return filled

folder = Path(sys.argv[1])
other = folder / "other"
os.environ |= {"SORTASE_CACHE": str(folder / "cache"), "SORTASE_CACHE_SIZE": "1TB"}
for name in "abc":
    if not os.fork():
        assert _cache.cached(name, "1", name, 400_000, fill(name)).stat().st_size == 400_000
        os._exit(0)
    assert os.wait()[1] == 0
    print(sorted(path.name for path in folder.glob("cache/*/*/*")))
"""


def test_a_full_disk_takes_copies_that_nobody_uses(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=1m none "$1" || exit 77; exec "$2" -c "$3" "$1"'
    command = ["unshare", "-m", "sh", "-c", mount, "", str(tmp_path), sys.executable, FULL]
    path = os.pathsep.join([str(Path(storage.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("a file system of a mebibyte cannot be mounted here")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["['a']", "['a', 'b']", "['c']"]


def test_hashes_are_kept_for_so_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "RECENT", -(10**12))
    monkeypatch.setattr(hashing, "KEPT", 3)
    monkeypatch.setattr(hashing, "WORTH_KEEPING", 0)
    for number in range(6):
        (tmp_path / str(number)).write_bytes(b"x")
        monkeypatch.setattr(hashing._Known, "trimmed", number < 5)
        hashing.sha256_of(tmp_path / str(number))
    assert len(list((cache.cache_folder() / "hashes").iterdir())) == 3
    assert hashing._place(tmp_path / "5").exists()


# Temporary folders


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o777)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_a_temporary_folder_is_ones_own_and_goes_with_its_block(temporary: Path) -> None:
    with scratch.Scratch("train") as folder:
        assert folder.is_relative_to(temporary)
        (folder / "x").write_bytes(b"1")
        (top,) = temporary.iterdir()
        assert top.stat().st_mode & 0o777 == 0o700
        assert sorted(folder.iterdir()) == [folder / "x"]
        if not (child := os.fork()):
            scratch.Scratch("child").close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert (folder / "x").exists()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next(temporary: Path, start: Callable[[], Process]) -> None:
    dead, alive = start(), start()
    left, used = (Path(process.copy("train", how="scratch")) for process in (dead, alive))
    (left / "files" / "half").write_bytes(b"1")
    (temporary / "sortase-mine").mkdir()  # of a user who likes such names
    scratch.remove_leftovers()
    assert left.exists() and used.exists()
    dead.end(killed=True)
    alive.end(killed=True)
    next_one = Path(start().copy("train", how="scratch"))
    assert sorted(temporary.iterdir()) == sorted([next_one, temporary / "sortase-mine"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of another user")
def test_what_another_user_left_stays(temporary: Path, start: Callable[[], Process]) -> None:
    process = start()
    left = Path(process.copy("train", how="scratch"))
    process.end(killed=True)
    os.chown(left, 12345, -1)
    scratch.remove_leftovers()
    assert left.exists()


def test_a_link_is_not_followed(temporary: Path, tmp_path: Path, start: Callable[[], Process]) -> None:
    process = start()
    left = Path(process.copy("train", how="scratch"))
    process.end(killed=True)
    left.rename(tmp_path / "elsewhere")
    left.symlink_to(tmp_path / "elsewhere")
    scratch.remove_leftovers()
    assert (tmp_path / "elsewhere" / "files").exists()


def test_copies_of_storage_keep_the_size(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_CACHE_SIZE", "1kB")
    storage.write_bytes(f"{s3_url}/model/a", bytes(600))
    storage.write_bytes(f"{s3_url}/model/b", bytes(600))
    with pytest.raises(StorageError, match=rf"cannot copy {s3_url}/model to .*: it has 1,200 bytes"):
        storage.fetch(f"{s3_url}/model")
