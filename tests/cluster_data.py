"""Prepared data, trainings of it, and the processes of a local Ray, for the tests on Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from makers import CLASSES, architecture, dataset
from patience import PATIENCE
from sortase import storage
from sortase.config.compute import ComputeSpec
from sortase.config.model import ModelSpec
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.config.train import TrainSpec
from sortase.data import vocabulary
from sortase.prepare.prepare import prepare
from sortase.runs.events import Events
from sortase.runs.folder import RunFolder
from sortase.train.request import TrainRequest

GENES = {name: [f"g{token}" for token in range(8, 60) if token % 6 == 2 * i + 1] for i, name in enumerate("abc")}


def prepared(kind: str, root: str) -> tuple[str, str]:
    """A prepared dataset and its split below ``root``."""
    out = storage.join(root, f"data-{kind}")
    if not storage.exists(storage.join(out, "split.parquet")):
        source = dataset()
        tokens = storage.join(root, "vocabulary.pkl")
        vocabulary.write(tokens, {"<pad>": 0} | {f"g{token}": token for token in range(1, 60)})
        names = [["a", "b", "c"][label] for label in source["label"]]
        source = source.remove_columns("label").add_column("cell_type", names)
        genes = {"gene_class_dict": GENES, "vocabulary": tokens} if kind == "token" else {}
        labels = LabelSpec(task=kind, column="cell_type", **genes)
        prepare(source, DataSpec(), labels, out, "x", split=SplitSpec(test_size=0.1))
    return storage.join(out, "x_labeled.dataset"), storage.join(out, "split.parquet")


def request(kind: str, root: str, compute: dict[str, Any] | None = None, **settings: Any) -> TrainRequest:
    """A training without dropout, whose randomness would differ from rank to rank."""
    data, split = prepared(kind, root)
    defaults = {
        "num_train_epochs": 2,
        "learning_rate": 1e-3,
        "save_strategy": "steps",
        "save_steps": 4,
        "global_batch_size": 8,
        "per_device_train_batch_size": 8,
    }
    return TrainRequest(
        task=kind,
        dataset=data,
        split=split,
        class_map=CLASSES,
        model=ModelSpec(config=architecture(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)),
        settings=TrainSpec(**{**defaults, **settings}),
        compute=ComputeSpec(**{"device": "cpu", **(compute or {})}),
        seed=7,
        batch_size=16,
    )


def folder_at(url: str | Path) -> RunFolder:
    folder = RunFolder(str(url))
    folder.begin()
    return folder


def train_here(asked: TrainRequest, url: str | Path) -> dict[str, Any]:
    from sortase.pipeline.executor import LocalExecutor

    folder = folder_at(url)
    return LocalExecutor().train(asked, folder, Events(folder), lambda text: None, lambda: False)


def train_there(asked: TrainRequest, url: str | Path, **options: Any) -> dict[str, Any]:
    from sortase.cluster.train import train

    folder = options.pop("folder", None) or folder_at(url)
    stop = options.pop("should_stop", lambda: False)
    log = options.pop("log", lambda text: None)
    return train(asked, folder, Events(folder), log, stop, **options)


def worker_pids(name: str, root: int | None = None) -> list[int]:
    """Processes of Ray whose title holds ``name``, among the descendants of ``root`` (this process)."""
    root = root or os.getpid()
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                titles[int(entry.name)] = (entry / "cmdline").read_text()
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    return sorted(pid for pid, title in titles.items() if name in title and _descends(pid, root, parents))


def _descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid == root:
            return True
    return False


def wait_until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen in {seconds:.0f} s")
        time.sleep(0.02)
    return found


def finished_steps(url: str | Path) -> list[int]:
    """Steps whose checkpoints have their manifest."""
    names = storage.list_files(storage.join(str(url), "checkpoints"))
    return sorted(int(name.split("/")[0][5:]) for name in names if name.endswith("/manifest.json"))
