"""How counts become ranked tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .base import Section


class TokenizeSpec(Section):
    """Counts of genes per cell, and how their names meet the vocabulary."""

    input: str = Field(description="AnnData (.h5ad) or a table of cells x genes (.csv, .tsv, .parquet; .gz); path or URL.")
    layer: str | None = Field(None, description="Matrix of an .h5ad: a layer's name, 'raw', or by default X.")
    values: Literal["counts", "log1p"] = Field(
        "counts", description="log1p: values are log(1 + x) and are turned back first."
    )
    gene_column: str | None = Field(None, description="Column of var with the genes' names; by default its index.")
    gene_names: str | None = Field(
        None, description="Table (.csv, .tsv) of two columns, id and name: lets symbols meet a vocabulary of ids."
    )
    vocabulary: str | None = Field(None, description="Token dictionary; by default built from the expressed genes.")
    medians: str | None = Field(
        None, description="Pickle or JSON of gene -> non-zero median; by default computed from the data."
    )
    max_length: int = Field(2048, ge=3, description="Tokens of a cell at most, the highest ranked.")
    special_tokens: bool = Field(False, description="Put <cls> before and <sep> after each cell's tokens.")
    columns: list[str] | None = Field(
        None, description="Metadata columns carried along: of obs (by default all) or of the table (by default none)."
    )
    target_sum: float = Field(10_000.0, gt=0, description="Counts that each cell is scaled to.")
