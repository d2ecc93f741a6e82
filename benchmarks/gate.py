"""The gate against the two forward passes that it cannot do without, and fingerprints of training rows.

Two models of one shape score the same cells of real lengths; the gate also loads both, looks for evaluated rows in the
training data of both, computes all metrics with 1,000 paired resamples and judges. Each round measures the CPU time of
both sides, each first in every other one. Prints one JSON line.

    python benchmarks/gate.py --cells 300 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from cells import architecture, resampled
from datasets import Dataset

from sortase.config.compute import ComputeSpec
from sortase.config.gate import GateSpec
from sortase.data.fingerprints import Training, fingerprints
from sortase.data.sequences import Sequences
from sortase.gate.compare import Contender, contest
from sortase.gate.judge import judge
from sortase.gate.verdict import verdict
from sortase.model.inference import stream
from sortase.model.load import Trained, build_model, load_config
from sortase.model.task import TASKS
from sortase.train.job import save

CLASSES = {f"class {i}": i for i in range(10)}


def trained(vocabulary: int, layers: int, hidden: int, seed: int) -> Trained:
    settings = architecture(vocabulary, layers, hidden)
    model = build_model(TASKS["sequence"], CLASSES, None, load_config(None, settings), seed).eval()
    return Trained(model, None, TASKS["sequence"], CLASSES, 2048, 0)


def passes(models: list[Trained], test: Sequences, batch: int) -> float:
    started = time.process_time()
    for model in models:
        for _ in stream(model, test, batch_size=batch):
            pass
    return time.process_time() - started


def gate(contenders: list[Contender], test: Sequences, batch: int) -> float:
    spec = GateSpec(macro_f1=">= champion - 0.005", max_class_recall_drop=0.1, batch_size=batch)
    started = time.process_time()
    found = contest(*contenders, test, unit="row", spec=spec, compute=ComputeSpec(device="cpu"))
    verdict(found, judge(found, spec), spec)
    return time.process_time() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=300)
    options.add_argument("--training", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--hidden", type=int, default=128)
    chosen = options.parse_args()
    tokens, vocabulary = resampled(chosen.cells)
    data = Dataset.from_dict({"input_ids": tokens, "label": [i % 10 for i in range(len(tokens))]})
    test = Sequences.open(data, "label")
    seen = Training("row", np.unique(np.random.default_rng(0).integers(0, 2**64, chosen.training, np.uint64)))
    models = [trained(vocabulary, chosen.layers, chosen.hidden, seed) for seed in (0, 1)]
    pairs = []
    with tempfile.TemporaryDirectory() as folder:
        for number, model in enumerate(models):
            save(model, str(Path(folder) / str(number)))
        contenders = [Contender(name=str(n), model=str(Path(folder) / str(n)), training=seen) for n in (0, 1)]
        for turn in range(chosen.rounds):
            if turn % 2:
                alone = passes(models, test, chosen.batch)
            whole = gate(contenders, test, chosen.batch)
            if not turn % 2:
                alone = passes(models, test, chosen.batch)
            pairs.append((whole, alone))
    started = time.process_time()
    fingerprints(test)
    fingerprinting = time.process_time() - started
    found = {
        "benchmark": "gate",
        "cells": chosen.cells,
        "training_rows": chosen.training,
        "model": f"{chosen.layers} x {chosen.hidden}",
        "batch": chosen.batch,
        "threads": torch.get_num_threads(),
        "gate_cpu_seconds": round(statistics.median(whole for whole, _ in pairs), 2),
        "two_forward_passes_cpu_seconds": round(statistics.median(alone for _, alone in pairs), 2),
        "ratio": round(statistics.median(whole / alone for whole, alone in pairs), 2),
        "fingerprint_million_tokens_per_second": round(test.lengths.sum() / fingerprinting / 1e6, 1),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
