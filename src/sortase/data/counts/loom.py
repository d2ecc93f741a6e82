"""Counts of .loom files: genes x cells, dense, with attributes of rows and columns (http://linnarssonlab.org/loompy)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import InputError
from .anndata_file import gene_names, text_columns
from .counts import Asked, Counts, choose_columns
from .hdf5_frame import Frame, metadata_of
from .hdf5_guard import Guard
from .spill import BLOCK_VALUES, RowSpill

# Names that loompy, velocyto, AnnData and the Human Cell Atlas give; identifiers before symbols.
GENES = ("Accession", "ensembl_ids", "gene_ids", "Gene", "gene_names", "var_names", "gene", "genes")
CELLS = ("CellID", "obs_names", "cell_names", "cell_id", "barcode", "Barcode")


def read_loom(file: Any, guard: Guard, asked: Asked) -> Counts:
    """The matrix, or a layer, in blocks of cells."""
    missing = [name for name in ("matrix", "row_attrs", "col_attrs") if name not in file]
    if missing:
        raise InputError(f"{asked.name} has no {' and no '.join(missing)}; it is not a loom file")
    notes: list[str] = []
    matrix = guard.check(file[_path(file, asked)])
    genes = Frame(file, "row_attrs", guard, notes, index=_named(file, "row_attrs", GENES, asked))
    cells = Frame(file, "col_attrs", guard, notes, index=_named(file, "col_attrs", CELLS, asked))
    if matrix.ndim != 2 or matrix.shape != (genes.rows, cells.rows):
        raise InputError(
            f"{guard.name} is broken: {matrix.name} is of {list(matrix.shape)} genes and cells, the attributes beside "
            f"it are of {genes.rows} and {cells.rows}"
        )
    automatic = [name for name in cells.columns if cells.read(name, 0, 0) is not None]
    carried, left = choose_columns(asked, cells.columns, automatic)
    names = gene_names(genes, asked)
    notes += [f"the genes are known by row attribute '{asked.spec.gene_column or genes.index_name}'", *left]
    indptr, columns, values = _by_cells(matrix, asked)

    metadata = metadata_of(cells, carried, asked)
    return Counts(
        name=asked.name if asked.spec.layer is None else f"{asked.name} ({asked.spec.layer})",
        genes=names,
        indptr=indptr,
        columns=columns,
        values=values,
        schema=metadata(0, 0).schema,
        metadata=metadata,
        other_names=lambda: text_columns(genes, asked),
        notes=notes,
    )


def _path(file: Any, asked: Asked) -> str:
    layer = asked.spec.layer
    layers = sorted(file["layers"]) if "layers" in file else []
    if layer is not None and layer not in layers:
        raise InputError(f"{asked.name} has no layer '{layer}'; set tokenize.layer to one of {layers}")
    return "matrix" if layer is None else f"layers/{layer}"


def _named(file: Any, path: str, known: tuple[str, ...], asked: Asked) -> str:
    found = next((name for name in known if name in file[path]), None)
    if found is None:
        raise InputError(f"{asked.name}: {path} has none of {list(known)}, only {sorted(file[path])[:10]}")
    return found


def _by_cells(matrix: Any, asked: Asked) -> tuple[np.ndarray, Any, Any]:
    """Blocks are of whole chunks where these are small, so that each is read once."""
    genes, cells = matrix.shape
    width = (matrix.chunks or (1, 1))[1]
    step = max(1, BLOCK_VALUES // max(1, genes))
    step = max(step - step % width, min(step, width))
    spill = RowSpill(asked.scratch, matrix.dtype)
    for start in range(0, min(cells, step if asked.head else cells), step):
        spill.append(matrix[:, start : start + step].T)
    return spill.arrays()
