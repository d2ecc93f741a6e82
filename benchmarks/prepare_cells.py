"""Prepare cells of real lengths, beside the ways it replaces: python benchmarks/prepare_cells.py --rows 200000

Lengths and genes are those of the 559 human cells in the celltypist package (non-zero genes, most expressed first, at
most 2048), drawn again and again; a tenth of each cell's tokens is exchanged, so that no two rows are alike. These
ways are timed in turn, each from a saved dataset to a saved dataset, each in a process of its own, imports apart:
  by_row            `datasets` filter, map and save, a Python function a row (as Geneformer's classifier does)
  used_well         `datasets` in Arrow format: masks, its own shuffle for the cap, one select, one save
  used_well_sorted  the same with the chosen rows in ascending order, which reads the source from front to end
  ours              prepare(), which also waits for the disk (fsync); the others leave that to the system
and plain copies of the bytes that prepare wrote. Memory is the peak resident size of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("SORTASE_PROGRESS", "0")
os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")

MOST, CLASSES, GENES = 2048, 24, 500
FILTER = {"organ": ["blood", "lung", "liver", "skin", "gut"]}
RARE = 0.002


def real_cells() -> tuple[np.ndarray, np.ndarray, int]:
    """Tokens of the cells one after the other, their lengths, and the number of genes."""
    import celltypist
    import pyarrow.csv as csv

    path = Path(celltypist.__file__).parent / "data" / "samples" / "sample_cell_by_gene.csv"
    table = csv.read_csv(path, read_options=csv.ReadOptions(block_size=64 << 20))
    counts = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)
    order = [np.argsort(-row, kind="stable")[: min(MOST, int((row > 0).sum()))] for row in counts]
    return np.concatenate(order), np.array([len(row) for row in order]), counts.shape[1]


def make_input(folder: Path, rows: int) -> None:
    """A saved dataset with cells of these lengths, 1,000 a record batch, 500 MB a file, as save_to_disk writes it."""
    import pyarrow as pa
    from datasets import Features, List, Value

    from sortase.data.shards import Shard, publish, with_features

    tokens, lengths, genes = real_cells()
    starts = np.cumsum(lengths) - lengths
    kinds = {"input_ids": List(Value("int64")), "cell_type": Value("string"), "organ": Value("string")}
    features = Features(kinds | {"donor": Value("string")})
    schema = with_features(features.arrow_schema.remove_metadata(), features.to_dict())
    rng = np.random.default_rng(0)
    weights = np.geomspace(1, 0.001, CLASSES)
    folder.mkdir(parents=True)
    shards, per_file = [], 50_000
    for number, first in enumerate(range(0, rows, per_file)):
        count = min(per_file, rows - first)
        with pa.OSFile(str(folder / f"data-{number}.arrow"), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for start in range(0, count, 1000):
                size = min(1000, count - start)
                writer.write_batch(_batch(schema, rng, size, tokens, starts, lengths, genes, weights))
        shards.append(Shard(f"data-{number}.arrow", count))
    publish(str(folder), shards, features.to_dict(), f"cells {rows}")


def _batch(
    schema: Any, rng: Any, n: int, tokens: np.ndarray, starts: np.ndarray, lengths: np.ndarray, genes: int, weights: Any
) -> Any:
    import pyarrow as pa

    cells = rng.integers(0, len(lengths), n)
    size = lengths[cells]
    ends = np.cumsum(size)
    flat = tokens[np.repeat(starts[cells] - (ends - size), size) + np.arange(ends[-1])]
    changed = rng.integers(0, len(flat), len(flat) // 10)
    flat[changed] = rng.integers(0, genes, len(changed))
    lists = pa.LargeListArray.from_arrays(pa.array(np.append(0, ends)), pa.array(flat.astype(np.int64)))
    columns = {
        "cell_type": rng.choice([f"type {i}" for i in range(CLASSES)], n, p=weights / weights.sum()),
        "organ": rng.choice([*FILTER["organ"], "brain", "heart", "kidney"], n),
        "donor": rng.choice([f"donor {i}" for i in range(30)], n),
    }
    arrays = [lists.cast(schema.field(0).type), *map(pa.array, columns.values())]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def caps(rows: int) -> tuple[int, int]:
    """About 41 % of the rows are kept in the end."""
    return rows // 2, rows // 13


def gene_classes() -> dict[str, list[str]]:
    return {name: [f"G{i}" for i in range(k * GENES, (k + 1) * GENES)] for k, name in enumerate(["a", "b"])}


def ours(source: Path, out: Path, rows: int, task: str, vocabulary: Path, nproc: int) -> None:
    from sortase.config.prepare import DataSpec, LabelSpec
    from sortase.prepare.prepare import prepare

    most, per_class = caps(rows)
    limits = {"max_examples": most, "max_examples_per_class": per_class}
    data = DataSpec(filter=FILTER, rare_threshold=RARE, nproc=nproc, **limits)
    genes = {"gene_class_dict": gene_classes(), "vocabulary": str(vocabulary)} if task == "token" else {}
    prepare(str(source), data, LabelSpec(task=task, column="cell_type", **genes), str(out), "x")


def by_row(source: Path, out: Path, rows: int, task: str, vocabulary: Path, nproc: int) -> None:
    """`nproc` processes."""
    from collections import Counter

    from datasets import load_from_disk

    data = load_from_disk(str(source))
    allowed = FILTER["organ"]
    data = data.filter(lambda row: row["organ"] in allowed, num_proc=nproc)
    counts = Counter(data["cell_type"])
    common = [name for name, n in counts.items() if n / len(data) >= RARE]
    data = data.filter(lambda row: row["cell_type"] in common, num_proc=nproc)
    data = data.shuffle(seed=42).select(range(min(len(data), caps(rows)[0])))
    data = data.select(_first_of_each(data["cell_type"], caps(rows)[1]))
    if task == "token":
        ids = {i: int(i >= GENES) for i in range(2 * GENES)}
        data = data.map(lambda row: {"labels": [ids.get(token, -100) for token in row["input_ids"]]}, num_proc=nproc)
        data = data.filter(lambda row: any(label != -100 for label in row["labels"]), num_proc=nproc)
    else:
        ids = {name: i for i, name in enumerate(sorted(set(data["cell_type"])))}
        data = data.map(lambda row: {"label": ids[row["cell_type"]]}, num_proc=nproc)
    data.save_to_disk(str(out))


def _first_of_each(names: Any, most: int) -> np.ndarray:
    codes = np.unique(np.asarray(names), return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero(rank < most)


def used_well(
    source: Path, out: Path, rows: int, task: str, vocabulary: Path, nproc: int, in_order: bool = False
) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    from datasets import load_from_disk

    data = load_from_disk(str(source))
    table = data.data.table
    mask = pc.is_in(table["organ"], value_set=pa.array(FILTER["organ"])).to_numpy()
    names = table["cell_type"].combine_chunks().dictionary_encode()
    codes = names.indices.to_numpy()
    common = np.bincount(codes[mask]) / mask.sum() >= RARE
    kept = np.flatnonzero(mask & common[codes])
    kept = np.random.default_rng(42).permutation(kept)[: caps(rows)[0]]
    kept = kept[_first_of_each(codes[kept], caps(rows)[1])]
    kept = np.sort(kept) if in_order else kept
    if task == "token":
        lookup = np.full(40_000, -100, dtype=np.int64)
        lookup[: 2 * GENES] = np.arange(2 * GENES) >= GENES
        chosen = data.select(kept).with_format("arrow")

        def label(batch: Any) -> Any:
            ids = batch["input_ids"].combine_chunks()
            flat = pa.array(lookup[ids.flatten().to_numpy()])
            offsets = pa.array(np.append(0, np.cumsum(pc.list_value_length(ids).to_numpy())).astype(np.int32))
            return batch.append_column("labels", pa.ListArray.from_arrays(offsets, flat))

        chosen.map(label, batched=True).save_to_disk(str(out))
        return
    ids = np.argsort(np.argsort(names.dictionary.to_pylist()))
    data.add_column("label", ids[codes]).select(kept).save_to_disk(str(out))


def used_well_sorted(source: Path, out: Path, rows: int, task: str, vocabulary: Path, nproc: int) -> None:
    used_well(source, out, rows, task, vocabulary, nproc, in_order=True)


def copy(source: Path, out: Path, rows: int, task: str, vocabulary: Path, nproc: int, sync: bool = False) -> None:
    """The bytes of a folder's files, one after the other, through a 16 MiB buffer."""
    out.mkdir()
    for path in sorted(source.iterdir()):
        with path.open("rb") as data, (out / path.name).open("wb") as target:
            shutil.copyfileobj(data, target, 16 << 20)
            if sync:
                target.flush()
                os.fsync(target.fileno())


