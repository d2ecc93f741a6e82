"""Preparation and tokenization by two Ray workers beside one: seconds of the shards' work, start of workers apart.

The span is from the moment at which the first shard is begun to the end of the last one, on the workers' own clocks;
each worker has one CPU and one thread. Data lie in memory (`--folder`): what is compared is the work, not a disk.
Each round measures both, in turn first, after one that only makes the memory known to the machine. `speed_up` is of
the spans and needs a machine without other work, as Ray's workers are nice to it; `speed_up_by_cpu` is the CPU time of
one worker over that of the busier of two. `cores_of_one` is its CPU time over its span; `cpu_of_two`, that of two over
that of one, is above 1 where they wait for the same memory. Medians are given to the tokenization, as the driver
measures them. The files must be the same. Prints one JSON line.

    python benchmarks/prepare_on_ray.py --rows 100000 --cells 100000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prepare_cells import GENES, gene_classes, make_input
from tokenize_cells import write_cells

os.environ.setdefault("SORTASE_PROGRESS", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
MEMORY = Path("/dev/shm")


class Stamped:
    """A shard's work with the times of its begin and end, the CPU time of all threads, and the worker."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __call__(self, item: Any) -> tuple[float, float, float, int, Any]:
        begun, before = time.time(), time.process_time()
        result = self.function(item)
        return begun, time.time(), time.process_time() - before, os.getpid(), result


class Timed:
    """The map of a stage that notes from when to when shards were worked on, and the CPU time of the busiest worker."""

    def __init__(self, workers: int):
        self.workers = workers
        self.span = self.cpu = self.most = self.whole = 0.0

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        from sortase.cluster.actors import actor_map
        from sortase.config.compute import TaskGroup

        begins, ends = [], []
        spent: dict[int, float] = defaultdict(float)
        for begun, ended, cpu, worker, result in actor_map(TaskGroup(workers=self.workers))(Stamped(function), items):
            begins.append(begun)
            ends.append(ended)
            spent[worker] += cpu
            yield result
        self.cpu += sum(spent.values())
        self.most += max(spent.values())
        self.span += max(ends) - min(begins)


def digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(folder.glob("**/*.arrow")):
        found.update(path.read_bytes())
    return found.hexdigest()


def stages(folder: Path, rows: int, cells: int) -> dict[str, Callable[[str, Timed | None], Any]]:
    """What is measured, on data made in the folder."""
    from sortase.config.prepare import DataSpec, LabelSpec
    from sortase.config.tokenize import TokenizeSpec
    from sortase.data import vocabulary
    from sortase.prepare.prepare import prepare
    from sortase.prepare.tokenize import tokenize

    source, counts, tokens = (str(folder / name) for name in ("cells.dataset", "counts.h5ad", "vocabulary.pkl"))
    make_input(Path(source), rows)
    write_cells(Path(counts), cells)
    write_cells(folder / "few.h5ad", 2000)
    tokenize(TokenizeSpec(input=str(folder / "few.h5ad")), str(folder / "few"))
    vocabulary.write(tokens, {f"G{i}": i for i in range(2 * GENES)})
    labels = LabelSpec(task="token", column="cell_type", gene_class_dict=gene_classes(), vocabulary=tokens)
    spec = TokenizeSpec(
        input=counts, medians=str(folder / "few" / "medians.json"), vocabulary=str(folder / "few" / "vocabulary.json")
    )
    return {
        "prepare": lambda out, run: prepare(source, DataSpec(), labels, out, "x", map=run),
        "tokenize": lambda out, run: tokenize(spec, out, map=run),
    }


def measure(work: Callable[[str, Timed | None], Any], out: Path, workers: int) -> tuple[Timed, str]:
    run, begun = Timed(workers), time.time()
    work(str(out), run)
    run.whole = time.time() - begun
    made = digest(out)
    shutil.rmtree(out)
    return run, made


def figures(one: list[Timed], two: list[Timed]) -> dict[str, float]:
    pairs = list(zip(one, two, strict=True))
    found = {
        "one_seconds": statistics.median(run.span for run in one),
        "two_seconds": statistics.median(run.span for run in two),
        "speed_up": statistics.median(a.span / b.span for a, b in pairs),
        "speed_up_of_the_whole": statistics.median(a.whole / b.whole for a, b in pairs),
        "speed_up_by_cpu": statistics.median(a.cpu / b.most for a, b in pairs),
        "cores_of_one": statistics.median(run.cpu / run.span for run in one),
        "cpu_of_two": statistics.median(b.cpu / a.cpu for a, b in pairs),
    }
    return {name: round(value, 2) for name, value in found.items()}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=100_000)
    options.add_argument("--cells", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, default=MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir()))
    chosen = options.parse_args()
    import ray

    with tempfile.TemporaryDirectory(dir=chosen.folder) as scratch:
        works = stages(Path(scratch), chosen.rows, chosen.cells)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        runs: dict[str, dict[int, list[Timed]]] = {name: {1: [], 2: []} for name in works}
        for number in range(chosen.rounds + 1):
            for name, work in works.items() if number else [("prepare", works["prepare"])]:
                digests = set()
                for workers in (1, 2) if number % 2 == 0 else (2, 1):
                    run, made = measure(work, Path(scratch) / "out", workers)
                    digests.add(made)
                    if number:
                        runs[name][workers].append(run)
                    print(
                        f"{name}, {workers}: {run.span:.1f} s, CPU {run.cpu:.1f} s, whole {run.whole:.1f} s", flush=True
                    )
                if len(digests) > 1:
                    raise SystemExit(f"{name}: the files differ")
        ray.shutdown()
    sizes = {"rows": chosen.rows, "cells": chosen.cells, "rounds": chosen.rounds}
    shown = {name: figures(found[1], found[2]) for name, found in runs.items()}
    print(json.dumps({"benchmark": "prepare_on_ray", **sizes, "same_bytes": True, "figures": shown}))


if __name__ == "__main__":
    main()
