"""Class maps on disk and in datasets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sortase import storage
from sortase.data import classmap
from sortase.errors import InputError, SortaseError


def test_what_is_written_is_read_from_both_files(tmp_path: Path) -> None:
    ids = {"T": 1, "β cell": 0}
    paths = classmap.write(str(tmp_path), "x", ids)
    assert [Path(path).name for path in paths] == ["x_id_class_dict.pkl", "x_id_class_dict.json"]
    for path in paths:
        assert classmap.read(path) == ids
    assert pickle.loads(Path(paths[0]).read_bytes()) == ids


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param({0: "a", 1: "b"}, {"a": 0, "b": 1}, id="id to name"),
        pytest.param({np.int64(1): "b", np.int64(0): "a"}, {"a": 0, "b": 1}, id="NumPy ids"),
        pytest.param({"b": np.int32(1), "a": np.int32(0)}, {"a": 0, "b": 1}, id="name to NumPy id"),
        pytest.param({10: 0, 20: 1}, {"10": 0, "20": 1}, id="integer names"),
    ],
)
def test_both_directions_are_read(content: Any, expected: dict[str, int], tmp_path: Path) -> None:
    (tmp_path / "map.pkl").write_bytes(pickle.dumps(content))
    assert classmap.read(str(tmp_path / "map.pkl")) == expected


def test_json_of_ids_to_names_is_read(tmp_path: Path) -> None:
    storage.write_json(str(tmp_path / "map.json"), {"0": "a", "1": "b"})
    assert classmap.read(str(tmp_path / "map.json")) == {"a": 0, "b": 1}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param({"a": 0, "b": 2}, "0 to 1.*got 0, 2", id="gap"),
        pytest.param({"a": 0, "b": 0}, "got 0, 0", id="twice"),
        pytest.param({"a": 0, "b": 1.0}, "integers, got 1.0", id="float"),
        pytest.param({"a": False, "b": True}, "integers, got False", id="boolean"),
        pytest.param({0: "a", 1: "a"}, "two ids to one", id="name twice"),
        pytest.param({"a": "b"}, "text to text", id="text"),
        pytest.param([1, 2], "class map.*list", id="list"),
        pytest.param({}, "class map", id="empty"),
        pytest.param({1: 0, "1": 1}, "differ as text", id="names alike as text"),
    ],
)
def test_maps_that_are_none(content: Any, words: str, tmp_path: Path) -> None:
    (tmp_path / "map.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match=words):
        classmap.read(str(tmp_path / "map.pkl"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SortaseError, match=r"none\.json"):
        classmap.read(str(tmp_path / "none.json"))


def test_numbering_does_not_depend_on_order() -> None:
    assert classmap.build(["b", "a", "C", "a"]) == {"C": 0, "a": 1, "b": 2} == classmap.build(["C", "b", "a"])
    assert classmap.build(["10", "9", "-1"]) == {"-1": 0, "9": 1, "10": 2}
