"""Preparation and tokenization by two Ray workers beside one: seconds of the shards' work, start of workers apart.

The span is from the moment at which the first shard is begun to the end of the last one, on the workers' own clocks;
each worker has one CPU and one thread. The files must be the same. Prints one JSON line.

    python benchmarks/prepare_on_ray.py --rows 400000 --cells 150000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from prepare_cells import GENES, gene_classes, make_input
from tokenize_cells import write_cells

os.environ.setdefault("SORTASE_PROGRESS", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("ARROW_IO_THREADS", "1")


class Stamped:
    """A shard's work with the times of its begin and end."""

    def __init__(self, function: Callable[[Any], Any]):
        self.function = function

    def __call__(self, item: Any) -> tuple[float, float, Any]:
        begun = time.time()
        result = self.function(item)
        return begun, time.time(), result


class Timed:
    """The map of a stage that notes from when to when shards were worked on."""

    def __init__(self, workers: int):
        self.workers = workers
        self.span = 0.0

    def __call__(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        from sortase.cluster.score import actor_map
        from sortase.config.compute import TaskGroup

        stamps = []
        for begun, ended, result in actor_map(TaskGroup(workers=self.workers))(Stamped(function), items):
            stamps.append((begun, ended))
            yield result
        self.span += max(ended for _, ended in stamps) - min(begun for begun, _ in stamps)


def digest(folder: str) -> str:
    found = hashlib.sha256()
    for path in sorted(Path(folder).glob("**/*.arrow")):
        found.update(path.read_bytes())
    return found.hexdigest()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rows", type=int, default=400_000)
    options.add_argument("--cells", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=2)
    chosen = options.parse_args()
    import ray

    from sortase.config.prepare import DataSpec, LabelSpec
    from sortase.config.tokenize import TokenizeSpec
    from sortase.data import vocabulary
    from sortase.pipeline.prepare import prepare
    from sortase.pipeline.tokenize import tokenize

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_input(folder / "cells.dataset", chosen.rows)
        write_cells(folder / "counts.h5ad", chosen.cells)
        tokens = str(folder / "vocabulary.pkl")
        vocabulary.write(tokens, {f"G{i}": i for i in range(2 * GENES)})
        labels = LabelSpec(task="token", column="cell_type", gene_class_dict=gene_classes(), vocabulary=tokens)
        source, counts = str(folder / "cells.dataset"), str(folder / "counts.h5ad")
        works: dict[str, Callable[[str, Timed], Any]] = {
            "prepare": lambda out, run: prepare(source, DataSpec(), labels, out, "x", map=run),
            "tokenize": lambda out, run: tokenize(TokenizeSpec(input=counts), out, map=run),
        }
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        spans: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in works}
        wholes: dict[str, dict[int, list[float]]] = {name: {1: [], 2: []} for name in works}
        for number in range(chosen.rounds):
            for name, work in works.items():
                made = {}
                for workers in (1, 2):
                    out, run, begun = str(folder / f"{name}-{number}-{workers}"), Timed(workers), time.time()
                    work(out, run)
                    wholes[name][workers].append(time.time() - begun)
                    spans[name][workers].append(run.span)
                    made[workers] = digest(out)
                    print(f"{name} {workers}: {run.span:.1f} s of {wholes[name][workers][-1]:.1f} s", flush=True)
                if made[1] != made[2]:
                    raise SystemExit(f"{name}: the files differ")
        ray.shutdown()
    figures = {
        name: {
            "one_seconds": round(statistics.median(spans[name][1]), 2),
            "two_seconds": round(statistics.median(spans[name][2]), 2),
            "speed_up": round(statistics.median(spans[name][1]) / statistics.median(spans[name][2]), 2),
            "speed_up_of_the_whole": round(statistics.median(wholes[name][1]) / statistics.median(wholes[name][2]), 2),
        }
        for name in works
    }
    sizes = {"rows": chosen.rows, "cells": chosen.cells}
    print(json.dumps({"benchmark": "prepare_on_ray", **sizes, "same_bytes": True, "figures": figures}))


if __name__ == "__main__":
    main()
