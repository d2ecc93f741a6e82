"""Tables of counts, read a chunk of cells at a time: AnnData files and tables of cells x genes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from .. import storage
from ..errors import InputError, MissingExtraError
from .ranking import CHUNK


class Counts(Protocol):
    """``genes`` names the columns. ``chunks`` yields CSR of cells x genes with the cells' metadata and names."""

    name: str
    genes: list[str]
    cells: int | None

    def chunks(self) -> Iterator[tuple[Any, pa.Table, Sequence[str]]]: ...


def open_counts(url: str, layer: str | None, gene_column: str | None, columns: list[str] | None) -> Counts:
    """Open an .h5ad file or a table by its ending; a remote file is copied to this node's cache first."""
    path = storage.fetch(url)
    name = url.lower()
    if name.endswith(".h5ad"):
        return AnnDataCounts(url, path, layer, gene_column, columns)
    from .count_tables import ParquetCounts, TextCounts

    if layer is not None or gene_column is not None:
        raise InputError(f"tokenize.layer and gene_column belong to .h5ad files; {url} is a table")
    if name.endswith(".parquet"):
        return ParquetCounts(url, path, columns or [])
    if name.removesuffix(".gz").endswith((".csv", ".tsv", ".txt")):
        return TextCounts(url, path, columns or [], "," if ".csv" in name else "\t")
    raise InputError(f"{url} is of no kind that can be tokenised; known: .h5ad, .csv, .tsv, .txt (also .gz), .parquet")


@contextmanager
def _anndata() -> Iterator[Any]:
    try:
        import anndata
    except ImportError as error:
        raise MissingExtraError("reading .h5ad files needs: pip install 'sortase[anndata]'") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # about where older files keep parts that are not read here
        yield anndata


class AnnDataCounts:
    """An .h5ad file, its matrix read from disk in slices of cells."""

    def __init__(self, url: str, path: Path, layer: str | None, gene_column: str | None, columns: list[str] | None):
        self.name = url
        self._path = path
        with _anndata() as anndata:
            try:
                opened = anndata.read_h5ad(path, backed="r")
            except (OSError, KeyError, ValueError) as error:
                raise InputError(f"{url} cannot be read as AnnData: {error}") from error
            try:
                if layer == "raw" and opened.raw is None:
                    raise InputError(f"{url} has no 'raw'; layers: {sorted(opened.layers)}")
                if layer not in (None, "raw") and layer not in opened.layers:
                    raise InputError(f"{url} has no layer {layer!r}; there are {sorted(opened.layers)} and 'raw'")
                var = opened.raw.var if layer == "raw" else opened.var
                self.genes = _names(var, gene_column, url)
                self._metadata = _metadata(opened.obs, columns, url)
                self._cell_names = opened.obs_names.astype(str).to_numpy()
            finally:
                opened.file.close()
        self.cells = len(self._cell_names)
        self._place = {"raw": "raw/X", None: "X"}.get(layer, f"layers/{layer}")

    def chunks(self) -> Iterator[tuple[Any, pa.Table, Sequence[str]]]:
        import h5py

        with h5py.File(self._path, "r") as file:
            place = self._place if self._place in file else self._place.replace("/", ".")
            matrix = _matrix(file[place])
            for start in range(0, self.cells, CHUNK):
                stop = min(start + CHUNK, self.cells)
                yield (
                    _rows(matrix, start, stop),
                    self._metadata.slice(start, stop - start),
                    self._cell_names[start:stop],
                )


def _matrix(item: Any) -> Any:
    """Something that slices by rows. Columns-first storage cannot, and is read whole."""
    with _anndata():
        from anndata.io import sparse_dataset

        if not hasattr(item, "keys"):
            return item
        stored = sparse_dataset(item)
        return stored.to_memory().tocsr() if stored.format == "csc" else stored


def _rows(matrix: Any, start: int, stop: int) -> Any:
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix[start:stop])


def _names(var: Any, column: str | None, url: str) -> list[str]:
    if column is None:
        return [str(name) for name in var.index]
    if column not in var.columns:
        raise InputError(f"{url} has no var column {column!r}; there are {sorted(var.columns)}")
    return [str(name) for name in var[column]]


def _metadata(obs: Any, columns: list[str] | None, url: str) -> pa.Table:
    """Columns of obs as Arrow; categories as text."""
    wanted = list(obs.columns) if columns is None else columns
    for name in wanted:
        if name not in obs.columns:
            raise InputError(f"{url} has no obs column {name!r}; there are {sorted(obs.columns)}")
    chosen = obs[wanted].copy()
    for name in wanted:
        if chosen[name].dtype == "category" or chosen[name].dtype == object:
            chosen[name] = chosen[name].astype(object).map(str, na_action="ignore")
    return pa.Table.from_pandas(chosen, preserve_index=False).replace_schema_metadata(None)


def check_values(chunk: Any, start: int, genes: list[str], cells: Sequence[str], name: str) -> bool:
    """Refuse what is no count, naming cell and gene; returns whether all values are whole numbers."""
    values = chunk.data
    wrong = ~np.isfinite(values) | (values < 0)
    if wrong.any():
        place = int(np.argmax(wrong))
        row = int(np.searchsorted(chunk.indptr, place, side="right")) - 1
        raise InputError(
            f"{name} has {values[place]} for gene {genes[chunk.indices[place]]!r} of cell {cells[row]!r} "
            f"(row {start + row}); counts are finite and not negative"
        )
    return bool((values == np.rint(values)).all())
