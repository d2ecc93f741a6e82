"""Damaged tables of counts by the hundred, read in a process of its own: ``table_fuzzer.py FOLDER COUNT SEED``.

Bytes of Parquet and text files are changed, or their ends cut off. Counts or an InputError may come of it; everything
else ends with 1, a crash with a signal, and so does one that asks for far more memory than these small files need.
"""

from __future__ import annotations

import random
import resource
import sys
import tempfile
import warnings
from pathlib import Path

import pandas as pd

from sortase.config.tokenize import TokenizeSpec
from sortase.data.counts.counts import Asked
from sortase.data.counts.tables import read_table
from sortase.errors import InputError

MORE_MEMORY = 2 << 30


def write(folder: Path) -> list[Path]:
    rows = range(40)
    frame = pd.DataFrame({"cell": [f"c{row}" for row in rows], "type": ["B" if row % 2 else "T" for row in rows]})
    for gene in range(6):
        frame[f"G{gene}"] = [float((row * gene) % 5) for row in rows]
    paths = []
    for compression in (None, "gzip", "zstd"):
        paths.append(folder / f"{compression}.parquet")
        frame.to_parquet(paths[-1], compression=compression)
    for name in ("cells.csv", "cells.csv.gz"):
        paths.append(folder / name)
        frame.to_csv(paths[-1], index=False)
    return paths


def damage(whole: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return whole[: rng.randrange(len(whole))]
    damaged = bytearray(whole)
    for _ in range(rng.choice((1, 1, 2, 8))):
        damaged[rng.randrange(len(damaged))] = rng.choice((0, 127, 128, 255, rng.randrange(256)))
    return bytes(damaged)


def main(folder: Path, count: int, seed: int) -> int:
    warnings.simplefilter("ignore")
    folder.mkdir()
    paths, rng, refused = write(folder), random.Random(seed), 0
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, resource.RLIM_INFINITY))
    wholes = [path.read_bytes() for path in paths]
    for number in range(count):
        path, whole = paths[number % len(paths)], wholes[number % len(paths)]
        path.write_bytes(damage(whole, rng))
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            asked = Asked(path=path, name=path.name, spec=TokenizeSpec(input=str(path)), scratch=Path(scratch))
            try:
                read_table(asked)
            except InputError as error:
                refused += 1
                assert path.name in str(error)
    print(f"{refused} refused")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
