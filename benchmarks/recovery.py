"""How long a training on two Ray workers stands still when one of them is killed, and how long a stop takes.

`killed`: from kill -9 of a worker to the first new optimizer step. `stopped`: from the request to the manifest of a
durable checkpoint of the last step. On this machine, with a tiny model: nearly all of it is processes starting. Prints
one JSON line.

    python benchmarks/recovery.py
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from cluster_data import finished_steps, request, train_there, wait_until, worker_pids
from sortase.cluster.connect import connected
from sortase.config.compute import ComputeSpec
from sortase.errors import CancelledError
from sortase.runs.events import read_events
from sortase.runs.folder import RunFolder

LONG = {"num_train_epochs": 60, "save_steps": 20, "eval_strategy": "no", "logging_steps": 1}


def logged(folder: Path) -> list[float]:
    """When each optimizer step was told."""
    events = read_events(RunFolder(str(folder)))
    return [datetime.fromisoformat(event["time"]).timestamp() for event in events if "loss" in event]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch, connected(ComputeSpec(workers=2)):
        asked = request("sequence", scratch, {"workers": 2}, **LONG)
        moments: dict[str, float] = {}

        def kill(folder: Path) -> None:
            wait_until(lambda: finished_steps(folder), "a checkpoint")
            moments["killed"] = time.time()
            os.kill(worker_pids("ray::RayTrainWorker")[-1], signal.SIGKILL)

        folder = Path(scratch) / "killed"
        killer = threading.Thread(target=kill, args=(folder,))
        started = time.time()
        killer.start()
        train_there(asked, folder)
        killer.join()
        steps = logged(folder)
        figures = {
            "start_to_first_step": steps[0] - started,
            "killed_to_next_step": min(step for step in steps if step > moments["killed"] + 1) - moments["killed"],
        }
        folder = Path(scratch) / "stopped"

        def stop() -> bool:
            if finished_steps(folder) and "asked" not in moments:
                moments["asked"] = time.time()
            return "asked" in moments

        try:
            train_there(asked, folder, should_stop=stop)
        except CancelledError:
            newest = folder / "checkpoints" / f"step-{finished_steps(folder)[-1]:08d}" / "manifest.json"
            figures["asked_to_durable_checkpoint"] = newest.stat().st_mtime - moments["asked"]
    print(json.dumps({"benchmark": "recovery", "seconds": {name: round(value, 2) for name, value in figures.items()}}))


if __name__ == "__main__":
    main()
