"""Models, data and trainings of the check: tokens are made up, lengths are those of real cells."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from sortase.config.compute import ComputeSpec
from sortase.config.model import ModelSpec
from sortase.config.train import TrainSpec
from sortase.data.sequences import Sequences
from sortase.model.task import TASKS
from sortase.runs.events import Events
from sortase.runs.folder import RunFolder
from sortase.train.job import TrainJob, train

CLASSES = {"a": 0, "b": 1, "c": 2}
KINDS = ("sequence", "token")
FAMILIES = ("bert", "esm", "modernbert")


@dataclass(frozen=True)
class Scale:
    """How much is computed: ``full`` for a GPU, ``reduced`` for a CPU in a minute."""

    layers: int
    hidden: int
    vocabulary: int
    rows: int
    longest: int
    steps: int
    models: dict[str, tuple[int, int, int]]  # layers, hidden size, heads
    limits: tuple[int, ...]
    batch: int
    micro_rows: int
    speed_seconds: float
    scored_rows: int


FULL = Scale(
    layers=3,
    hidden=64,
    vocabulary=300,
    rows=300,
    longest=90,
    steps=60,
    models={"10M": (6, 256, 4), "106M": (12, 768, 12)},
    limits=(2048, 4096),
    batch=64,
    micro_rows=16,
    speed_seconds=10,
    scored_rows=4000,
)
REDUCED = Scale(
    layers=2,
    hidden=16,
    vocabulary=60,
    rows=60,
    longest=24,
    steps=6,
    models={"tiny": (2, 16, 2)},
    limits=(32,),
    batch=8,
    micro_rows=4,
    speed_seconds=0.2,
    scored_rows=40,
)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def architecture(family: str, layers: int, hidden: int, heads: int, vocabulary: int, **changes: Any) -> dict[str, Any]:
    """Geneformer's proportions in each family; no dropout, unless it is asked for."""
    sizes: dict[str, Any] = {
        "model_type": family,
        "vocab_size": vocabulary,
        "pad_token_id": 0,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": (4 if hidden >= 512 else 2) * hidden,
        "max_position_embeddings": 4098,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if family == "esm":
        sizes |= {"mask_token_id": 1, "position_embedding_type": "rotary"}
    if family == "modernbert":
        sizes |= {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2}
        sizes = {name: value for name, value in sizes.items() if not name.endswith("dropout_prob")}
    return sizes | changes


def real_lengths(n: int, limit: int, seed: int = 0) -> np.ndarray:
    """Lengths of ``n`` cells: quantiles of real ones, in between linearly, cut at ``limit``; shrunk for tiny limits."""
    table = np.loadtxt(Path(__file__).parent / "lengths.csv", delimiter=",", skiprows=2)
    drawn = np.random.default_rng(seed).random(n)
    lengths = np.interp(drawn, table[:, 0], table[:, 1]) * min(1, limit / 2048)
    return np.clip(lengths, 2, limit).astype(np.int64)


def rows_of(kind: str, lengths: np.ndarray, vocabulary: int, seed: int = 0) -> Dataset:
    """Rows whose labels can be learnt in a few steps: a class has tokens that it prefers; a token is its own class."""
    rng = np.random.default_rng(seed)
    label = np.arange(len(lengths)) % 3
    ids = []
    for length, own in zip(lengths, label, strict=True):
        row = rng.integers(5, vocabulary, length)
        preferred = rng.random(length) < 0.7
        row[preferred] = np.minimum(row[preferred] // 3 * 3 + own, vocabulary - 1)
        ids.append(row)
    columns: dict[str, Any] = {"input_ids": ids}
    if kind == "sequence":
        columns["label"] = label
    else:
        columns["labels"] = [np.where(row % 5 == 0, -100, row % 3) for row in ids]
    return Dataset.from_dict(columns)


def small_rows(kind: str, scale: Scale) -> Dataset:
    lengths = np.random.default_rng(1).integers(4, scale.longest, scale.rows)
    return rows_of(kind, lengths, scale.vocabulary)


def small_config(family: str, scale: Scale) -> dict[str, Any]:
    return architecture(family, scale.layers, scale.hidden, 4, scale.vocabulary)


def job_of(kind: str, data: Dataset, config: dict[str, Any], compute: ComputeSpec, **settings: Any) -> TrainJob:
    """A training on four fifths of the rows, the others for validation."""
    task = TASKS[kind]
    model = {name: settings.pop(name) for name in ("freeze_layers",) if name in settings}
    sequences = Sequences.open(data, task.label_column)
    aside = len(sequences) // 5
    return TrainJob(
        task=task,
        class_map=CLASSES,
        train=sequences.view(np.arange(aside, len(sequences))),
        validation=sequences.view(np.arange(aside)),
        model=ModelSpec(config=config, **model),
        settings=TrainSpec(**{"learning_rate": 3e-3, "per_device_train_batch_size": 16, "logging_steps": 1} | settings),
        compute=compute,
        seed=3,
        batch_size=32,
    )


def train_in(folder: Path, job: TrainJob, **options: Any) -> Any:
    """Train into a folder: ``(fitted, trained)``."""
    run = RunFolder(str(folder))
    run.begin()
    return train(job, run, Events(run), lambda text: None, **options)


def losses(fitted: Any) -> dict[int, float]:
    """The training loss of each logged step."""
    return {entry["step"]: entry["loss"] for entry in fitted.trainer.state.log_history if "loss" in entry}


def resumable_job(scale: Scale) -> TrainJob:
    settings = {"max_steps": scale.steps, "save_strategy": "steps", "save_steps": 2, "eval_strategy": "no"}
    return job_of("token", small_rows("token", scale), small_config("bert", scale), ComputeSpec(), **settings)


def train_and_die(folder: str, scale: Scale) -> None:
    """What another process does: after its fifth step, with a checkpoint stored, it ends by SIGKILL."""
    manifest = Path(folder) / "checkpoints" / "step-00000002" / "manifest.json"
    steps = 0

    def should_stop() -> bool:
        nonlocal steps
        steps += 1
        while steps == 5 and not manifest.exists():
            time.sleep(0.005)
        if steps == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    train_in(Path(folder), resumable_job(scale), should_stop=should_stop)
