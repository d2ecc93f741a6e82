"""What a file or a dataset is known by is all that it holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

from sortase.config.prepare import DataSpec, LabelSpec
from sortase.data.source import open_source
from sortase.errors import StorageError
from sortase.prepare.prepare import prepare
from sortase.storage import hashing

ROWS = 30_000


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A dataset of some megabytes, whose labels are one byte each."""
    values = np.random.default_rng(0).integers(5, 60, ROWS * 8).reshape(ROWS, 8).tolist()
    kinds = [b"BNT"[i % 3 :][:1].decode() for i in range(ROWS)]
    Dataset.from_dict({"input_ids": values, "cell_type": kinds}).save_to_disk(str(tmp_path / "cells"))
    return tmp_path / "cells"


def corrected_in_place(path: Path) -> None:
    """The labels of one in nine rows are others, the file's size and time are the same."""
    status, content = path.stat(), path.read_bytes()
    assert b"BNTBNTBNT" in content
    path.write_bytes(content.replace(b"BNTBNTBNT", b"BNTBNTBNB"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size


def test_labels_that_are_corrected_in_place_make_another_dataset(cells: Path) -> None:
    before = open_source(str(cells)).identity
    (shard,) = cells.glob("data-*.arrow")
    corrected_in_place(shard)
    assert open_source(str(cells)).identity != before


@pytest.mark.parametrize("memory", [True, False])
def test_a_hash_is_kept_for_a_version_of_the_file(
    memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(hashing.WORTH_KEEPING))
    monkeypatch.setattr(hashing, "RECENT", -(10**12))
    found = hashing.sha256_of(path)

    def another_time() -> str:
        if not memory:
            hashing._Known.hashes.clear()
        return hashing.sha256_of(path)

    with monkeypatch.context() as patch:
        patch.setattr(hashing.hashlib, "file_digest", lambda file, name: pytest.fail("it is read again"))
        assert another_time() == found
    content = bytearray(path.read_bytes())
    content[len(content) // 2] = 1
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert another_time() != found


def test_a_file_that_was_just_written_is_not_kept(tmp_path: Path) -> None:
    """It could change again within the same tick of the clock."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    assert hashing.sha256_of(path) == hashing.sha256_of(path)
    assert not [place for place, _ in hashing._Known.hashes if place == str(path)]


def test_a_dataset_that_is_replaced_while_it_is_read(cells: Path, tmp_path: Path) -> None:
    def replaced_after_the_first_pass(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        if type(work).__name__ == "WriteUnit":
            (shard,) = cells.glob("data-*.arrow")
            corrected_in_place(shard)
            os.utime(shard)
        return map(work, items)

    with pytest.raises(
        StorageError, match=r"cells/data-\S+\.arrow was replaced while it was read; give the command again"
    ):
        prepare(
            str(cells), DataSpec(), LabelSpec(column="cell_type"), str(tmp_path / "out"), "x",
            map=replaced_after_the_first_pass,
        )  # fmt: skip
    assert not list((tmp_path / "out").rglob("*.arrow"))
