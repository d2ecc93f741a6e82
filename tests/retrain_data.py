"""Generations of data for retrainings: real cells by the well they were sequenced in, and small sequences for speed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import Dataset

from makers import architecture, rows

FROZEN_WELLS = ("7", "8")


def cells(path: Path, wells: str, shuffled: bool = False) -> None:
    """Blood cells of these wells of one 10x run; wells 7 and 8 are the frozen test side of every generation.

    ``shuffled``: the labels of the training side are permuted, as by a mistake in a join.
    """
    import anndata

    from sortase.demo.sources import blood_cells

    with warnings.catch_warnings(action="ignore"):  # of files in anndata's older form
        data = anndata.read_h5ad(blood_cells())
    well = np.array([name.rpartition("-")[2] for name in data.obs_names])
    kept = np.isin(well, [*wells, *FROZEN_WELLS])
    part, well = data[kept].copy(), well[kept]
    test = np.isin(well, FROZEN_WELLS)
    side = np.where(test, "test", np.where(np.arange(len(well)) % 10 == 0, "validation", "train"))
    part.obs["side"], part.obs["well"] = side, well
    if shuffled:
        labels = np.array(part.obs["bulk_labels"].astype(str))
        labels[~test] = np.random.default_rng(0).permutation(labels[~test])
        part.obs["bulk_labels"] = labels
    part.write_h5ad(path)


def cell_settings(folder: Path | str, **sections: Any) -> dict[str, Any]:
    """A retrain.yaml for ``cells.h5ad`` in the folder; everything else lies below the folder as well."""
    return {
        "run": {"name": "blood", "output": f"{folder}/runs"},
        "tokenize": {
            "input": f"{folder}/cells.h5ad",
            "layer": "raw",
            "values": "log1p",
            "columns": ["bulk_labels", "side", "well"],
            "max_length": 256,
        },
        "labels": {"column": "bulk_labels"},
        "split": {"strategy": "column", "column": "side"},
        "model": {
            "config": {
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 128,
                "initializer_range": 0.1,
            },
            "attention_dropout": 0.0,
        },
        "train": {
            "num_train_epochs": 8,
            "learning_rate": 2e-3,
            "global_batch_size": 16,
            "per_device_train_batch_size": 16,
        },
        "evaluate": {"bootstrap": 200},
        "registry": {"url": f"{folder}/registry", "name": "blood"},
        "gate": {"macro_f1": ">= champion - 0.02", "accuracy": 0.3, "bootstrap": 200},
        "card": {"license": "mit", "data_name": "PBMC 68k, reduced"},
        **sections,
    }


def tokenized_cells(folder: Path) -> tuple[Dataset, str]:
    """All wells of ``cells`` as one dataset, and the vocabulary."""
    from sortase.cli import main

    cells(folder / "cells.h5ad", "123456")
    config = write(folder / "all.yaml", cell_settings(folder, run={"name": "all", "output": f"{folder}/runs"}))
    assert main(["tokenize", "-c", config]) == 0
    data = folder / "runs" / "all" / "data"
    return Dataset.load_from_disk(str(data / "tokenized.dataset")), str(data / "vocabulary.pkl")


def generation(data: Dataset, wells: str, shuffled: bool = False) -> Dataset:
    """The tokenised cells of these wells, and those of the frozen ones."""
    part = data.select([i for i, well in enumerate(data["well"]) if well in [*wells, *FROZEN_WELLS]])
    labels, train = np.array(part["bulk_labels"]), np.array(part["side"]) != "test"
    if shuffled:
        labels[train] = np.random.default_rng(0).permutation(labels[train])
    return part.remove_columns("bulk_labels").add_column("bulk_labels", labels.tolist())


def sequences(n: int = 240, seed: int = 0, shuffled: bool = False) -> Dataset:
    """Rows whose class follows from their first token; the test side is the same whatever the seed."""
    ids = [*rows(60, seed=99, longest=20), *rows(n, seed, longest=20)]
    names = np.array(["abc"[row[0] % 3] for row in ids])
    if shuffled:
        names[60:] = np.random.default_rng(1).permutation(names[60:])
    sides = ["test"] * 60 + ["validation" if i % 10 == 0 else "train" for i in range(n)]
    return Dataset.from_dict({"input_ids": ids, "cell_type": names.tolist(), "side": sides})


def sequence_settings(folder: Path | str, **sections: Any) -> dict[str, Any]:
    """A retrain.yaml for ``data`` in the folder."""
    return {
        "run": {"name": "small", "output": f"{folder}/runs", "seed": 7},
        "data": {"dataset": f"{folder}/data"},
        "labels": {"column": "cell_type"},
        "split": {"strategy": "column", "column": "side"},
        "model": {"config": architecture(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)},
        "train": {"num_train_epochs": 6, "learning_rate": 1e-2, "global_batch_size": 8, "save_strategy": "epoch"},
        "evaluate": {"bootstrap": 50, "baseline": False},
        "compute": {"device": "cpu"},
        "registry": {"url": f"{folder}/registry"},
        "gate": {"macro_f1": ">= champion - 0.05", "accuracy": 0.6, "bootstrap": 50},
        **sections,
    }


def write(path: Path | str, settings: dict[str, Any]) -> str:
    Path(path).write_text(yaml.safe_dump(settings, sort_keys=False))
    return str(path)
