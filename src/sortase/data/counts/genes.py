"""From the genes that a matrix names to the tokens of a vocabulary: version suffixes, symbols, duplicates."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ... import storage
from ...errors import InputError
from ...storage import pickles
from ..vocabulary import SPECIAL

_VERSION = re.compile(r"^(ENS[A-Z]*\d{11})\.\d+$")


def stripped(gene: str) -> str:
    """An Ensembl identifier without its version; any other name as it is."""
    return _VERSION.sub(r"\1", gene.strip())


def read_names(url: str) -> dict[str, list[str]]:
    """Symbol -> identifiers, in the order of the file.

    A table of two columns, identifier and symbol (csv; tsv; also .gz), or a pickle or JSON of symbol -> identifier.
    """
    if url.endswith((".pkl", ".pickle", ".json")):
        content = storage.read_json(url, any_encoding=True) if url.endswith(".json") else pickles.load(url)
        if not isinstance(content, dict) or not all(isinstance(value, str) for value in content.values()):
            raise InputError(f"{url} does not map gene names to identifiers")
        pairs: Iterable[tuple[str, str]] = ((gene, str(name)) for name, gene in content.items())
    else:
        pairs = _table(url)
    names: dict[str, list[str]] = {}
    for gene, name in pairs:
        known = names.setdefault(name.strip(), [])
        if stripped(gene) not in known:
            known.append(stripped(gene))
    return names


def _table(url: str) -> Iterable[tuple[str, str]]:
    separator = "\t" if ".tsv" in url or ".txt" in url else ","
    for number, row in enumerate(csv.reader(storage.text(url), delimiter=separator)):
        if len(row) < 2:
            raise InputError(f"{url}: line {number + 1} is {row}; expected two columns, gene id and gene name")
        yield row[0], row[1]


@dataclass(frozen=True)
class GeneColumns:
    """Which gene each column of a matrix is.

    ``tokens`` are the known genes, in the order of their token ids; ``slot`` int32[columns] is a column's place in
    ``tokens``, -1 for an unknown gene. Columns of one gene share its slot and are summed.
    """

    names: list[str]
    tokens: list[str]
    slot: np.ndarray

    @property
    def duplicates(self) -> int:
        """Columns that are added to another one of the same gene."""
        return int((self.slot >= 0).sum()) - len(self.tokens)

    @property
    def share(self) -> float:
        """The share of columns whose gene is known."""
        return float((self.slot >= 0).mean()) if len(self.slot) else 0.0

    def unknown(self) -> list[str]:
        return [name for name, slot in zip(self.names, self.slot, strict=True) if slot < 0]

    def only(self, kept: np.ndarray) -> GeneColumns:
        """The same columns with the genes where ``kept`` (bool per token) is false unknown."""
        moved = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)
        return GeneColumns(self.names, [t for t, keep in zip(self.tokens, kept, strict=True) if keep], moved[self.slot])


def map_genes(
    columns: Sequence[str], names: dict[str, list[str]] | None, vocabulary: dict[str, int] | None
) -> GeneColumns:
    """Find the gene of each column.

    A column is looked up by its own name, then without its version, then by the identifiers that ``names`` gives for
    it, of which the first that the vocabulary has is taken. Without a vocabulary every gene is known, by the first
    identifier that ``names`` gives for it or else by its own name.
    """
    find = _any(names or {}) if vocabulary is None else _in(vocabulary, names or {})
    found = [find(column) for column in columns]
    tokens = sorted({token for token in found if token}, key=vocabulary.__getitem__ if vocabulary else None)
    slots = {token: slot for slot, token in enumerate(tokens)}
    return GeneColumns(list(columns), tokens, np.array([slots.get(token or "", -1) for token in found], np.int32))


def _any(names: dict[str, list[str]]) -> Callable[[str], str | None]:
    identifiers = {gene for several in names.values() for gene in several}

    def find(column: str) -> str | None:
        gene = stripped(column)
        return gene if gene in identifiers else next(iter(_translations(column, names)), gene)

    return find


def _in(vocabulary: dict[str, int], names: dict[str, list[str]]) -> Callable[[str], str | None]:
    genes = [token for token in vocabulary if token not in SPECIAL]
    # Of several versions of one gene in the vocabulary the first one counts.
    known = {stripped(gene): gene for gene in reversed(genes)} | {gene: gene for gene in genes}

    def find(column: str) -> str | None:
        ways = (column, stripped(column), *_translations(column, names))
        return next((known[way] for way in ways if way in known), None)

    return find


def _translations(column: str, names: dict[str, list[str]]) -> list[str]:
    return names.get(column.strip()) or names.get(stripped(column), [])
