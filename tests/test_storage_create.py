"""Files that are written once: of several writers one wins, and a lost answer is no lost file."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from patience import PATIENCE
from sortase import storage
from sortase.errors import StorageError

RACER = """
import sys, time
from sortase import storage
url, own, start = sys.argv[1:]
storage.exists(url)
time.sleep(max(0, float(start) - time.time()))
print([n for n in range(20) if storage.create_bytes(f"{url}/{n}", f"{own} {n}".encode())])
"""


def test_a_name_is_taken_once(root: str) -> None:
    url = storage.join(root, "moves", "1.json")
    assert storage.create_bytes(url, b"first")
    assert not storage.create_bytes(url, b"second")
    assert storage.read_bytes(url) == b"first"
    assert storage.create_bytes(url, b"first"), "the same writer, whose answer was lost"
    assert list(storage.list_files(storage.join(root, "moves"))) == ["1.json"]


def test_racing_processes_share_the_names(tmp_path: Path) -> None:
    start = str(time.time() + 4)
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), f"racer-{i}", start], stdout=subprocess.PIPE)
        for i in range(4)
    ]
    won = [json.loads(racer.communicate(timeout=PATIENCE)[0]) for racer in racers]
    assert sorted(n for names in won for n in names) == list(range(20))
    for i, names in enumerate(won):
        for n in names:
            assert (tmp_path / str(n)).read_text() == f"racer-{i} {n}"


def test_faults_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot write"):
        storage.create_bytes(str(tmp_path / "file" / "1.json"), b"x")
