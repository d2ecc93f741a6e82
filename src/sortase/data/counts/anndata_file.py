"""Counts of AnnData, in HDF5 or zarr, read through its arrays: nothing of it is ever in memory as a whole.

Rows of a sparse matrix are slices of its arrays: AnnData's `sparse_dataset` takes two to four times as long for them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ...config.tokenize import TokenizeSpec
from ...errors import InputError
from .counts import Asked, Counts, choose_columns, naming
from .hdf5_frame import Frame, metadata_of, open_frame
from .hdf5_guard import Guard
from .remote_path import RemotePath
from .spill import BLOCK_VALUES, RowSpill, transpose

_HEAD = 100_000  # cells whose places in a remote matrix are read


def read_anndata(file: Any, guard: Guard, asked: Asked) -> Counts:
    """X, a layer or raw.X, by rows, by columns or dense, in old and new layouts."""
    missing = [name for name in ("obs", "var") if name not in file]
    if missing:
        raise InputError(f"{asked.name} has no {' and no '.join(missing)}; it is not an AnnData file")
    found: list[str] = []
    matrix, var = _choose_matrix(file, guard, asked, found)
    genes_frame, obs = open_frame(file, var, guard, found), open_frame(file, "obs", guard, found)
    _check_shape(file[matrix], guard, (obs.rows, genes_frame.rows))
    genes = gene_names(genes_frame, asked)
    indptr, columns, values = _by_rows(file[matrix], guard, (obs.rows, genes_frame.rows), asked)
    automatic = [name for name in obs.columns if obs.read(name, 0, 0) is not None]
    carried, notes = choose_columns(asked, obs.columns, automatic)
    found += notes

    metadata = metadata_of(obs, carried, asked)
    return Counts(
        name=asked.name if matrix == "X" else f"{asked.name} ({matrix})",
        genes=genes,
        indptr=indptr,
        columns=columns,
        values=values,
        schema=metadata(0, 0).schema,
        metadata=metadata,
        other_names=lambda: text_columns(genes_frame, asked),
        log_base=_log_base(file, guard, asked.spec),
        has_raw=var == "var" and ("raw" in file or "raw.X" in file),
        notes=found,
    )


def _choose_matrix(file: Any, guard: Guard, asked: Asked, notes: list[str]) -> tuple[str, str]:
    """Paths of the matrix and of its table of genes."""
    layer = asked.spec.layer
    layers = sorted(dict(guard.children(file["layers"]))) if "layers" in file else []
    if layer is None and "X" in file and not _is_null(file["X"], guard):
        return "X", "var"
    counts = [name for name in layers if name == "counts"] or layers
    if layer is None and len(counts) == 1:
        notes.append(f"X is empty; the counts are taken from layer '{counts[0]}'")
        return f"layers/{counts[0]}", "var"
    if layer in layers:
        return f"layers/{layer}", "var"
    if layer == "raw":
        for matrix, var in (("raw/X", "raw/var"), ("raw.X", "raw.var")):
            if matrix in file and var in file:
                return matrix, var
    present = (["raw"] if "raw" in file or "raw.X" in file else []) + layers
    what = "X" if layer is None else f"layer '{layer}'"
    raise InputError(f"{asked.name} has no {what}; set tokenize.layer to one of {present}")


def _is_null(item: Any, guard: Guard) -> bool:
    """HDF5 has arrays of nothing for it; in zarr it is a value that only the encoding tells."""
    return getattr(item, "shape", ()) is None or guard.attribute(item, "encoding-type") == "null"


def _log_base(file: Any, guard: Guard, spec: TokenizeSpec) -> float | None:
    """What scanpy's log1p notes down: a base, or none for e (an empty one since AnnData 0.12, before no entry)."""
    if "uns/log1p" not in file:
        return None
    item = file["uns/log1p"].get("base") if hasattr(file["uns/log1p"], "get") else None
    if item is None or item.shape is None:
        return math.e
    value = guard.read(item)
    base = float(value[0]) if len(value) == 1 and value.dtype.kind in "iuf" else math.nan
    if not 1 < base < math.inf and spec.values == "log1p" and spec.log_base is None:
        raise InputError(f"{guard.name}: uns/log1p/base is {value.tolist()}; a base of logarithms is a number above 1")
    return base if 1 < base < math.inf else None


