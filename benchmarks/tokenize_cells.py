"""Tokenize cells of real lengths: cells per second and peak memory, beside a loop that ranks cell by cell.

The cells of the celltypist package, drawn with replacement, as an AnnData file of sparse rows. The loop reads 512 cells
at a time, scales them and sorts each cell's genes by itself, as Geneformer's own tokenizer does; both get the medians,
both write a dataset, in turn on the same file. Then the whole file, with medians given and with medians computed.

    python benchmarks/tokenize_cells.py --cells 50000
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

os.environ.setdefault("SORTASE_PROGRESS", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")


def write_cells(path: Path, cells: int, seed: int = 0) -> float:
    """An .h5ad of resampled cells; returns its mean number of expressed genes."""
    import h5py
    import pandas as pd
    from cells import count_table
    from scipy.sparse import csr_matrix

    frame = pd.read_csv(count_table(), index_col=0)
    source = csr_matrix(np.rint(frame.to_numpy()).astype(np.float32))
    drawn = np.random.default_rng(seed).integers(0, source.shape[0], cells)
    indptr = np.concatenate(([0], np.cumsum(np.diff(source.indptr)[drawn])))
    with h5py.File(path, "w") as file:
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (cells, len(frame.T))})
        group["indptr"] = indptr
        for part, dtype in (("data", np.float32), ("indices", np.int32)):
            group.create_dataset(part, (indptr[-1],), dtype, chunks=(1 << 20,))
        for start in range(0, cells, 2000):
            block = source[drawn[start : start + 2000]]
            place = slice(indptr[start], indptr[min(start + 2000, cells)])
            group["data"][place], group["indices"][place] = block.data, block.indices
        for name, index in (("obs", [f"c{row}" for row in range(cells)]), ("var", list(frame.columns))):
            table = file.create_group(name)
            table.attrs.update({"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.2.0"})
            table.attrs["column-order"] = np.array([], dtype=h5py.string_dtype())
            table["_index"] = np.array(index, dtype=object)
            table["_index"].attrs.update({"encoding-type": "string-array", "encoding-version": "0.2.0"})
    return float(indptr[-1] / cells)


def ours(path: str, out: str, settings: dict[str, Any]) -> dict[str, Any]:
    import datasets  # noqa: F401 - loaded before the clock starts, as for the loop
    import h5py  # noqa: F401

    from sortase.config.tokenize import TokenizeSpec
    from sortase.prepare.tokenize import tokenize

    made, seconds = _timed(lambda: tokenize(TokenizeSpec(input=path, **settings), out, replace=True))
    return {"seconds": seconds, "cells": made.summary["cells"], "peak_mib": _peak(), "dataset": made.dataset_path}


def looped(path: str, out: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Ranks one cell after the other."""
    import anndata
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    tokens = json.loads(Path(settings["vocabulary"]).read_text())
    medians = json.loads(Path(settings["medians"]).read_text())

    def work() -> int:
        data = anndata.read_h5ad(path, backed="r")
        known = np.array([place for place, name in enumerate(data.var_names) if name in medians])
        names = data.var_names[known]
        ids, norm = np.array([tokens[name] for name in names]), np.array([medians[name] for name in names])
        cells = list(_ranked_one_by_one(data, known, ids, norm))
        rows = {"input_ids": [cell[:2048] for cell in cells], "length": [min(len(cell), 2048) for cell in cells]}
        Dataset.from_dict(rows).save_to_disk(out)
        return len(cells)

    cells, seconds = _timed(work)
    return {"seconds": seconds, "cells": cells, "peak_mib": _peak(), "dataset": out}


def _ranked_one_by_one(data: Any, known: np.ndarray, ids: np.ndarray, norm: np.ndarray) -> Iterator[np.ndarray]:
    from scipy.sparse import csr_matrix

    for start in range(0, data.n_obs, 512):
        block = data.X[start : start + 512]
        totals = np.asarray(block.sum(axis=1))
        scaled = csr_matrix(block[:, known] / totals * 10_000 / norm)
        for row in range(scaled.shape[0]):
            values = scaled[row].data
            yield ids[scaled[row].indices][np.argsort(-values)]


