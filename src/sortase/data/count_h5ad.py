"""Counts of an AnnData file, read through its HDF5 arrays: nothing of it is ever in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ..config.tokenize import TokenizeSpec
from ..errors import InputError, MissingExtraError
from .count_spill import BLOCK_VALUES, RowSpill, transpose
from .counts import CELL, Counts, choose_columns
from .h5frame import Frame


@contextmanager
def open_h5ad(path: Path, spec: TokenizeSpec, scratch: Path) -> Iterator[Counts]:
    """X, a layer or raw.X, by rows, by columns or dense, in old and new layouts."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("reading .h5ad files needs h5py: pip install 'sortase[anndata]'") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{spec.input} is not a readable AnnData file: {error}") from error
    with file:
        yield _counts(file, spec, scratch)


def _counts(file: Any, spec: TokenizeSpec, scratch: Path) -> Counts:
    missing = [name for name in ("obs", "var") if name not in file]
    if missing:
        raise InputError(f"{spec.input} has no {' and no '.join(missing)}; it is not an AnnData file")
    matrix, var = _choose_matrix(file, spec)
    genes_frame, obs = Frame(file, var), Frame(file, "obs")
    genes = _gene_names(genes_frame, spec)
    indptr, columns, values = _by_rows(file[matrix], spec, scratch)
    if len(indptr) - 1 != obs.rows:
        raise InputError(f"{spec.input}: {matrix} has {len(indptr) - 1} cells, obs has {obs.rows}; the file is broken")
    automatic = [name for name in obs.columns if obs.read(name, 0, 0) is not None]
    carried, notes = choose_columns(spec, obs.columns, automatic)

    def metadata(start: int, stop: int) -> pa.RecordBatch:
        arrays = [obs.index(start, stop), *(obs.read(name, start, stop) for name in carried)]
        return pa.RecordBatch.from_arrays(arrays, [CELL, *carried])

    return Counts(
        name=spec.input if matrix == "X" else f"{spec.input} ({matrix})",
        genes=genes,
        indptr=indptr,
        columns=columns,
        values=values,
        schema=metadata(0, 0).schema,
        metadata=metadata,
        other_names=lambda: _text_columns(genes_frame),
        has_raw=var == "var" and ("raw" in file or "raw.X" in file),
        notes=notes,
    )


def _choose_matrix(file: Any, spec: TokenizeSpec) -> tuple[str, str]:
    """Paths of the matrix and of its table of genes."""
    layers = sorted(file["layers"]) if "layers" in file else []
    if spec.layer is None and "X" in file:
        return "X", "var"
    if spec.layer in layers:
        return f"layers/{spec.layer}", "var"
    if spec.layer == "raw":
        for matrix, var in (("raw/X", "raw/var"), ("raw.X", "raw.var")):
            if matrix in file and var in file:
                return matrix, var
    present = (["raw"] if "raw" in file or "raw.X" in file else []) + layers
    what = "X" if spec.layer is None else f"layer '{spec.layer}'"
    raise InputError(f"{spec.input} has no {what}; set tokenize.layer to one of {present}")


def _gene_names(var: Frame, spec: TokenizeSpec) -> list[str]:
    if spec.gene_column is None:
        return list(var.index().to_pylist())
    names = var.read(spec.gene_column) if spec.gene_column in var.columns else None
    if names is None:
        raise InputError(f"unknown gene_column '{spec.gene_column}'; var of {spec.input} has {sorted(var.columns)}")
    return [str(name) for name in names.to_pylist()]


def _text_columns(var: Frame) -> dict[str, list[str]]:
    read = {name: var.read(name) for name in var.columns}
    return {name: array.to_pylist() for name, array in read.items() if array is not None and array.type == pa.string()}


def _by_rows(matrix: Any, spec: TokenizeSpec, scratch: Path) -> tuple[np.ndarray, Any, Any]:
    """indptr, columns and values in the order of the cells."""
    if hasattr(matrix, "dtype"):
        return _from_dense(matrix, spec, scratch)
    kind = matrix.attrs.get("encoding-type", matrix.attrs.get("h5sparse_format", ""))
    kind = (kind.decode() if isinstance(kind, bytes) else str(kind)).removesuffix("_matrix")
    shape = matrix.attrs.get("shape", matrix.attrs.get("h5sparse_shape"))
    if kind not in ("csr", "csc") or shape is None or not {"indptr", "indices", "data"} <= set(matrix):
        raise InputError(f"{spec.input}: {matrix.name} is neither a dense nor a sparse (CSR, CSC) matrix")
    indptr = matrix["indptr"][:].astype(np.int64)
    lengths = {len(matrix["indices"]), len(matrix["data"])}
    if (np.diff(indptr) < 0).any() or indptr[0] != 0 or {int(indptr[-1])} != lengths:
        raise InputError(f"{spec.input}: {matrix.name} is broken: its arrays do not fit together")
    if kind == "csr":
        return indptr, matrix["indices"], matrix["data"]
    csr = transpose(indptr, matrix["indices"], matrix["data"], int(shape[0]), scratch)
    return csr[0], csr[1], csr[2]


def _from_dense(matrix: Any, spec: TokenizeSpec, scratch: Path) -> tuple[np.ndarray, Any, Any]:
    if matrix.ndim != 2:
        raise InputError(f"{spec.input}: {matrix.name} has {matrix.ndim} dimensions, a matrix has 2")
    spill = RowSpill(scratch, matrix.dtype)
    rows = max(1, BLOCK_VALUES // max(1, matrix.shape[1]))
    for start in range(0, matrix.shape[0], rows):
        spill.append(matrix[start : start + rows])
    return spill.arrays()
