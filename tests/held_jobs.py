"""Runs in which attempts are held: what they are made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from makers import architecture
from sortase import storage
from test_run import cells

SEARCH = {"tune": {"trials": 2, "space": {"learning_rate": [1e-4, 1e-2]}, "scheduler": "none"}}


def configs(folder: Path, root: str, search: bool = False) -> list[str]:
    """Two configurations of a run below ``root``, with other labels' rows, seeds and learning rates."""
    for name, data in (("cells", cells()), ("new", cells(17, seed=3).remove_columns("cell_type"))):
        data.save_to_disk(str(folder / f"{name}.dataset"))
    made = []
    for name, seed in (("first", 1), ("later", 2)):
        settings: dict[str, Any] = {
            "run": {"name": "x", "output": storage.join(root, "runs"), "seed": seed},
            "data": {"dataset": str(folder / "cells.dataset"), "filter": {"donor": ["d0", "d1", f"d{seed + 1}"]}},
            "labels": {"task": "sequence", "column": "cell_type"},
            "model": {"config": architecture()},
            "train": {"num_train_epochs": 2, "learning_rate": 0.001 * seed},
            "evaluate": {"bootstrap": 0, "baseline": False},
            "predict": {"dataset": str(folder / "new.dataset")},
            "compute": {"device": "cpu"},
            **(SEARCH if search else {}),
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(settings))
        made.append(str(folder / f"{name}.yaml"))
    return made