def _timed(work: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return work(), time.perf_counter() - start


def _peak() -> float:
    """MiB; `ru_maxrss` would begin with the parent's peak."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def alone(function: Any, *arguments: Any) -> dict[str, Any]:
    """In a process of its own, so that memory is its own too."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return dict(pool.submit(function, *arguments).result())


def compare(folder: Path, path: str, settings: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Both in turn on one file; medians of the repeats, and that they agree."""
    from datasets import load_from_disk

    pairs = [
        (alone(ours, path, str(folder / "ours"), settings), alone(looped, path, str(folder / "loop"), settings))
        for _ in range(repeats)
    ]
    left, right = (load_from_disk(pairs[-1][side]["dataset"])["input_ids"][:500] for side in (0, 1))
    rates = [float(np.median([pair[side]["cells"] / pair[side]["seconds"] for pair in pairs])) for side in (0, 1)]
    same = [set(a) == set(b) or len(a) == 2048 for a, b in zip(left, right, strict=True)]
    return {
        "subset_cells": pairs[0][0]["cells"],
        "cells_per_second": round(rates[0]),
        "loop_cells_per_second": round(rates[1]),
        "ratio": round(float(np.median([p[1]["seconds"] / p[0]["seconds"] for p in pairs])), 2),
        "peak_mib": round(max(pair[0]["peak_mib"] for pair in pairs)),
        "loop_peak_mib": round(max(pair[1]["peak_mib"] for pair in pairs)),
        "same_genes": float(np.mean(same)),
    }


def speed(done: dict[str, Any]) -> dict[str, int]:
    return {"cells_per_second": round(done["cells"] / done["seconds"]), "peak_mib": round(done["peak_mib"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--subset", type=int, default=4_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sortase-benchmark-") as name:
        folder = Path(name)
        genes = write_cells(folder / "all.h5ad", options.cells)
        write_cells(folder / "subset.h5ad", options.subset, seed=1)
        computed = alone(ours, str(folder / "all.h5ad"), str(folder / "computed"), {})
        given = {
            "vocabulary": str(folder / "computed" / "vocabulary.json"),
            "medians": str(folder / "computed" / "medians.json"),
        }
        ranked = alone(ours, str(folder / "all.h5ad"), str(folder / "given"), given)
        result: dict[str, Any] = {
            "cells": options.cells,
            "genes_per_cell": round(genes),
            "file_mib": round((folder / "all.h5ad").stat().st_size / 2**20),
            "medians_given": {
                "cells_per_second": round(options.cells / ranked["seconds"]),
                "peak_mib": round(ranked["peak_mib"]),
            },
            "medians_computed": {
                "cells_per_second": round(options.cells / computed["seconds"]),
                "peak_mib": round(computed["peak_mib"]),
            },
            "paired": compare(folder, str(folder / "subset.h5ad"), given, options.repeats),
        }
    print(json.dumps(result))
    paired = result["paired"]
    print(f"{'':34}{'cells/s':>10}{'peak MiB':>10}")
    for label, row in (
        (f"{options.cells:,} cells, medians given", result["medians_given"]),
        (f"{options.cells:,} cells, computed too", result["medians_computed"]),
        (f"{paired['subset_cells']:,} cells, medians given", paired),
        ("  cell by cell", {"cells_per_second": paired["loop_cells_per_second"], "peak_mib": paired["loop_peak_mib"]}),
    ):
        print(f"{label:34}{row['cells_per_second']:>10,}{row['peak_mib']:>10,}")
    print(f"ratio on the same cells, median of {options.repeats} pairs: {paired['ratio']}")


if __name__ == "__main__":
    main()
