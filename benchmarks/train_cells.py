"""Training throughput in useful (unpadded) tokens a second, against the stock Trainer on the same cells and model.

All variants see the same 64 cells once, with the same model, optimizer and global batch, one after another in each
round. ``stock`` uses the library's Trainer with the collator named; ``ours`` the batch plan. Prints one JSON line.

    python benchmarks/train_cells.py --rounds 1
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from typing import Any

import numpy as np
import torch
from cells import Pad, architecture, resampled
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from sortase.config.compute import ComputeSpec
from sortase.config.model import ModelSpec
from sortase.config.train import TrainSpec
from sortase.data.collators import DataCollatorForCellClassification
from sortase.data.sequences import Sequences
from sortase.model.load import build_model, load_config
from sortase.model.task import TASKS
from sortase.runs.events import Events
from sortase.runs.folder import RunFolder
from sortase.train.job import TrainJob, train

CLASSES = {"a": 0, "b": 1}
BATCH = 4


def stock(data: Dataset, config: dict[str, Any], padding: str, sampling: str = "random") -> float:
    model = build_model(TASKS["sequence"], CLASSES, None, load_config(None, config), 0)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            train_sampling_strategy=sampling,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        collator = DataCollatorForCellClassification(Pad(), padding=padding, max_length=2048)
        trainer = Trainer(model=model, args=arguments, train_dataset=data, data_collator=collator)
        started = time.perf_counter()
        trainer.train()
        return sum(data["length"]) / (time.perf_counter() - started)


def ours(data: Dataset, config: dict[str, Any], precision: str = "fp32", **model: Any) -> float:
    job = TrainJob(
        task=TASKS["sequence"],
        class_map=CLASSES,
        train=Sequences.open(data, "label"),
        validation=None,
        model=ModelSpec(config=config, **model),
        settings=TrainSpec(num_train_epochs=1, per_device_train_batch_size=BATCH, save_strategy="no", warmup_steps=0),
        compute=ComputeSpec(device="cpu", precision=precision),
        seed=0,
        batch_size=BATCH,
    )
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(folder)
        fitted, _ = train(job, run, Events(run), lambda text: None)
    return float(fitted.summary["useful_tokens_per_second"])


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=64)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--layers", type=int, default=6)
    options.add_argument("--hidden", type=int, default=256)
    options.add_argument("--only", nargs="*", help="names of variants")
    chosen = options.parse_args()
    tokens, vocabulary = resampled(chosen.cells)
    rows = {"input_ids": tokens, "label": [i % 2 for i in range(len(tokens))], "length": [len(t) for t in tokens]}
    data = Dataset.from_dict(rows)
    config = architecture(vocabulary, chosen.layers, chosen.hidden)
    plain = {**config, "attention_probs_dropout_prob": 0.0}
    frozen = chosen.layers - 2
    variants = {
        "stock, own dropout, pad to 2048": lambda: stock(data, config, "max_length"),
        "stock, own dropout, pad to longest": lambda: stock(data, config, "longest"),
        "stock, own dropout, grouped by length": lambda: stock(data, config, "longest", "group_by_length"),
        "ours, own dropout": lambda: ours(data, config),
        "stock, no attention dropout, pad to 2048": lambda: stock(data, plain, "max_length"),
        "stock, no attention dropout, pad to longest": lambda: stock(data, plain, "longest"),
        "stock, no attention dropout, grouped by length": lambda: stock(data, plain, "longest", "group_by_length"),
        "ours, no attention dropout": lambda: ours(data, config, attention_dropout=0.0),
        "ours, no attention dropout, bf16": lambda: ours(data, config, "bf16", attention_dropout=0.0),
        "ours, no attention dropout, frozen prefix": lambda: ours(
            data, config, attention_dropout=0.0, freeze_layers=frozen
        ),
    }
    if chosen.only:
        variants = {name: work for name, work in variants.items() if name in chosen.only}
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(chosen.rounds):
        for name, work in variants.items():
            found[name].append(work())
            print(f"{name}: {found[name][-1]:,.0f} useful tokens/s", flush=True)
    lengths = np.array(rows["length"])
    print(
        json.dumps(
            {
                "benchmark": "train_cells",
                "cells": chosen.cells,
                "mean_length": round(float(lengths.mean()), 1),
                "model": f"{chosen.layers} x {chosen.hidden}",
                "threads": torch.get_num_threads(),
                "useful_tokens_per_second": {name: round(statistics.median(v), 1) for name, v in found.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
