"""Counts of Cell Ranger's .h5 files: by cells already, so that they are read where they lie.

Version 3 has one group ``matrix`` with features of several types; version 2 one group for each genome. The layouts are
described in 10x Genomics' documentation, "Feature-barcode matrices in HDF5".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import InputError
from .anndata_file import compressed, gene_names, text_columns
from .counts import Asked, Counts, choose_columns
from .hdf5_frame import Frame, metadata_of
from .hdf5_guard import Guard

EXPRESSION = "Gene Expression"
_NAMES = {"name", "gene_names"}
_ARRAYS = {"barcodes", "data", "indices", "indptr", "shape"}


def genomes(file: Any) -> list[str]:
    """Groups of the file that are matrices of Cell Ranger; none in AnnData."""
    groups = [name for name in file if hasattr(file[name], "keys") and name not in ("X", "obs", "var")]
    return sorted(name for name in groups if set(file[name]) >= _ARRAYS and {"features", "genes"} & set(file[name]))


def read_10x(file: Any, guard: Guard, asked: Asked) -> Counts:
    """``tokenize.layer`` names a genome where there are several."""
    found: list[str] = []
    names = genomes(file)
    version = 3 if names == ["matrix"] and "features" in file["matrix"] else 2
    path = "matrix" if version == 3 else _genome(names, asked)
    group, of_genes = file[path], f"{path}/features" if version == 3 else path
    genes = Frame(file, of_genes, guard, found, index="id" if version == 3 else "genes")
    named = sorted(_NAMES & set(genes.columns))
    shape = guard.read(group["shape"]).tolist()
    barcodes = group["barcodes"]
    if len(shape) != 2 or shape != [genes.rows, len(guard.check(barcodes))]:
        raise InputError(
            f"{guard.name} is broken: {path} is of {shape} genes and cells, and names {genes.rows} and {len(barcodes)}"
        )
    rows = (int(shape[1]), int(shape[0]))
    kept = _kept(genes, asked, found) if version == 3 else None
    indptr, columns, values = compressed(group, guard, rows, True, asked)
    carried, notes = choose_columns(asked, [], [])

    metadata = metadata_of(Frame(file, path, guard, found, index="barcodes"), carried, asked)
    gene_of = None if kept is None or kept.all() else np.where(kept, np.cumsum(kept) - 1, -1).astype(np.int32)
    return Counts(
        name=asked.name if version == 3 else f"{asked.name} ({path})",
        genes=_only(gene_names(genes, asked), kept),
        indptr=indptr,
        columns=columns,
        values=values,
        schema=metadata(0, 0).schema,
        metadata=metadata,
        other_names=lambda: {name: _only(texts, kept) for name, texts in text_columns(genes, asked, named).items()},
        gene_of=gene_of,
        notes=found + notes,
    )


def _only(names: list[str], kept: np.ndarray | None) -> list[str]:
    return names if kept is None else [name for name, keep in zip(names, kept, strict=True) if keep]


def _genome(names: list[str], asked: Asked) -> str:
    layer = asked.spec.layer
    if layer in names or (layer is None and len(names) == 1):
        return layer or names[0]
    what = "several genomes" if layer is None else f"no genome '{layer}'"
    raise InputError(f"{asked.name} has {what}; set tokenize.layer to one of {names}")


def _kept(features: Frame, asked: Asked, notes: list[str]) -> np.ndarray:
    """Which features are genes, of the genome that is asked for. Others (antibodies, guides, peaks) are no counts of
    genes, and are no part of a cell's sum."""
    kinds, genome = features.read("feature_type"), features.read("genome")
    kept = np.ones(features.rows, bool)
    if kinds is not None:
        kept, note = of_expression(kinds.to_pylist(), asked.name)
        notes += note
    layer = asked.spec.layer
    if layer is not None:
        of = np.array([] if genome is None else genome.to_pylist(), object)
        present = sorted(set(of[kept].tolist())) if len(of) else []
        if layer not in present:
            raise InputError(f"{asked.name} has no genome '{layer}'; set tokenize.layer to one of {present}")
        kept &= of == layer
    return kept


def of_expression(kinds: list[str], name: str) -> tuple[np.ndarray, list[str]]:
    """Which features are genes, by their types, and a note about the others."""
    kept = np.array([kind == EXPRESSION for kind in kinds], bool)
    if not kept.any():
        raise InputError(f"{name} has no feature of the type {EXPRESSION!r}, only {sorted(set(kinds))[:5]}")
    others = sorted({kind for kind in kinds if kind != EXPRESSION})
    return kept, [f"{int((~kept).sum()):,} features that are not genes are left out: {others[:5]}"] if others else []
