"""Who has a run, and what the marks of its stages say."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from sortase import storage
from sortase.errors import ConfigError, FencedError, StorageError
from sortase.runs.attempts import Attempt
from sortase.runs.folder import RunFolder, now
from sortase.runs.made import difference
from sortase.storage.written import Written


def made(root: str, **files: bytes) -> RunFolder:
    folder = RunFolder(storage.join(root, "run"))
    folder.begin()
    with folder.stage("prepare", {"a": 1}):
        for name, content in files.items():
            storage.write_bytes(folder.path("data", name), content)
    return folder


def test_attempts_that_begin_at_once_have_numbers_of_their_own(root: str) -> None:
    folders = [RunFolder(storage.join(root, "run")) for _ in range(4)]

    def begin(folder: RunFolder) -> bool:
        try:
            folder.begin()
        except FencedError:  # another one began in the same moment, and has the run
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(begin, folders))
    assert sorted(folder.number for folder in folders) == [1, 2, 3, 4]
    last = max(folders, key=lambda folder: folder.number)
    last.fence()
    for folder in folders:
        if folder is not last:
            with pytest.raises(FencedError, match=r"attempt 4 \(started .*\) has taken over .*without publishing"):
                folder.fence()


def test_a_run_that_is_given_back_is_the_earlier_ones(root: str) -> None:
    first, second = RunFolder(storage.join(root, "run")), RunFolder(storage.join(root, "run"))
    first.begin()
    second.begin()
    second.give_back()
    first.fence()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda url: storage.write_bytes(url, b"row t"), id="other bytes of the same length"),
        pytest.param(lambda url: storage.write_bytes(url, b"row"), id="cut"),
        pytest.param(storage.remove, id="gone"),
    ],
)
def test_a_file_that_is_not_what_the_stage_made(root: str, spoil: Callable[[str], None]) -> None:
    folder = made(root, rows=b"row s", classes=b"c")
    assert folder.is_done("prepare", {"a": 1})
    spoil(folder.path("data", "rows"))
    assert not folder.is_done("prepare", {"a": 1})
    with pytest.raises(StorageError, match="data/rows is not what stage 'prepare' made: an earlier attempt or another"):
        folder.check_made()
    with folder.stage("prepare", {"a": 1}):
        assert not storage.exists(folder.path("data", "classes")), "nothing may be taken for finished"
        storage.write_bytes(folder.path("data", "rows"), b"again")
    assert folder.is_done("prepare", {"a": 1})


def test_what_is_written_while_another_stage_works_is_noticed(root: str) -> None:
    folder = made(root, rows=b"rows")
    with pytest.raises(StorageError, match="stage 'prepare'"), folder.stage("train", {"b": 1}):
        storage.write_bytes(folder.path("data", "rows"), b"late")
    assert folder.mark("train") is None


def test_a_held_attempt_does_not_write_over_the_later_ones_mark(root: str) -> None:
    first = made(root)
    later = RunFolder(first.url)
    with pytest.raises(FencedError), first.stage("train", {"b": 1}):
        later.begin()
        with later.stage("train", {"b": 2}):
            pass
    assert first.mark("train")["attempt"] == later.attempt


def test_a_late_mark_is_not_read_where_storage_lets_it_be_written(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without conditional writes the look and the write are two steps, and an attempt may be held between them."""
    first = made(root)
    later = RunFolder(first.url)
    later.begin()
    with later.stage("prepare", {"a": 2}):
        storage.write_bytes(later.path("data", "x"), b"later")
    with monkeypatch.context() as patch:
        patch.setattr(storage, "claim_json", lambda url, value: storage.write_json(url, value) or True)
        patch.setattr(first, "fence", lambda: None)  # it has looked before
        with first.stage("train", {"b": 1}):
            pass
        later.claim_model("tune", replace=True)
        storage.write_json(first.path("stages", "prepare.json"), {"inputs": "late"})
        storage.write_json(first.path("stages", "train.json"), {"inputs": "late"})
    for folder in (first, later):
        assert folder.mark("prepare")["attempt"] == later.attempt
        assert list(folder.stages()) == ["prepare"]
    assert later.is_done("prepare", {"a": 2})
    later.give_back()
    assert first.mark("prepare")["attempt"] == first.mark("train")["attempt"] == first.attempt