def copy_fsync(source: Path, out: Path, rows: int, task: str, vocabulary: Path, nproc: int) -> None:
    copy(source, out, rows, task, vocabulary, nproc, sync=True)


WAYS: dict[str, Callable[..., None]] = {
    way.__name__: way for way in (ours, used_well, used_well_sorted, copy, copy_fsync, by_row)
}


def run_one(way: str, source: Path, out: Path, task: str, vocabulary: Path, options: argparse.Namespace) -> None:
    """Time one way in this process; prints seconds and peak GiB."""
    import datasets

    import sortase.data.vocabulary
    import sortase.prepare.prepare  # noqa: F401

    datasets.disable_caching()
    nproc = options.by_row_nproc if way == "by_row" else options.nproc
    started = time.perf_counter()
    WAYS[way](source, out, options.rows, task, vocabulary, nproc)
    seconds = time.perf_counter() - started
    print(seconds, peak_memory())


def peak_memory() -> float:
    """GiB that this process held at most; `getrusage` would count its parent's memory at the start."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


def measure(way: str, source: Path, out: Path, task: str, vocabulary: Path, options: argparse.Namespace) -> list[float]:
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    command = [sys.executable, __file__, "--only", way, str(source), str(out), task, str(vocabulary)]
    settings = ["--rows", options.rows, "--nproc", options.nproc, "--by-row-nproc", options.by_row_nproc]
    told = subprocess.run([*command, *map(str, settings)], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(value) for value in told.split()[-2:]]


def compare(options: argparse.Namespace, source: Path, scratch: Path, task: str) -> dict[str, Any]:
    vocabulary = scratch / "vocabulary.json"
    vocabulary.write_text(json.dumps({f"G{i}": i for i in range(33_000)}))
    made, out = scratch / "made", scratch / "out"
    measure("ours", source, made, task, vocabulary, options)
    dataset = made / "x_labeled.dataset"
    found: dict[str, list[list[float]]] = {way: [] for way in options.ways}
    for turn in range(options.repeats):
        for way in options.ways:
            if way != "by_row" or turn < options.by_row_repeats:
                start = dataset if way.startswith("copy") else source
                found[way].append(measure(way, start, out, task, vocabulary, options))
    shutil.rmtree(out, ignore_errors=True)
    size = sum(path.stat().st_size for path in dataset.iterdir())
    kept = json.loads((dataset / "sortase.json").read_text())["summary"]["steps"][-1]["rows"]
    shutil.rmtree(made)
    median = {way: statistics.median(run[0] for run in runs) for way, runs in found.items()}
    return {
        "task": task,
        "rows": options.rows,
        "kept": kept,
        "MB written": size // 10**6,
        "seconds": {way: [round(run[0], 2) for run in runs] for way, runs in found.items()},
        "peak GiB": {way: round(max(run[1] for run in runs), 2) for way, runs in found.items()},
        "times as fast": {way: round(median[way] / median["ours"], 2) for way in median if way != "ours"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--by-row-repeats", type=int, default=1)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--tasks", nargs="+", default=["sequence", "token"])
    parser.add_argument("--nproc", type=int, default=4)
    parser.add_argument("--by-row-nproc", type=int, default=1, help="processes; Geneformer's default is 1 or more")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where the data may lie")
    parser.add_argument("--only", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        way, source, out, task, vocabulary = options.only
        run_one(way, Path(source), Path(out), task, Path(vocabulary), options)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        scratch = Path(name)
        os.environ["HF_DATASETS_CACHE"] = os.environ["TMPDIR"] = str(scratch)
        source = scratch / "input.dataset"
        make_input(source, options.rows)
        for task in options.tasks:
            print(json.dumps(compare(options, source, scratch, task), indent=1), flush=True)


if __name__ == "__main__":
    main()
