"""Evaluation: cells a second against the stock Trainer's predict, cost per cell beside the forward pass, and memory.

Both sides score the same cells of real lengths with the same model and batch size, in turn, each first in every other
round. The stock side pads each batch to its longest cell and then computes accuracy and macro F1 from the logits it
kept; ours computes all metrics of an evaluation with 1,000 bootstrap resamples. Memory is what the metrics hold at most
while scores stream by, for a number of units and ten times as many (100 resamples, which are all there at the start).
Prints one JSON line.

    python benchmarks/evaluate_cells.py --cells 300 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from typing import get_args

import numpy as np
import torch
from cells import Pad, architecture, resampled
from datasets import Dataset
from sklearn.metrics import f1_score
from transformers import Trainer, TrainingArguments

from sortase.data.collators import DataCollatorForCellClassification
from sortase.data.sequences import Sequences
from sortase.model.inference import stream
from sortase.model.load import Trained, build_model, load_config
from sortase.model.metrics.metrics import Cluster, Metrics
from sortase.model.scores import Scores
from sortase.model.task import TASKS

CLASSES = {f"class {i}": i for i in range(10)}


def trained(vocabulary: int, layers: int, hidden: int) -> Trained:
    settings = architecture(vocabulary, layers, hidden)
    model = build_model(TASKS["sequence"], CLASSES, None, load_config(None, settings), 0).eval()
    return Trained(model, None, TASKS["sequence"], CLASSES, 2048, 0)


def stock(model: Trained, data: Dataset, batch: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_eval_batch_size=batch,
            use_cpu=True,
            report_to=[],
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        collator = DataCollatorForCellClassification(Pad(), padding="longest", max_length=2048)
        trainer = Trainer(model=model.model, args=arguments, data_collator=collator)
        started = time.perf_counter()
        logits, labels, _ = trainer.predict(data)
        f1_score(labels, logits.argmax(1), average="macro")
        return len(data) / (time.perf_counter() - started)


def ours(model: Trained, data: Dataset, batch: int) -> float:
    sequences = Sequences.open(data, "label")
    started = time.perf_counter()
    metrics = Metrics(model.classes)
    for scores in stream(model, sequences, batch_size=batch):
        metrics.update(scores)
    metrics.result()
    return len(data) / (time.perf_counter() - started)


class Instant(torch.nn.Module):
    """A model whose forward pass costs nothing, to see what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> object:
        logits = (input_ids[:, :1] % 7).float() * torch.arange(10.0)
        return type("Output", (), {"logits": logits})


def overhead(vocabulary: int, cells: int = 2000) -> float:
    """Milliseconds a cell for everything but the forward pass."""
    tokens, _ = resampled(cells)
    data = Dataset.from_dict({"input_ids": tokens, "label": [i % 10 for i in range(cells)]})
    model = Trained(Instant(), None, TASKS["sequence"], CLASSES, 2048, 0)  # type: ignore[arg-type]
    return 1000 / ours(model, data, 48)


def metric_memory(units: int, cluster: Cluster) -> float:
    """Peak MiB that the metrics hold while this many units stream by in windows of 4,096."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    metrics = Metrics(list(CLASSES), bootstrap=100, cluster=cluster)
    for start in range(0, units, 4096):
        n = min(4096, units - start)
        rows, tokens, labels = np.arange(start, start + n), rng.integers(0, 25_000, n), rng.integers(0, 10, n)
        logits = rng.normal(size=(n, 10)).astype(np.float32)
        metrics.update(Scores(rows, np.zeros(n, np.int32), tokens, logits, labels))
    metrics.result()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return round(peak / 2**20, 1)


def paired(model: Trained, data: Dataset, batch: int, rounds: int) -> list[tuple[float, float]]:
    """Cells a second of ours and stock, round by round; the first to go changes."""
    found = []
    for turn in range(rounds):
        sides = [ours, stock] if turn % 2 == 0 else [stock, ours]
        speeds = {side: side(model, data, batch) for side in sides}
        found.append((speeds[ours], speeds[stock]))
    return found


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=300)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--hidden", type=int, default=128)
    chosen = options.parse_args()
    tokens, vocabulary = resampled(chosen.cells)
    data = Dataset.from_dict({"input_ids": tokens, "label": [i % 10 for i in range(len(tokens))]})
    model = trained(vocabulary, chosen.layers, chosen.hidden)
    pairs = paired(model, data, chosen.batch, chosen.rounds)
    print(
        json.dumps(
            {
                "benchmark": "evaluate_cells",
                "cells": chosen.cells,
                "model": f"{chosen.layers} x {chosen.hidden}",
                "batch": chosen.batch,
                "threads": torch.get_num_threads(),
                "ours_cells_per_second": round(statistics.median(a for a, _ in pairs), 2),
                "stock_cells_per_second": round(statistics.median(b for _, b in pairs), 2),
                "ratio": round(statistics.median(a / b for a, b in pairs), 2),
                "milliseconds_per_cell_beside_forward": round(overhead(vocabulary), 3),
                "metric_memory_mib": {
                    c: [metric_memory(n, c) for n in (400_000, 4_000_000)] for c in get_args(Cluster)
                },
            }
        )
    )


if __name__ == "__main__":
    main()
