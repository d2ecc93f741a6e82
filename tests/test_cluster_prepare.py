"""Preparation on Ray: the same bytes wherever it runs, and whatever becomes of its workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster_data import GENES, wait_until
from makers import dataset
from sortase import storage
from sortase.config.compute import TaskGroup
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.data import vocabulary
from sortase.errors import InputError
from sortase.prepare.prepare import prepare

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def ray_here(s3_server: str) -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False, namespace="sortase", log_to_driver=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    ray.shutdown()


def ray_map(workers: int) -> Any:
    from sortase.cluster.actors import actor_map

    return actor_map(TaskGroup(workers=workers))


def source(root: str) -> str:
    """A dataset of several shards."""
    data = dataset(n=400)
    names = ["abc"[label] for label in data["label"]]
    url = storage.join(root, "cells.dataset")
    options = (
        {} if not storage.is_remote(url) else {"storage_options": {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}}
    )
    data.remove_columns("label").add_column("cell_type", names).save_to_disk(url, num_shards=5, **options)
    return url


def content(folder: str) -> dict[str, bytes]:
    return {name: storage.read_bytes(storage.join(folder, *name.split("/"))) for name in storage.list_files(folder)}


@pytest.mark.parametrize("kind", ["sequence", "token"])
def test_bytes_do_not_depend_on_the_workers(kind: str, root: str) -> None:
    cells, tokens = source(root), storage.join(root, "vocabulary.pkl")
    vocabulary.write(tokens, {"<pad>": 0} | {f"g{token}": token for token in range(1, 60)})
    genes = {"gene_class_dict": GENES, "vocabulary": tokens} if kind == "token" else {}
    labels = LabelSpec(task=kind, column="cell_type", **genes)
    found = {}
    for name, run in {"here": None, "one": ray_map(1), "three": ray_map(3)}.items():
        out = storage.join(root, name)
        prepare(cells, DataSpec(max_examples=300), labels, out, "x", split=SplitSpec(), map=run)
        found[name] = content(out)
    assert found["one"] == found["here"]
    assert found["three"] == found["here"]


def test_input_errors_arrive_in_their_words(tmp_path: Path) -> None:
    data = dataset(n=50)
    ids = data["input_ids"][:]
    ids[20][1] = None
    bad = data.remove_columns("input_ids").add_column("input_ids", ids).rename_column("label", "cell_type")
    bad.save_to_disk(str(tmp_path / "cells.dataset"))
    with pytest.raises(InputError, match="row 20"):
        prepare(
            str(tmp_path / "cells.dataset"),
            DataSpec(),
            LabelSpec(column="cell_type"),
            str(tmp_path / "out"),
            "x",
            map=ray_map(2),
        )
    assert not (tmp_path / "out" / "x_labeled.dataset").exists()


@dataclass(frozen=True)
class Slow:
    """Counts its executions through files; the first one of item 3 waits to be killed."""

    folder: str

    def __call__(self, item: int) -> int:
        folder = Path(self.folder)
        (folder / f"{item}-{time.monotonic_ns()}").write_text(str(os.getpid()))
        if item == 3 and len(list(folder.glob("3-*"))) == 1:
            time.sleep(600)
        return item * item


def test_killed_worker_repeats_its_unit_only(tmp_path: Path) -> None:
    results = iter(ray_map(2)(Slow(str(tmp_path)), range(8)))
    first = [next(results) for _ in range(3)]
    victim = wait_until(lambda: next(tmp_path.glob("3-*"), None), "the start of item 3")
    os.kill(int(wait_until(victim.read_text, "its number")), signal.SIGKILL)
    assert [*first, *results] == [item * item for item in range(8)]
    runs = {item: len(list(tmp_path.glob(f"{item}-*"))) for item in range(8)}
    assert runs == {**dict.fromkeys(range(8), 1), 3: 2}


def ranked(root: str, name: str, source: str, run: Any) -> dict[str, bytes]:
    from sortase.config.tokenize import TokenizeSpec
    from sortase.prepare.tokenize import tokenize

    out = storage.join(root, name)
    tokenize(TokenizeSpec(input=source, chunk_cells=5), out, map=run)
    return content(storage.join(out, "tokenized.dataset"))


def test_tokenized_bytes_do_not_depend_on_the_workers(
    root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """57 cells in shards of 20, one of which keeps no cell."""
    import pickle

    from sortase.errors import InputError
    from tokenize_data import annotated, matrix

    monkeypatch.setattr("sortase.prepare.tokenize.SHARD_CELLS", 20)
    counts = matrix()
    counts[20:40] = 0
    url = storage.join(root, "counts.h5ad")
    annotated(counts).write_h5ad(tmp_path / "counts.h5ad")
    storage.write_bytes(url, (tmp_path / "counts.h5ad").read_bytes())

    def sent(work: Any, numbers: Any) -> Any:
        return map(pickle.loads(pickle.dumps(work)), numbers)

    found = {
        name: ranked(root, name, url, run)
        for name, run in {"here": None, "sent": sent, "one": ray_map(1), "three": ray_map(3)}.items()
    }
    assert sum(name.endswith(".arrow") for name in found["here"]) == 2
    assert found["sent"] == found["here"]
    assert found["one"] == found["here"]
    assert found["three"] == found["here"]

    counts[50, 0] = -1
    annotated(counts).write_h5ad(tmp_path / "bad.h5ad")
    words = set()
    for name, run in {"bad-here": None, "bad-there": ray_map(1)}.items():
        with pytest.raises(InputError, match="-1") as caught:
            ranked(root, name, str(tmp_path / "bad.h5ad"), run)
        words.add(str(caught.value))
        assert not storage.exists(storage.join(root, name, "tokenized.dataset"))
    assert len(words) == 1
