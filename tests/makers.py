"""Small data and models for tests, with defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

VOCABULARY = 60
CLASSES = {"a": 0, "b": 1, "c": 2}


def rows(n: int = 120, seed: int = 0, longest: int = 40) -> list[list[int]]:
    """Random tokens from 8 on after a first one of 5, 6 or 7."""
    rng = np.random.default_rng(seed)
    return [
        [int(rng.integers(5, 8)), *rng.integers(8, VOCABULARY, rng.integers(3, longest)).tolist()] for _ in range(n)
    ]


def dataset(kind: str = "sequence", n: int = 120, seed: int = 0, **columns: Any) -> Dataset:
    """A labelled dataset whose labels can be learnt: a sequence's by its first token, a token's by itself."""
    ids = rows(n, seed)
    labels: dict[str, Any] = {"label": [row[0] % 3 for row in ids]}
    if kind == "token":
        labels = {"labels": [[token % 3 if token % 2 else -100 for token in row] for row in ids]}
    return Dataset.from_dict({"input_ids": ids, **labels, **columns})


def architecture(model_type: str = "bert", **changes: Any) -> dict[str, Any]:
    """A tiny configuration of any encoder family."""
    sizes: dict[str, Any] = {
        "model_type": model_type,
        "vocab_size": VOCABULARY,
        "pad_token_id": 0,
        "max_position_embeddings": 64,
    }
    if model_type == "distilbert":
        sizes |= {"dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 32}
    else:
        sizes |= {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    if model_type == "modernbert":
        sizes |= {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
    if model_type == "esm":
        sizes |= {"mask_token_id": 1, "position_embedding_type": "rotary"}
    return sizes | changes


def train_job(kind: str = "sequence", data: Dataset | None = None, model: Any = None, **settings: Any) -> Any:
    """A training of a tiny model on 120 rows, 30 of them for validation."""
    from sortase.config.compute import ComputeSpec
    from sortase.config.model import ModelSpec
    from sortase.config.train import TrainSpec
    from sortase.data.sequences import Sequences
    from sortase.model.task import TASKS
    from sortase.train.job import TrainJob

    task = TASKS[kind]
    sequences = Sequences.open(data if data is not None else dataset(kind), task.label_column)
    defaults = {"num_train_epochs": 2, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 4}
    return TrainJob(
        task=task,
        class_map=CLASSES,
        train=sequences.view(np.arange(30, len(sequences))),
        validation=sequences.view(np.arange(30)),
        model=model or ModelSpec(config=architecture()),
        settings=TrainSpec(**{**defaults, **settings}),
        compute=ComputeSpec(device="cpu"),
        seed=7,
        batch_size=16,
    )


def run_training(folder: str | Path, job: Any, **options: Any) -> Any:
    """Train into a folder; returns (fitted, trained)."""
    from sortase.runs.events import Events
    from sortase.runs.folder import RunFolder
    from sortase.train.job import train

    run = RunFolder(str(folder))
    run.begin()
    return train(job, run, Events(run), lambda text: None, **options)


def weights(folder: str | Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(Path(folder) / "model" / "model.safetensors")


def assert_same_weights(left: dict[str, np.ndarray], right: dict[str, np.ndarray]) -> None:
    """Bitwise."""
    assert left.keys() == right.keys()
    different = [name for name in left if not np.array_equal(left[name], right[name])]
    assert not different
