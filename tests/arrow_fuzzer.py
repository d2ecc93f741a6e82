"""Damaged datasets by the hundred, read in a process of its own: ``arrow_fuzzer.py FOLDER COUNT SEED``.

Bytes of the file of a saved dataset are changed at random. It is read as before preparing and as before training; rows
or an InputError may come of it. Everything else ends with 1, a crash with a signal.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from datasets import Dataset

from sortase.data.sequences import Sequences
from sortase.data.source import open_source
from sortase.errors import SortaseError


def read(folder: str) -> None:
    source = open_source(folder)
    for unit in source.units:
        for batch in source.read(unit):
            batch.to_pylist()


def train(folder: str) -> None:
    sequences = Sequences.open(folder, "label")
    sequences.max_token()
    for window in sequences.windows(16):
        for row in window:
            sequences.labels_of(int(row))


def main(folder: Path, count: int, seed: int) -> int:
    rows = range(60)
    columns = {
        "input_ids": [[row % 7, 2, 3][: 1 + row % 3] for row in rows],
        "label": [row % 2 for row in rows],
        "name": [f"cell{row}" for row in rows],
    }
    Dataset.from_dict(columns).save_to_disk(str(folder))
    (path,) = folder.glob("*.arrow")
    whole, rng, refused = path.read_bytes(), random.Random(seed), 0
    for _ in range(count):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 1, 2))):
            damaged[rng.randrange(len(damaged))] = rng.choice((0, 128, 255, rng.randrange(256)))
        path.write_bytes(damaged)
        for look in (read, train):
            try:
                look(str(folder))
            except SortaseError:
                refused += 1
    print(f"{refused} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
