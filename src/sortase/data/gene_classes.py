"""Classes of tokens by name: which class each token id has, and what became of the genes that users give."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

from .. import storage
from ..config.gene_lists import Overlap, gene_lists
from ..errors import InputError, InputTypeError
from ..storage import pickles
from ..text import stripped
from .sequences import IGNORED

_VERSIONED = re.compile(r"(ENS[A-Z]*G\d+)\.\d+")
_SHOWN = 5


@dataclass(frozen=True)
class GeneClasses:
    """``table[token id]`` is the class id or `IGNORED`.

    By class: ``given`` counts the genes, ``known`` those in the vocabulary, ``missing`` names the others. ``shared``
    are the genes that are in several classes, and in which; ``overlap`` says what became of them.
    """

    names: tuple[str, ...]
    table: np.ndarray
    given: dict[str, int]
    known: dict[str, int]
    missing: dict[str, tuple[str, ...]]
    shared: dict[str, tuple[str, ...]] = field(default_factory=dict)
    overlap: Overlap = "error"

    def labels(self, tokens: np.ndarray) -> np.ndarray:
        """Class id (int32) of each token id; ids beyond the table have none."""
        if len(tokens) == 0:
            return np.empty(0, dtype=self.table.dtype)
        lowest, highest = int(tokens.min()), int(tokens.max())
        if lowest < 0:
            raise InputError(f"'input_ids' holds the negative token id {lowest}")
        table = self.table
        if highest >= len(table):
            table = np.append(table, np.full(highest + 1 - len(table), IGNORED, dtype=table.dtype))
        return table.take(tokens)

    @property
    def skipped(self) -> list[str]:
        """Genes of any class that are not in the vocabulary, in sorted order."""
        return sorted({gene for genes in self.missing.values() for gene in genes})

    def remarks(self) -> list[str]:
        """What a person should know of the genes, in sentences."""
        said = []
        if skipped := self.skipped:
            lacking = sorted((name for name in self.names if self.missing[name]), key=lambda n: -len(self.missing[n]))
            parts = [
                f"class '{name}' {len(self.missing[name])} of {self.given[name]} ({_some(self.missing[name])})"
                for name in lacking[:_SHOWN]
            ]
            more = f"; and {len(lacking) - _SHOWN} more classes" if len(lacking) > _SHOWN else ""
            are = "genes are" if len(skipped) > 1 else "gene is"
            said.append(f"{len(skipped)} {are} not in the vocabulary and skipped: {'; '.join(parts)}{more}")
        if self.shared:
            became = {"drop": "have no label", "first": "have their first class", "last": "have their last class"}
            said.append(
                f"{len(self.shared)} genes are in several classes and {became[self.overlap]}: {_shared(self.shared)}"
            )
        return said


def read_gene_classes(source: Mapping[str, Iterable[str]] | str) -> dict[str, list[str]]:
    """Class name to genes, from a mapping, a JSON or pickle file, or a CSV file with a column a class."""
    content: Any = source
    if isinstance(source, str):
        if source.endswith((".csv", ".tsv")):
            rows = csv.DictReader(storage.text(source), delimiter="\t" if source.endswith(".tsv") else ",")
            rows.fieldnames = stripped(rows.fieldnames or [], source)
            if twice := next((name for name, n in Counter(rows.fieldnames).items() if n > 1 and name), None):
                raise InputTypeError(f"{source} has two classes of the name {twice!r}")
            table = list(rows)
            content = {name: [row[name] for row in table] for name in rows.fieldnames}
        else:
            content = storage.read_json(source, any_encoding=True) if source.endswith(".json") else pickles.load(source)
    try:
        return gene_lists(content, source) if isinstance(source, str) else gene_lists(content)
    except ValueError as error:
        raise InputTypeError(str(error)) from error


def gene_classes(
    classes: Mapping[str, Iterable[str]],
    vocabulary: Mapping[str, int],
    class_map: Mapping[str, int],
    overlap: Overlap = "error",
) -> GeneClasses:
    """Look the genes up in the vocabulary (with Ensembl version suffixes stripped when the exact name is unknown).

    ``overlap``: what becomes of a gene in several classes; their order is that of ``classes``.

    Raises InputError for a gene in several classes unless ``overlap`` says otherwise, and for a class without any gene
    that is known, and its own.
    """
    stripped = _stripped(vocabulary)
    given, known, missing = {}, {}, {}
    owners: dict[int, list[str]] = {}
    called: dict[int, str] = {}
    for name in classes:
        genes = {_unversioned(str(gene)): str(gene) for gene in classes[name]}
        tokens = {gene: vocabulary.get(gene, stripped.get(key)) for key, gene in genes.items()}
        for gene, token in tokens.items():
            if token is not None and name not in owners.setdefault(token, []):
                owners[token].append(name)
                called.setdefault(token, gene)
        missing[name] = tuple(sorted(gene for gene, token in tokens.items() if token is None))
        given[name], known[name] = len(genes), len(genes) - len(missing[name])
        if not known[name]:
            raise InputError(_unknown_words(name, list(genes.values()), vocabulary))
    shared = {called[token]: tuple(names) for token, names in sorted(owners.items()) if len(names) > 1}
    if shared and overlap == "error":
        raise InputError(_overlapping(shared))
    table = np.full(1 + max(vocabulary.values(), default=0), IGNORED, dtype=np.int32)
    for token, names in owners.items():
        if len(names) == 1 or overlap != "drop":
            table[token] = class_map[names[-1 if overlap == "last" else 0]]
    for name, number in class_map.items():
        if not (table == number).any():
            raise InputError(
                f"all {known[name]} known genes of class '{name}' are in other classes as well, and overlap "
                f"{overlap!r} leaves it none; leave the class out, or choose another overlap"
            )
    by_id = tuple(sorted(class_map, key=class_map.__getitem__))
    return GeneClasses(by_id, table, given, known, missing, shared, overlap)


def _overlapping(shared: Mapping[str, tuple[str, ...]]) -> str:
    are = "genes are" if len(shared) > 1 else "gene is"
    return (
        f"{len(shared)} {are} in several classes: {_shared(shared)}. Log with overlap (labels.overlap in run.yaml) "
        "what becomes of such genes: 'drop' (no label), 'first' or 'last' (the class that is written first, or last); "
        "or keep each gene in one class. Several labels for one token ('multilabel') are not there yet"
    )


def _shared(shared: Mapping[str, tuple[str, ...]]) -> str:
    """Those in most classes first."""
    genes = sorted(shared, key=lambda gene: (-len(shared[gene]), gene))
    shown = ", ".join(f"{gene!r} ({', '.join(map(repr, shared[gene]))})" for gene in genes[:_SHOWN])
    return shown + (f" and {len(genes) - _SHOWN} more" if len(genes) > _SHOWN else "")


def _some(genes: tuple[str, ...]) -> str:
    return ", ".join(genes[:_SHOWN]) + (", ..." if len(genes) > _SHOWN else "")


def _unversioned(gene: str) -> str:
    match = _VERSIONED.fullmatch(gene)
    return match[1] if match else gene


def _stripped(vocabulary: Mapping[str, int]) -> dict[str, int]:
    """The vocabulary without version suffixes; names that then mean two tokens are left out."""
    found: dict[str, int] = {}
    twice: set[str] = set()
    for name, token in vocabulary.items():
        key = _unversioned(name)
        if found.setdefault(key, token) != token:
            twice.add(key)
    return {key: token for key, token in found.items() if key not in twice}


def _unknown_words(name: str, genes: list[str], vocabulary: Mapping[str, int]) -> str:
    if not genes:
        return f"class '{name}' has no gene; give it some or leave the class out"
    near = get_close_matches(genes[0], list(vocabulary), n=1)
    plain = (name for name in vocabulary if not name.startswith("<"))
    example = near[0] if near else next(plain, next(iter(vocabulary), "nothing"))
    return (
        f"none of the {len(genes)} genes of class '{name}' is in the vocabulary: {', '.join(genes[:_SHOWN])}; it has "
        f"names such as {example!r}"
    )