def gene_names(var: Frame, asked: Asked) -> list[str]:
    column = asked.spec.gene_column
    if column is None or column == var.index_name:
        return list(var.index().to_pylist())
    names = var.read(column) if column in var.columns else None
    if names is None:
        raise InputError(f"unknown gene_column '{column}'; var of {asked.name} has {sorted(var.columns)}")
    return [str(name) for name in names.to_pylist()]


def text_columns(var: Frame, asked: Asked, columns: Sequence[str] | None = None) -> dict[str, list[str]]:
    with naming(asked):
        read = {name: var.read(name) for name in (var.columns if columns is None else columns)}
    return {name: array.to_pylist() for name, array in read.items() if array is not None and array.type == pa.string()}


def _check_shape(matrix: Any, guard: Guard, expected: tuple[int, int]) -> None:
    """All shapes against one another, before anything of their size is made."""
    shape = matrix.shape if hasattr(matrix, "dtype") else guard.attribute(matrix, "shape", "h5sparse_shape")
    if shape is None or len(shape) != 2:
        raise InputError(f"{guard.name}: {matrix.name} is neither a dense nor a sparse (CSR, CSC) matrix")
    if tuple(map(int, shape)) != expected:
        raise InputError(
            f"{guard.name} is broken: {matrix.name} is of {shape[0]} cells and {shape[1]} genes, the tables beside it "
            f"are of {expected[0]} and {expected[1]}"
        )


def _by_rows(matrix: Any, guard: Guard, shape: tuple[int, int], asked: Asked) -> tuple[np.ndarray, Any, Any]:
    """indptr, columns and values in the order of the cells; ``head``: of the first ones, or of none."""
    if hasattr(matrix, "dtype"):
        return _from_dense(guard.check(matrix), asked)
    kind = str(guard.attribute(matrix, "encoding-type", "h5sparse_format")).removesuffix("_matrix")
    if kind not in ("csr", "csc") or not all(name in matrix for name in ("indptr", "indices", "data")):
        raise InputError(f"{guard.name}: {matrix.name} is neither a dense nor a sparse (CSR, CSC) matrix")
    return compressed(matrix, guard, shape, kind == "csr", asked)


def compressed(
    matrix: Any, guard: Guard, shape: tuple[int, int], by_rows: bool, asked: Asked
) -> tuple[np.ndarray, Any, Any]:
    """The same of a group of SciPy's three arrays. By columns, ``head`` takes a matrix whole if it is small."""
    parts = {name: guard.check(matrix[name]) for name in ("indptr", "indices", "data")}
    whole = all(parts[name].dtype.kind in "iu" for name in ("indptr", "indices"))
    lines = shape[0] if by_rows else shape[1]
    some = min(lines, _HEAD) if isinstance(asked.path, RemotePath) and by_rows else lines
    indptr = guard.read(parts["indptr"], 0, some + 1).astype(np.int64) if whole else np.zeros(0)
    last = guard.read(parts["indptr"], lines, lines + 1).tolist() if whole else []
    ends = [list(parts[name].shape) == last for name in ("indices", "data")]
    fits = len(indptr) == some + 1 and parts["indptr"].shape == (lines + 1,) and indptr[0] == 0 and all(ends)
    if not fits or (np.diff(indptr) < 0).any() or indptr[-1] > last[0]:
        raise InputError(f"{guard.name}: {matrix.name} is broken: its arrays do not fit together")
    if by_rows:
        return indptr, parts["indices"], parts["data"]
    if asked.head and indptr[-1] > BLOCK_VALUES:
        return np.zeros(1, np.int64), parts["indices"], parts["data"]
    csr = transpose(indptr, parts["indices"], parts["data"], shape[0], asked.scratch)
    return csr[0], csr[1], csr[2]


def _from_dense(matrix: Any, asked: Asked) -> tuple[np.ndarray, Any, Any]:
    spill = RowSpill(asked.scratch, matrix.dtype)
    rows = max(1, BLOCK_VALUES // max(1, matrix.shape[1]))
    for start in range(0, min(matrix.shape[0], rows if asked.head else matrix.shape[0]), rows):
        spill.append(matrix[start : start + rows])
    return spill.arrays()
