"""How close a sweep comes to its work divided by the CPUs: 16 trials of about 20 s, two at a time.

First one training alone in this way of working (a process, one thread) says how long a trial's work is; then the sweep,
without early ends, from nothing to the best model saved. Ideal is the work divided by 2. Prints one JSON line.

    python benchmarks/sweep.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cells import architecture
from train_on_ray import BATCH, prepared, run

SWEEP = """
import json, sys, time
started = time.monotonic()
from sortase.cluster.connect import connected
from sortase.cluster.sweep import tune
from sortase.config.compute import ComputeSpec
from sortase.config.model import ModelSpec
from sortase.config.train import TrainSpec
from sortase.config.tune import TuneSpec
from sortase.runs.events import Events
from sortase.train.request import TrainRequest
from sortase.runs.folder import RunFolder
asked = json.loads(sys.argv[1])
folder = RunFolder(asked["folder"])
folder.begin()
request = TrainRequest(
    task="sequence", dataset=asked["dataset"], split=asked["split"], class_map={"a": 0, "b": 1},
    model=ModelSpec(config=asked["config"], attention_dropout=0.0), settings=TrainSpec(**asked["settings"]),
    compute=ComputeSpec(device="cpu"), seed=0, batch_size=8,
)
spec = TuneSpec(trials=asked["trials"], space={"learning_rate": [1e-5, 1e-3]}, scheduler="none")
with connected(request.compute):
    ready = time.monotonic() - started
    events = Events(folder)
    summary = tune(spec, request, folder, events, lambda line: None, lambda: False).summary
summary.pop("table")
print(json.dumps({**summary, "ready": ready, "whole": time.monotonic() - started}))
"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--trials", type=int, default=16)
    options.add_argument("--cells", type=int, default=1100)
    options.add_argument("--limit", type=int, default=512, help="tokens of a cell at most")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        data, vocabulary = prepared(Path(scratch) / "data", chosen.cells, chosen.limit, validation=0.1)
        settings = {"num_train_epochs": 1, "global_batch_size": BATCH, "per_device_train_batch_size": BATCH}
        config = architecture(vocabulary, 2, 128) | {"hidden_dropout_prob": 0.0}
        asked = {**data, "config": config, "settings": settings, "compute": {}, "trials": chosen.trials}
        alone = run({**asked, "folder": f"{scratch}/alone"}, 1)
        print(f"one training alone: {alone['seconds']:.1f} s", flush=True)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SORTASE_PROGRESS": "0"}
        command = [sys.executable, "-c", SWEEP, json.dumps({**asked, "folder": f"{scratch}/sweep"})]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        swept = json.loads(done.stdout.strip().splitlines()[-1])
    ideal = alone["seconds"] * chosen.trials / 2
    figures = {
        "trial_seconds": alone["seconds"],
        "ideal_seconds": round(ideal, 1),
        "ray_start_seconds": round(swept["ready"], 1),
        "sweep_seconds": swept["seconds"],
        "sweep_over_ideal": round(swept["seconds"] / ideal, 3),
        "all_over_ideal": round(swept["whole"] / ideal, 3),
        "trial_start_seconds": swept["start_seconds"],
    }
    print(json.dumps({"benchmark": "sweep", "trials": chosen.trials, "at_a_time": swept["at_a_time"], **figures}))


if __name__ == "__main__":
    main()
