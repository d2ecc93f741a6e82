"""Counts to tokenize, in files of every kind, and the tokens they must become, worked out cell by cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
from scipy import sparse

from sortase.config.tokenize import TokenizeSpec
from sortase.data import vocabulary
from sortase.prepare.tokenize import Tokenized, tokenize

CELLS, GENES = 57, 30


def gene(number: int) -> str:
    return f"ENSG{number:011d}"


def matrix(cells: int = CELLS, genes: int = GENES, seed: int = 0, density: float = 0.4) -> np.ndarray:
    """Small whole counts, so that many values of a cell are equal; every cell has one."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(2, (cells, genes)) * (rng.random((cells, genes)) < density)
    counts[:, 0] += 1
    return counts.astype(np.float32)


def table(counts: np.ndarray | None = None, genes: list[str] | None = None, **columns: Any) -> pd.DataFrame:
    counts = matrix() if counts is None else counts
    names = genes or [gene(place) for place in range(counts.shape[1])]
    frame = pd.DataFrame(counts, [f"cell{row}" for row in range(len(counts))], names)
    for place, (name, values) in enumerate(columns.items()):
        frame.insert(place, name, values)
    return frame


def annotated(counts: np.ndarray | None = None, kind: str = "csr", genes: list[str] | None = None) -> anndata.AnnData:
    frame = table(counts, genes)
    layout = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.asarray}[kind]
    rows = np.arange(len(frame))
    obs = pd.DataFrame(
        {
            "type": pd.Categorical(np.where(rows % 3 == 0, "β cell", "T cell")),
            "donor": [f"d{row % 4}" for row in rows],
            "age": rows * 1.5,
            "batch": rows % 2,
            "healthy": rows % 5 == 0,
        },
        index=frame.index,
    )
    obs.loc[obs.index == "cell3", "type"] = None
    data = anndata.AnnData(layout(frame.to_numpy()), obs, pd.DataFrame(index=frame.columns))
    data.var["symbol"] = [f"G{place}" for place in range(data.n_vars)]
    return data


def saved(folder: Path, data: anndata.AnnData | pd.DataFrame, name: str = "cells.h5ad") -> str:
    path = folder / name
    if isinstance(data, anndata.AnnData):
        data.write_h5ad(path)
    elif name.endswith(".parquet"):
        data.to_parquet(path)
    else:
        data.to_csv(path, sep="," if ".csv" in name else "\t")
    return str(path)


def as_before_2019(path: str) -> str:
    """The same file as AnnData 0.6 wrote it: compound tables, categories in `uns`, `raw.X`, h5sparse attributes."""
    data = anndata.read_h5ad(path)
    csr = sparse.csr_matrix(data.X)
    old = str(Path(path).with_name("old.h5ad"))
    codes = data.obs["type"].cat.codes.to_numpy()
    kind = [("index", "S10"), ("type", "i1"), ("donor", "S4"), ("age", "f4")]
    obs = np.array(list(zip(data.obs_names, codes, data.obs["donor"], data.obs["age"], strict=True)), kind)
    var = np.array([(name,) for name in data.var_names], [("index", "S20")])
    with h5py.File(old, "w") as file:
        file["obs"], file["var"], file["raw.var"] = obs, var, var
        file["X"] = np.zeros(csr.shape, np.float32)
        names = [name.encode() for name in data.obs["type"].cat.categories]
        file["uns/type_categories"] = np.array(names)
        group = file.create_group("raw.X")
        group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", csr.shape
        for part in ("data", "indices", "indptr"):
            group[part] = getattr(csr, part)
    return old


def as_of_2020(path: str) -> str:
    """The same file as AnnData 0.7 wrote it: categories in a group `__categories` that the codes refer to."""
    old = str(Path(path).with_name("old7.h5ad"))
    Path(old).write_bytes(Path(path).read_bytes())
    with h5py.File(old, "r+") as file:
        obs = file["obs"]
        codes, categories = obs["type/codes"][:], obs["type/categories"][:]
        del obs["type"]
        obs["type"], obs["__categories/type"] = codes, categories
        obs["type"].attrs["categories"] = obs["__categories/type"].ref
    return old


def run(source: str, folder: Path | str, **settings: Any) -> Tokenized:
    return tokenize(TokenizeSpec(input=source, **settings), str(folder))


def rows_of(made: Tokenized) -> list[list[str]]:
    """Each row's tokens by name."""
    from datasets import load_from_disk

    names = {index: token for token, index in vocabulary.read(made.vocabulary_path).items()}
    return [[names[index] for index in row] for row in load_from_disk(made.dataset_path)["input_ids"]]


def medians_of(made: Tokenized) -> dict[str, float]:
    return dict(json.loads(Path(made.dataset_path).with_name("medians.json").read_text()))


def expected_medians(frame: pd.DataFrame, target_sum: float = 10_000.0) -> dict[str, float]:
    scaled = frame.div(frame.sum(axis=1), axis=0) * target_sum
    found = {name: values[values > 0].median() for name, values in scaled.items()}
    return {str(name): float(value) for name, value in found.items() if value > 0}


def expected_rows(frame: pd.DataFrame, medians: dict[str, float], limit: int = 2048) -> list[list[str]]:
    """One cell after the other: counts over medians, descending, equal ones by name."""
    rows = []
    for _, counts in frame.iterrows():
        values = {name: round(counts[name] / medians[name], 9) for name in medians if counts[name] > 0}
        rows.append(sorted(values, key=lambda name: (-values[name], name))[:limit])
    return rows
