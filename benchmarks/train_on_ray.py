"""What Ray costs a training, and what a second worker brings: seconds in the training loop, start-up apart.

Every variant trains the same model on the same cells with the same global batches, one after another in each round;
`here` is the plain process with as many threads as the variant it is compared with has CPUs. `checkpoints` adds one
every 20 steps to an S3 server on this machine; its share is the time for which training waited for storage. Prints one
JSON line.

    python benchmarks/train_on_ray.py --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cells import architecture, resampled

BATCH = 8

ONE = """
import json, sys, time
started = time.monotonic()
from sortase.config.compute import ComputeSpec
from sortase.config.model import ModelSpec
from sortase.config.train import TrainSpec
from sortase.runs.events import Events
from sortase.train.request import TrainRequest
from sortase.runs.folder import RunFolder
from sortase.pipeline.executor import LocalExecutor
asked = json.loads(sys.argv[1])
folder = RunFolder(asked["folder"])
folder.begin()
request = TrainRequest(
    task="sequence", dataset=asked["dataset"], split=asked["split"], class_map={"a": 0, "b": 1},
    model=ModelSpec(config=asked["config"], attention_dropout=0.0), settings=TrainSpec(**asked["settings"]),
    compute=ComputeSpec(device="cpu", **asked["compute"]), seed=0, batch_size=8,
)
if asked["compute"]:
    from sortase.cluster.train import train
else:
    train = LocalExecutor().train
summary = train(request, folder, Events(folder), lambda line: None, lambda: False)
print(json.dumps({**summary, "whole": time.monotonic() - started}))
"""


def prepared(folder: Path, cells: int, limit: int, validation: float = 0.0) -> tuple[dict[str, str], int]:
    from datasets import Dataset

    from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
    from sortase.prepare.prepare import prepare

    tokens, vocabulary = resampled(cells, limit=limit)
    source = Dataset.from_dict({"input_ids": tokens, "cell_type": ["ab"[i % 2] for i in range(cells)]})
    split = SplitSpec(test_size=0.0, validation_size=validation)
    made = prepare(source, DataSpec(), LabelSpec(column="cell_type"), str(folder), "x", split=split)
    return {"dataset": made.dataset_path, "split": str(made.split_path)}, vocabulary


def run(asked: dict[str, Any], threads: int) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "SORTASE_PROGRESS": "0"}
    command = [sys.executable, "-c", ONE, json.dumps(asked)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


@contextmanager
def s3_bucket() -> Iterator[str]:
    """An S3 server in a process of its own, named by the environment."""
    import boto3

    port = "5799"
    server = subprocess.Popen(["moto_server", "-p", port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client("s3")
    try:
        for attempt in range(60):
            try:
                client.create_bucket(Bucket="bench")
                break
            except Exception:
                if attempt == 59:
                    raise
                time.sleep(0.5)
        yield "s3://bench"
    finally:
        server.terminate()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--cells", type=int, default=320)
    options.add_argument("--limit", type=int, default=512, help="tokens of a cell at most")
    options.add_argument("--layers", type=int, default=4)
    options.add_argument("--hidden", type=int, default=128)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--only", nargs="*", help="names of variants")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch, s3_bucket() as bucket:
        data, vocabulary = prepared(Path(scratch) / "data", chosen.cells, chosen.limit)
        plain = {"num_train_epochs": 1, "global_batch_size": BATCH, "per_device_train_batch_size": BATCH}
        plain |= {"save_strategy": "no", "warmup_steps": 0}
        saving = {**plain, "save_strategy": "steps", "save_steps": 20}
        variants: dict[str, tuple[int, dict[str, Any], dict[str, Any], str]] = {
            "here, 1 thread": (1, {}, plain, scratch),
            "1 worker of 1 CPU": (1, {"workers": 1}, plain, scratch),
            "here, 2 threads": (2, {}, plain, scratch),
            "1 worker of 2 CPUs": (2, {"workers": 1, "cpus_per_worker": 2}, plain, scratch),
            "2 workers of 1 CPU": (1, {"workers": 2}, plain, scratch),
            "2 workers, checkpoints every 20 steps to S3": (1, {"workers": 2}, saving, "s3"),
        }
        if chosen.only:
            variants = {name: variant for name, variant in variants.items() if name in chosen.only}
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
        config = architecture(vocabulary, chosen.layers, chosen.hidden) | {"hidden_dropout_prob": 0.0}
        for number in range(chosen.rounds):
            for place, (name, (threads, compute, settings, executor)) in enumerate(variants.items()):
                folder = f"{bucket if executor == 's3' else scratch}/{number}-{place}"
                asked = {**data, "folder": folder, "config": config, "settings": settings, "compute": compute}
                found[name].append(run(asked, threads))
                print(f"{name}: {found[name][-1]['seconds']:.1f} s of {found[name][-1]['whole']:.1f} s", flush=True)

    def middle(name: str, key: str) -> float:
        return statistics.median(summary[key] for summary in found[name])

    figures = {
        name: {
            "seconds": round(middle(name, "seconds"), 2),
            "start_and_end": round(middle(name, "whole") - middle(name, "seconds"), 2),
            "checkpoint_wait_share": round(middle(name, "checkpoint_wait_seconds") / middle(name, "seconds"), 4),
        }
        for name in found
    }
    steps = next(iter(found.values()))[0]["steps"]
    print(json.dumps({"benchmark": "train_on_ray", "cells": chosen.cells, "steps": steps, "figures": figures}))


if __name__ == "__main__":
    main()
