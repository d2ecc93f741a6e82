"""Factories of small tokenised datasets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

TOKENS = 200
GENES = {f"G{i}": i for i in range(TOKENS)}


def rows(n: int = 600, seed: int = 0, **columns: Any) -> dict[str, list[Any]]:
    rng = np.random.default_rng(seed)
    ids = [rng.permutation(TOKENS)[: rng.integers(5, 40)].tolist() for _ in range(n)]
    cell_type = rng.choice(["B", "T", "NK"], n, p=[0.5, 0.3, 0.2]).tolist()
    donor = rng.choice([f"d{i}" for i in range(8)], n).tolist()
    return {"input_ids": ids, "cell_type": cell_type, "donor": donor, "batch": (np.arange(n) % 5).tolist()} | columns


def dataset(n: int = 600, seed: int = 0, **columns: Any) -> Dataset:
    return Dataset.from_dict(rows(n, seed, **columns))


def saved(folder: Path, data: Dataset | None = None, shards: int = 3) -> str:
    path = str(folder / "input.dataset")
    (dataset() if data is None else data).save_to_disk(path, num_shards=shards)
    return path


def vocabulary(folder: Path, tokens: dict[str, int] | None = None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocabulary.json"
    path.write_text(json.dumps(GENES if tokens is None else tokens))
    return str(path)


def tree(folder: str | Path) -> dict[str, bytes]:
    """Every file below a folder."""
    root = Path(folder)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
