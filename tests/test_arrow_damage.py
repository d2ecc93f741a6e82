"""Damaged Arrow files end in a sentence that names file, column and row, and never in a crash."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset

from sortase.data.sequences import open_dataset
from sortase.data.source import open_source
from sortase.errors import InputError

ROWS = 40


def rows_of(source: Any) -> list[dict[str, Any]]:
    opened = open_source(source)
    return [row for unit in opened.units for batch in opened.read(unit) for row in batch.to_pylist()]


WAYS: list[Any] = [
    pytest.param(lambda folder: rows_of(str(folder)), id="to prepare"),
    pytest.param(lambda folder: open_dataset(str(folder)), id="to train"),
    pytest.param(lambda folder: rows_of(Dataset.load_from_disk(str(folder))), id="in memory"),
]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    columns = {"input_ids": [[5, 6, 7]] * ROWS, "name": ["abcde"] * ROWS}
    Dataset.from_dict(columns).save_to_disk(str(tmp_path / "cells"))
    return tmp_path / "cells"


def replace_offset(folder: Path, width: int, row: int, value: int) -> None:
    """Change where a row ends, in the column whose rows are ``width`` long."""
    (path,) = folder.glob("*.arrow")
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<4i", 0, width, 2 * width, 3 * width)) + 4 * (row + 1)
    data[at : at + 4] = struct.pack("<i", value)
    path.write_bytes(data)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("width", "column", "row", "value"),
    [
        pytest.param(3, "input_ids", 17, 10**9, id="a list that ends in foreign memory"),
        pytest.param(3, "input_ids", ROWS - 1, 2**31 - 1, id="the last one"),
        pytest.param(3, "input_ids", 17, -5, id="a list that ends before the file"),
        pytest.param(3, "input_ids", 17, 20, id="a list of negative length"),
        pytest.param(5, "name", 3, 10**9, id="a text that ends in foreign memory"),
    ],
)
def test_a_wrong_offset_is_named(
    saved: Path, way: Callable[[Path], Any], width: int, column: str, row: int, value: int
) -> None:
    replace_offset(saved, width, row, value)
    with pytest.raises(InputError, match=rf"is damaged in column '{column}' at row {row}: .*; copy the dataset again"):
        way(saved)


def test_text_that_is_not_utf8_is_named(saved: Path) -> None:
    (path,) = saved.glob("*.arrow")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"abcde" * ROWS, b"abcde" * 9 + b"ab\xffde" + b"abcde" * (ROWS - 10)))
    with pytest.raises(InputError, match=r"00001\.arrow is damaged in column 'name' at row 9: .*UTF8"):
        rows_of(str(saved))


def test_an_index_without_its_word_is_named(saved: Path) -> None:
    """A column of a dictionary, whose third value is taken and does not exist."""
    (path,) = saved.glob("*.arrow")
    indices = pa.array([0, 1, 0, 1], pa.int32())
    words = pa.DictionaryArray.from_arrays(indices, pa.array(["a", "b"]))
    table = pa.table({"input_ids": [[1]] * 4, "name": words})
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table)
    data = path.read_bytes()
    at = data.rindex(struct.pack("<4i", 0, 1, 0, 1))
    path.write_bytes(data[: at + 8] + struct.pack("<i", 7) + data[at + 12 :])
    with pytest.raises(InputError, match=r"is damaged in column 'name' at row 2"):
        rows_of(str(saved))


def test_only_the_columns_that_are_read_are_looked_at(saved: Path) -> None:
    replace_offset(saved, 5, 3, 10**9)
    source = open_source(str(saved))
    read = [batch for unit in source.units for batch in source.read(unit, ["input_ids"])]
    assert sum(batch.num_rows for batch in read) == ROWS


def test_changed_bytes_end_in_rows_or_in_sentences(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "arrow_fuzzer.py"), str(tmp_path / "cells"), "300", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"exit {ended.returncode}: {ended.stderr[-3000:]}"
    assert int(ended.stdout.split()[0]) > 100