def test_a_mark_that_somebody_removes_is_none(root: str) -> None:
    folder = made(root)
    storage.remove(folder.path("stages", "prepare.json"))
    assert not folder.is_done("prepare", {"a": 1})
    assert folder.stages() == {}


def test_a_file_of_several_parts_is_known_by_its_etag(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 has another kind of ETag for them; a file is not read again to be known."""
    content = bytes(range(256)) * (101 * 2**12)
    url = storage.join(s3_url, "run")
    storage.write_bytes(storage.join(url, "big"), content)
    written = Written.of(io.BytesIO(content))
    assert written.etag.endswith("-3")
    monkeypatch.setattr(storage, "sha256", lambda url, info: pytest.fail("it is read"))
    told = {"big": {"size": written.size, "sha256": "", "etag": written.etag}}
    assert difference(url, told) is None


def test_the_hash_of_a_file_follows_its_content(tmp_path: str) -> None:
    """Also of one that is changed twice in a moment, which may leave its time as it was."""
    code = """
import sys
from sortase import storage
url = sys.argv[1]
for content in (b"one", b"two"):
    storage.write_bytes(url, content)
    print(storage.sha256(url, storage.list_files(url)[""]))
"""
    done = subprocess.run([sys.executable, "-c", code, f"{tmp_path}/file"], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first != second


def test_run_json_tells_what_the_marks_say(root: str) -> None:
    folder = made(root)
    with folder.stage("train", {"b": 1}) as result:
        result["steps"] = 7
    storage.write_json(folder.path("run.json"), {"training": {"steps": 1}, "name": "late"})
    folder.describe(name="x")
    told = json.loads(storage.read_bytes(folder.path("run.json")))
    assert (told["training"]["steps"], told["name"]) == (7, "x")


def test_what_an_earlier_attempt_says_late_is_not_read(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = made(root)
    later = RunFolder(first.url)
    later.begin()
    later.describe(name="later")
    later.keep("training", {"rate": 2})
    with monkeypatch.context() as patch:
        patch.setattr(first, "fence", lambda: None)  # it has looked before
        first.describe(name="first")
        first.keep("training", {"rate": 1})
    assert storage.read_json(first.path("run.json"))["name"] == "first"
    assert (later.description()["name"], later.kept("training")) == ("later", {"rate": 2})
    later.give_back()
    assert (first.description()["name"], first.kept("training")) == ("first", {"rate": 1})


def test_a_refusal_takes_back_its_own_and_nothing_of_others(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another attempt has done its work while this one was held before it had a number."""
    other = made(root)
    held = RunFolder(other.url)
    begin = held.begin

    def late(least: int) -> int:
        other.describe(name="other")
        with other.stage("train", {"b": 1}):
            pass
        return begin(least)

    monkeypatch.setattr(held, "begin", late)
    with pytest.raises(ConfigError), Attempt(held, 1, now()).at_work():
        held.describe(name="held")
        raise ConfigError("other settings")
    assert other.holder()["id"] == other.attempt
    assert storage.read_json(other.path("run.json")) == other.description()
    assert other.description()["name"] == "other"
    assert other.mark("train")["attempt"] == other.attempt


def test_a_refusal_puts_no_mark_over_that_of_a_later_attempt(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = made(root)
    with refused.stage("train", {"b": 1}):
        pass
    later = RunFolder(refused.url)
    monkeypatch.setattr("sortase.runs.untouched._is_ours", lambda folder: True)  # it has looked before
    with pytest.raises(ConfigError), Attempt(refused, 1, now(), begun=True).at_work():
        storage.remove(refused.path("stages", "train.json"))
        later.begin()
        with later.stage("train", {"b": 2}):
            pass
        monkeypatch.setattr(refused, "fence", lambda: None)
        raise ConfigError("other settings")
    assert later.mark("train")["attempt"] == later.attempt
