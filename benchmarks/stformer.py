"""Preparation, training and evaluation with stFormer's own package and with sortase, on the same rows in one call.

    pip install --no-deps --target /tmp/stformer stformer
    python benchmarks/stformer.py --stformer /tmp/stformer --rounds 1

Rows are the 700 blood cells with 10 expert labels of the scanpy package, ranked; for preparation they are drawn with
replacement to the size asked for. Both sides start from the same untrained checkpoint, train with the same arguments on
the same 560 cells, and are scored on the same 140. stFormer chooses its best checkpoint on the cells that it is scored
on; sortase on a tenth of the 560. stFormer pads every row to the tokenizer's ``model_max_length``, which is 2048 in
what its pretrainer saves; ``--pad`` sets it, and the model's positions with it. Its release 0.1.3a0 stops in its own
collator of cells; as in its repository, transformers' DataCollatorWithPadding takes that place. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import pickle
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np
import scanpy
import torch
from datasets import Dataset, disable_progress_bars
from transformers import BertConfig, BertForMaskedLM, DataCollatorWithPadding

from sortase import GenericClassifier, build_custom_tokenizer

SPECIAL = ("<pad>", "<mask>", "<unk>", "<cls>", "<sep>")


def cells() -> tuple[list[list[int]], list[str], list[str]]:
    """Token ids of each cell, its expressed genes from the highest value on; its label; all tokens in order of id."""
    data = scanpy.datasets.pbmc68k_reduced().raw.to_adata()
    rows = []
    for values in data.X.toarray():
        expressed = np.flatnonzero(values)
        rows.append((expressed[np.argsort(-values[expressed], kind="stable")] + len(SPECIAL)).tolist())
    return rows, data.obs["bulk_labels"].astype(str).tolist(), [*SPECIAL, *data.var_names]


class OutputPaths:
    """A folder with what both sides start from."""

    def __init__(self, folder: Path, chosen: argparse.Namespace):
        self.folder, self.chosen = folder, chosen
        rows, labels, tokens = cells()
        every = Dataset.from_dict({"input_ids": rows, "cell_type": labels})
        sides = every.train_test_split(test_size=0.2, seed=42)
        sides["train"].save_to_disk(self.path("train.dataset"))
        sides["test"].save_to_disk(self.path("test.dataset"))
        drawn = np.random.default_rng(0).integers(0, len(rows), chosen.prepare_rows)
        every.select(drawn).flatten_indices().save_to_disk(self.path("many.dataset"))
        Path(self.path("tokens.pkl")).write_bytes(pickle.dumps({token: i for i, token in enumerate(tokens)}))
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=len(tokens),
            hidden_size=chosen.hidden,
            num_hidden_layers=chosen.layers,
            num_attention_heads=4,
            intermediate_size=2 * chosen.hidden,
            hidden_act="relu",
            hidden_dropout_prob=0.02,
            attention_probs_dropout_prob=0.02,
            initializer_range=0.1,
            max_position_embeddings=chosen.pad,
        )
        BertForMaskedLM(config).save_pretrained(self.path("pretrained"))
        tokenizer = build_custom_tokenizer(self.path("tokens.pkl"))
        tokenizer.model_max_length = chosen.pad
        tokenizer.save_pretrained(self.path("pretrained"))

    def path(self, *names: str) -> str:
        return str(self.folder.joinpath(*names))


def arguments(chosen: argparse.Namespace) -> dict[str, Any]:
    return {
        "num_train_epochs": chosen.epochs,
        "learning_rate": 2e-3,
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "eval_strategy": "epoch",
        "save_strategy": "epoch",
        "save_total_limit": 2,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_accuracy",
        "greater_is_better": True,
        "report_to": "none",
        "disable_tqdm": True,
    }


def timed(seconds: dict[str, list[float]], name: str, work: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    result = work()
    seconds.setdefault(name, []).append(time.perf_counter() - started)
    return result


def one_side(classifier: Any, place: OutputPaths, name: str, seconds: dict[str, list[float]], model: str) -> float:
    """The three steps of the notebook; returns the accuracy on the test side. ``model``: the folder below the output
    in which this side saves it."""
    out = place.folder / f"{name}-{len(seconds.get('prepare', []))}"
    timed(seconds, "prepare", lambda: classifier.prepare_data(place.path("many.dataset"), str(out), "many"))
    train, _ = classifier.prepare_data(place.path("train.dataset"), str(out), "train")
    test, class_map = classifier.prepare_data(place.path("test.dataset"), str(out), "test")
    timed(
        seconds,
        "train",
        lambda: classifier.train(place.path("pretrained"), train, str(out / "model"), eval_dataset=test),
    )
    trained = str(out / "model" / model)
    scored = timed(
        seconds,
        "evaluate",
        lambda: classifier.evaluate(trained, test, class_map, str(out / "scored"), tokenizer_name_or_path=trained),
    )
    return float(scored["eval_accuracy"])


def peer(chosen: argparse.Namespace) -> Any:
    sys.path.append(chosen.stformer)
    from importlib import import_module

    module = import_module("stFormer.classifier.Classifier")
    module.DataCollatorForCellClassification = DataCollatorWithPadding
    module.print = lambda *words: None  # it prints the model
    return module.Classifier(
        "cell_type",
        training_args=arguments(chosen) | {"use_cpu": True, "dataloader_pin_memory": False},
        forward_batch_size=2 * chosen.batch,
        nproc=chosen.nproc,
    )


def ours(chosen: argparse.Namespace) -> GenericClassifier:
    return GenericClassifier(
        "cell_type",
        training_args={**arguments(chosen), "per_device_train_batch_size": chosen.batch},
        forward_batch_size=2 * chosen.batch,
        nproc=chosen.nproc,
        compute={"device": "cpu"},
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stformer", required=True, help="the folder that stformer is installed in")
    options.add_argument("--prepare-rows", type=int, default=20_000)
    options.add_argument("--epochs", type=int, default=3)
    options.add_argument("--batch", type=int, default=16, help="cells in an optimizer step")
    options.add_argument("--layers", type=int, default=2)
    options.add_argument("--hidden", type=int, default=64)
    options.add_argument("--pad", type=int, default=2048, help="the tokenizer's model_max_length")
    options.add_argument("--nproc", type=int, default=2)
    options.add_argument("--rounds", type=int, default=1)
    chosen = options.parse_args()
    disable_progress_bars()
    seconds: dict[str, dict[str, list[float]]] = {"stformer": {}, "sortase": {}}
    accuracy: dict[str, list[float]] = {"stformer": [], "sortase": []}
    with tempfile.TemporaryDirectory() as folder:
        place = OutputPaths(Path(folder), chosen)
        for number in range(chosen.rounds):
            sides = [("stformer", peer, "final_model"), ("sortase", ours, "")]
            for name, make, model in sides[:: (-1) ** number]:
                accuracy[name].append(one_side(make(chosen), place, name, seconds[name], model))
    middle = {
        name: {step: statistics.median(taken) for step, taken in steps.items()} for name, steps in seconds.items()
    }
    (version,) = {d.version for d in distributions(path=[chosen.stformer]) if d.name.lower() == "stformer"}
    print(
        json.dumps(
            {
                "benchmark": "stformer",
                "stformer": version,
                "cells": {"prepare": chosen.prepare_rows, "train": 560, "evaluate": 140},
                "model": f"{chosen.layers} x {chosen.hidden}",
                "padded_to": chosen.pad,
                "threads": torch.get_num_threads(),
                "seconds": {name: {s: round(v, 2) for s, v in steps.items()} for name, steps in middle.items()},
                "ratio": {s: round(v / middle["sortase"][s], 2) for s, v in middle["stformer"].items()},
                "accuracy": {name: round(statistics.median(values), 3) for name, values in accuracy.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
