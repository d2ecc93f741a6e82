"""From counts of genes per cell to ranked tokens."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from .base import Section


class TokenizeSpec(Section):
    """Counts of genes per cell, and how they become ranked tokens."""

    input: str | list[str] = Field(
        description="AnnData (.h5ad, .zarr), Cell Ranger's .h5 or the folder of its matrix.mtx.gz, .loom, or a table "
        "of counts, cells x genes (.csv, .tsv, also .gz, or .parquet). Several of them: a list, a folder, or a pattern "
        "such as counts/*.h5ad."
    )
    file_column: str | None = Field(
        None,
        min_length=1,
        description="Column that says which file a row is from; by default 'file' where several are read, else none.",
    )
    layer: str | None = Field(
        None,
        description="A layer's name, by default X; AnnData: also 'raw' for raw.X with its own genes; Cell Ranger: a "
        "genome.",
    )
    values: Literal["counts", "log1p"] = Field(
        "counts", description="log1p: the values are log(1 + normalised counts) and are turned back first."
    )
    log_base: float | None = Field(
        None, gt=1, allow_inf_nan=False, description="Base of the logarithm; by default what uns/log1p says, else e."
    )
    gene_column: str | None = Field(
        None,
        description="Column of var, of features or of row attributes that holds the genes' names; by default var's "
        "index, or identifiers.",
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
    min_known: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the genes of the data that vocabulary (and medians) must know; fewer are refused.",
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

    @field_validator("input")
    @classmethod
    def _named(cls, given: str | list[str]) -> str | list[str]:
        if "" in ([given] if isinstance(given, str) else given or [""]):
            raise ValueError("it names no file")
        return given

    @field_validator("columns")
    @classmethod
    def _once(cls, columns: list[str] | None) -> list[str] | None:
        repeated = sorted({name for name in columns or [] if (columns or []).count(name) > 1})
        if repeated:
            raise ValueError(f"columns are named more than once: {repeated}")
        return columns

    @model_validator(mode="after")
    def _logarithm(self) -> Self:
        if self.log_base is not None and self.values != "log1p":
            raise ValueError(f"log_base {self.log_base:g} belongs to values: log1p; values is {self.values}")
        return self

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.special_tokens and self.max_length < 3:
            raise ValueError(f"max_length {self.max_length} leaves no room beside <cls> and <sep>; give at least 3")
        return self
