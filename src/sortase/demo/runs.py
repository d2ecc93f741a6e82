"""The two demonstration runs, through the same stages as any run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..config.load import check
from ..pipeline.run import run
from ..types import Log
from . import sources


def sequence_settings(output: str) -> dict[str, Any]:
    """Cell types of blood cells: 765 genes, 10 classes from 8 to 240 cells."""
    return {
        "run": {"name": "blood-cell-types", "output": output, "prefix": "blood"},
        "tokenize": {
            "input": sources.blood_cells(),
            "layer": "raw",
            "values": "log1p",
            "columns": ["bulk_labels", "louvain", "phase"],
            "max_length": 256,
        },
        "labels": {"task": "sequence", "column": "bulk_labels"},
        "split": {"test_size": 0.2, "validation_size": 0.1},
        "model": {
            "config": {
                "model_type": "bert",
                "hidden_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 128,
                "hidden_dropout_prob": 0.1,
                "initializer_range": 0.1,
            },
            "attention_dropout": 0.0,
        },
        "train": {
            "num_train_epochs": 10,
            "learning_rate": 2e-3,
            "global_batch_size": 16,
            "per_device_train_batch_size": 16,
        },
    }


def token_settings(output: str) -> dict[str, Any]:
    """Dosage sensitivity of transcription factors, whole genes held out."""
    return {
        "run": {"name": "dosage-sensitive-genes", "output": output, "prefix": "dosage"},
        "tokenize": {
            "input": sources.immune_cells(),
            "gene_names": sources.gene_names(),
            "columns": [],
            "max_length": 512,
        },
        "labels": {"task": "token", "gene_class_dict": sources.dosage_classes()},
        "split": {"strategy": "token", "test_size": 0.3, "validation_size": 0.1},
        "model": {
            "config": {
                "model_type": "bert",
                "hidden_size": 48,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "intermediate_size": 96,
                "hidden_dropout_prob": 0.1,
            },
            "attention_dropout": 0.0,
        },
        "train": {
            "num_train_epochs": 2,
            "learning_rate": 1e-3,
            "global_batch_size": 16,
            "per_device_train_batch_size": 16,
            "class_weights": "balanced",
        },
    }


RUNS = {"sequence": sequence_settings, "token": token_settings}


def demo(output: str, only: str | None, replace: bool, log: Log, should_stop: Callable[[], bool]) -> Iterator[str]:
    """Do the runs; yields the path of each report."""
    for kind, settings in RUNS.items():
        if only in (None, kind):
            log(f"demo: {kind}")
            yield run(check(settings(output)), replace=replace, log=log, should_stop=should_stop)
