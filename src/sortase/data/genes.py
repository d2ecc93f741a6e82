"""From the genes of a matrix to tokens of a vocabulary: version suffixes, symbols, duplicates."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import storage
from ..errors import InputError

_VERSION = re.compile(r"^(ENS[A-Z]*\d{11})\.\d+$")


def stripped(gene: str) -> str:
    """An Ensembl identifier without its version; any other name as it is."""
    return _VERSION.sub(r"\1", gene)


def read_names(url: str) -> dict[str, str]:
    """Symbol -> identifier from a table of two columns, identifier and symbol; the first one of a symbol counts."""
    delimiter = "\t" if ".tsv" in url else ","
    names: dict[str, str] = {}
    for row in csv.reader(storage.text(url), delimiter=delimiter):
        if len(row) < 2:
            raise InputError(f"{url} has the row {row}; expected an identifier and a name in each")
        names.setdefault(row[1], stripped(row[0]))
    return names


@dataclass(frozen=True)
class GeneMap:
    """``token[g]``: vocabulary id of column g of the matrix, -1 for none. Columns of one gene share their token."""

    token: np.ndarray
    genes: list[str]

    @property
    def known(self) -> int:
        return int((self.token >= 0).sum())

    @property
    def summed(self) -> int:
        """Columns that were added to another one of the same gene."""
        known = self.token[self.token >= 0]
        return len(known) - len(np.unique(known))

    def summary(self) -> dict[str, Any]:
        unknown = [gene for gene, token in zip(self.genes, self.token, strict=True) if token < 0]
        return {
            "genes": len(self.genes),
            "known_genes": self.known,
            "unknown_examples": unknown[:10],
            "duplicates_summed": self.summed,
        }


def canonical(columns: Sequence[str], names: dict[str, str]) -> list[str]:
    """The identifier behind each column's name, where there is one."""
    plain = [stripped(column) for column in columns]
    return [names.get(gene, gene) for gene in plain]


def map_genes(columns: Sequence[str], names: dict[str, str], vocabulary: dict[str, int]) -> GeneMap:
    """Look columns up in the vocabulary, by their own name first, then by the identifier behind it."""
    known = {stripped(gene): token for gene, token in vocabulary.items()}
    tokens = [
        vocabulary.get(column, known.get(gene, -1))
        for column, gene in zip(columns, canonical(columns, names), strict=True)
    ]
    found = GeneMap(np.array(tokens, dtype=np.int64), list(columns))
    if not found.known:
        raise InputError(
            f"none of {len(columns)} genes is in the vocabulary: the data has {list(columns[:3])}, "
            f"the vocabulary {[g for g in vocabulary if not g.startswith('<')][:3]}; "
            "tokenize.gene_names can translate symbols to identifiers"
        )
    return found
