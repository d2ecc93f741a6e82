"""Shards of tokenized cells made elsewhere: the same files wherever it is, and whatever becomes of its workers."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk

from ray_head import folder_with_a_short_name
from sortase import storage
from sortase.config.compute import TaskGroup
from sortase.config.tokenize import TokenizeSpec
from sortase.errors import InputError
from sortase.prepare.tokenize import RankCells, Tokenized, tokenize
from tokenize_data import CELLS, annotated, gene, matrix

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray's, of its own processes
SHARD = 12  # of 57 cells: four whole shards and a rest
EMPTY = 2  # the shard whose cells have no count


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.prepare.tokenize.SHARD_CELLS", SHARD)


@pytest.fixture(scope="module")
def node(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray of two CPUs; its workers' folder for temporary files."""
    ray = pytest.importorskip("ray")
    folder = tmp_path_factory.mktemp("node")
    with folder_with_a_short_name() as ray_folder:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(folder))
            patch.setenv("SORTASE_CACHE", str(folder / "cache"))
            ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(ray_folder))
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield folder
        ray.shutdown()


def on_ray(workers: int) -> Any:
    from sortase.cluster.actors import actor_map

    return actor_map(TaskGroup(workers=workers))


def sent(work: Any, items: Iterable[Any]) -> Iterator[Any]:
    """As other processes get it: a copy for each item."""
    packed = pickle.dumps(work)
    return (pickle.loads(packed)(item) for item in items)


def counts() -> np.ndarray:
    values = matrix()
    values[EMPTY * SHARD : (EMPTY + 1) * SHARD] = 0
    values[3, 4] += 0.5
    return values


def put(url: str, values: np.ndarray, kind: str = "csr") -> str:
    """Write the counts as an AnnData file."""
    with tempfile.TemporaryDirectory() as folder:
        annotated(values, kind).write_h5ad(Path(folder) / "cells.h5ad")
        storage.upload(Path(folder) / "cells.h5ad", url)
    return url


def medians(folder: Path) -> str:
    """Given medians: without them the driver would read all counts before any worker."""
    path = folder / "given-medians.json"
    path.write_text(json.dumps({gene(place): 1.0 + place % 7 for place in range(30)}))
    return str(path)


def made(source: str, out: str, map: Any = None, **settings: Any) -> Tokenized:
    return tokenize(TokenizeSpec(input=source, chunk_cells=5, **settings), out, map=map)


def content(folder: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(storage.join(folder, *name.split("/"))) for name in storage.list_files(folder)}


def shards(files: Iterable[str]) -> list[int]:
    return sorted(int(Path(name).stem[5:]) for name in files if name.endswith(".arrow"))


def test_shards_without_cells_leave_a_gap_and_the_rest_in_order(tmp_path: Path) -> None:
    source = put(str(tmp_path / "cells.h5ad"), counts())
    result = made(source, str(tmp_path / "out"), sent)
    assert shards(content(result.dataset_path)) == [0, 1, 3, 4]
    kept = [row for row in range(CELLS) if row // SHARD != EMPTY]
    assert load_from_disk(result.dataset_path)["cell_id"][:] == [f"cell{row}" for row in kept]
    assert (result.summary["cells"], result.summary["dropped"]) == (CELLS, SHARD)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_units_sent_elsewhere_make_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    source = put(str(tmp_path / "cells.h5ad"), counts(), kind)
    made(source, str(tmp_path / "here"))
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    def elsewhere(work: RankCells, numbers: Iterable[int]) -> Iterator[Any]:
        """In other folders than the one that the input's path starts from."""
        packed = pickle.dumps(work)
        monkeypatch.chdir("/")
        return (pickle.loads(packed)(number) for number in numbers)

    made("cells.h5ad", str(tmp_path / "there"), elsewhere)
    assert content(str(tmp_path / "there")) == content(str(tmp_path / "here"))
    assert not list(scratch.iterdir())


def test_progress_hears_of_every_cell_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = put(str(tmp_path / "cells.h5ad"), counts())
    heard: dict[str, int] = {}

    class Heard:
        def __init__(self, total: int, what: str, unit: str = ""):
            self.key = f"{name} {what} {total}"

        def __enter__(self) -> Heard:
            return self

        def __exit__(self, *error: object) -> None: ...

        def update(self, cells: int) -> None:
            heard[self.key] = heard.get(self.key, 0) + cells

    monkeypatch.setattr("sortase.prepare.tokenize.Progress", Heard)
    runs: dict[str, Callable[..., Any] | None] = {"here": None, "there": sent}
    for name, run in runs.items():
        made(source, str(tmp_path / name), run, medians=medians(tmp_path))
    assert heard == {f"here tokenize {CELLS}": CELLS, f"there tokenize {CELLS}": CELLS}


@pytest.mark.slow
def test_workers_make_the_same_files(node: Path, root: str) -> None:
    source = put(storage.join(root, "cells.h5ad"), counts())
    found = {}
    for name, run in {"here": None, "one": on_ray(1), "two": on_ray(2)}.items():
        made(source, storage.join(root, name), run)
        found[name] = content(storage.join(root, name))
    assert shards(found["here"]) == [0, 1, 3, 4]
    assert found["one"] == found["here"]
    assert found["two"] == found["here"]


@pytest.mark.slow
def test_workers_leave_no_temporary_files(node: Path, tmp_path: Path) -> None:
    """Columns are laid out by rows in files, which each worker has of its own."""
    source = put(str(tmp_path / "cells.h5ad"), counts(), "csc")
    made(source, str(tmp_path / "here"))
    made(source, str(tmp_path / "there"), on_ray(2))
    assert content(str(tmp_path / "there")) == content(str(tmp_path / "here"))
    assert not list(node.glob("sortase-*"))


@pytest.mark.slow
def test_a_value_refused_on_a_worker_is_in_the_same_words(node: Path, root: str, tmp_path: Path) -> None:
    values = counts()
    values[50, 7] = -1
    source, given = put(storage.join(root, "cells.h5ad"), values), medians(tmp_path)
    words = set()
    for name, run in {"here": None, "there": on_ray(1)}.items():
        with pytest.raises(InputError, match=rf"-1 for gene '{gene(7)}' of cell 'cell50' \(row 50\)") as refused:
            made(source, storage.join(root, name), run, medians=given)
        words.add(str(refused.value))
        assert not storage.list_files(storage.join(root, name))
    assert len(words) == 1


@dataclass
class KilledOnce:
    """Counts its executions in files; the first one of shard 1 is killed when it has written some of its cells."""

    work: RankCells
    folder: str

    def __call__(self, number: int) -> Any:
        folder = Path(self.folder)
        (folder / f"{number}-{uuid.uuid4().hex}").touch()
        if number == 1 and len(list(folder.glob("1-*"))) == 1:
            self.work.tick = lambda cells: os.kill(os.getpid(), signal.SIGKILL)
        return self.work(number)


@pytest.mark.slow
def test_killed_worker_repeats_its_shard_only(node: Path, root: str, tmp_path: Path) -> None:
    source = put(storage.join(root, "cells.h5ad"), counts())
    runs = tmp_path / "runs"
    runs.mkdir()
    made(source, storage.join(root, "here"))
    made(source, storage.join(root, "there"), lambda work, numbers: on_ray(2)(KilledOnce(work, str(runs)), numbers))
    assert content(storage.join(root, "there")) == content(storage.join(root, "here"))
    times = {number: len(list(runs.glob(f"{number}-*"))) for number in range(5)}
    assert times == {0: 1, 1: 2, 2: 1, 3: 1, 4: 1}
