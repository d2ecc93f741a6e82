"""From counts of genes per cell to ranked tokens."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from .base import Section


class TokenizeSpec(Section):
    """Counts of genes per cell, and how they become ranked tokens."""

    input: str = Field(
        description="AnnData file (.h5ad) or table of counts, cells x genes (.csv, .tsv, also .gz, or .parquet)."
    )
    layer: str | None = Field(
        None, description="AnnData: a layer's name, or 'raw' for raw.X with its own genes; by default X."
    )
    values: Literal["counts", "log1p"] = Field(
        "counts", description="log1p: the values are log(1 + normalised counts) and are turned back first."
    )
    gene_column: str | None = Field(
        None, description="AnnData: column of var that holds the genes' names; by default var's index."
    )
    cell_column: str | None = Field(
        None, description="Table: column of cell ids; by default the first, when it holds text or has no name."
    )
    gene_names: str | None = Field(
        None, description="Table (csv, tsv; no header) of two columns, gene id and gene name: names become ids."
    )
    vocabulary: str | None = Field(
        None, description="Token dictionary (pickle or JSON); by default one is built from the genes of the data."
    )
    medians: str | None = Field(
        None,
        description="Gene to its median of the non-zero normalised counts (pickle or JSON); by default computed.",
    )
    max_length: int = Field(2048, ge=1, description="Tokens a cell is cut to, <cls> and <sep> included.")
    special_tokens: bool = Field(False, description="Begin each cell with <cls> and end it with <sep>.")
    columns: list[str] | None = Field(
        None, description="Metadata columns carried along; by default all of obs, or all text columns of a table."
    )
    target_sum: float = Field(10_000.0, gt=0, description="What a cell's counts are scaled to add up to.")
    chunk_cells: int = Field(
        4096, ge=1, description="Cells worked on at a time, at most; the result does not depend on it."
    )

    @field_validator("columns")
    @classmethod
    def _once(cls, columns: list[str] | None) -> list[str] | None:
        repeated = sorted({name for name in columns or [] if (columns or []).count(name) > 1})
        if repeated:
            raise ValueError(f"columns are named more than once: {repeated}")
        return columns

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.special_tokens and self.max_length < 3:
            raise ValueError(f"max_length {self.max_length} leaves no room beside <cls> and <sep>; give at least 3")
        return self
