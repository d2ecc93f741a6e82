"""Labels: the class of each row, and the class of each token, without Python code for a row or a token."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .. import pickles, storage
from ..errors import InputError, InputTypeError
from .sequences import IGNORED

_VERSIONED = re.compile(r"(ENS[A-Z]*G\d+)\.\d+")


def row_classes(column: pa.Array, class_names: Sequence[str] | None = None) -> tuple[list[str | None], np.ndarray]:
    """Names of the classes in a column, and for each row the place of its name (int64); a missing label is ``None``.

    Text, integers (decimal text), booleans and ClassLabels (``class_names``) can be labels. Missing are null, NaN,
    text without a visible character, and -1 of a ClassLabel.
    """
    encoded = pc.dictionary_encode(column)
    names = [_name(value, class_names) for value in encoded.dictionary.to_pylist()]
    unique = list(dict.fromkeys([*names, None]))
    place = {name: i for i, name in enumerate(unique)}
    table = np.array([*(place[name] for name in names), place[None]], dtype=np.int64)
    return unique, table[pc.fill_null(encoded.indices.cast(pa.int64()), len(names)).to_numpy(zero_copy_only=False)]


def _name(value: Any, class_names: Sequence[str] | None) -> str | None:
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    if class_names is not None:
        return class_names[value] if 0 <= value < len(class_names) else None
    if isinstance(value, float):
        if not value.is_integer():
            raise InputError(f"a label is {value!r}; labels are text, integers or booleans, not measurements")
        return str(int(value))
    return str(value)


def check_label_column(field: pa.Field) -> None:
    kind = field.type
    simple = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_boolean)
    if not any(fits(kind) for fits in simple) and not pa.types.is_floating(kind) and not pa.types.is_null(kind):
        raise InputTypeError(f"column '{field.name}' holds {kind}; labels are text, integers or booleans")


def check_tokens_column(field: pa.Field) -> None:
    kind = field.type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or not pa.types.is_integer(kind.value_type):
        raise InputTypeError(f"column 'input_ids' holds {kind}; expected lists of integer token ids")


def check_tokens(tokens: pa.Array, start: int) -> None:
    """Refuse missing lists and missing token ids in rows from ``start`` on."""
    if tokens.null_count:
        row = start + int(np.argmax(tokens.is_null().to_numpy(zero_copy_only=False)))
        raise InputError(f"row {row} has no 'input_ids' (null); drop such rows before preparing")
    if tokens.values.null_count and tokens.flatten().null_count:
        place = int(np.argmax(tokens.flatten().is_null().to_numpy(zero_copy_only=False)))
        row = start + int(np.searchsorted(np.cumsum(pc.list_value_length(tokens).to_numpy()), place, side="right"))
        raise InputError(f"row {row} has a missing token id (null) in 'input_ids'")


def lengths_of(tokens: pa.Array) -> np.ndarray:
    return np.diff(tokens.offsets.to_numpy()).astype(np.int64)


def flat_tokens(tokens: pa.Array) -> np.ndarray:
    """Token ids of all rows one after the other, without a copy."""
    offsets = tokens.offsets
    start, stop = offsets[0].as_py(), offsets[len(tokens)].as_py()
    return tokens.values.slice(start, stop - start).to_numpy()


@dataclass(frozen=True)
class GeneClasses:
    """``table[token id]`` is the class id or `IGNORED`. ``given`` counts each class's genes, ``known`` those in the
    vocabulary; ``missing`` are the others."""

    names: tuple[str, ...]
    table: np.ndarray
    given: dict[str, int]
    known: dict[str, int]
    missing: tuple[str, ...]

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


def read_gene_classes(source: Mapping[str, Sequence[str]] | str) -> dict[str, list[str]]:
    """Class name to genes, from a mapping, a JSON or pickle file, or a CSV file with a column a class."""
    content: Any = source
    if isinstance(source, str):
        if source.endswith((".csv", ".tsv")):
            rows = csv.DictReader(storage.text(source), delimiter="\t" if source.endswith(".tsv") else ",")
            table = list(rows)
            content = {name: [row[name] for row in table if row[name]] for name in rows.fieldnames or []}
        else:
            content = storage.read_json(source) if source.endswith(".json") else pickles.load(source)
    lists = content.values() if isinstance(content, Mapping) else [None]
    if any(isinstance(genes, str) or not isinstance(genes, Iterable) for genes in lists):
        raise InputTypeError(f"gene classes must map each class name to a list of genes, got {content!r:.100}")
    return {str(name): list(genes) for name, genes in content.items()}


def gene_classes(
    classes: Mapping[str, Sequence[str]], vocabulary: Mapping[str, int], class_map: Mapping[str, int]
) -> GeneClasses:
    """Look the genes up in the vocabulary (with Ensembl version suffixes stripped when the exact name is unknown).

    Raises InputError for a gene in two classes, and for a class none of whose genes is known.
    """
    stripped = _stripped(vocabulary)
    table = np.full(1 + max(vocabulary.values(), default=0), IGNORED, dtype=np.int32)
    owner: dict[int | str, str] = {}
    given, known, missing = {}, {}, []
    for name in class_map:
        genes = {_unversioned(str(gene)): str(gene) for gene in classes[name]}
        found = {key: vocabulary.get(gene, stripped.get(key)) for key, gene in genes.items()}
        for key, token in found.items():
            other = owner.setdefault(key if token is None else token, name)
            if other != name:
                raise InputError(f"gene {genes[key]!r} is in two classes, '{other}' and '{name}'; keep it in one")
        missing += [genes[key] for key, token in found.items() if token is None]
        tokens = [token for token in found.values() if token is not None]
        if not tokens:
            raise InputError(_unknown_words(name, list(genes.values()), vocabulary))
        table[tokens] = class_map[name]
        given[name], known[name] = len(genes), len(tokens)
    return GeneClasses(tuple(class_map), table, given, known, tuple(sorted(missing)))


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


def _unknown_words(name: str, genes: Sequence[str], vocabulary: Mapping[str, int]) -> str:
    if not genes:
        return f"class '{name}' has no gene; give it some or leave the class out"
    near = get_close_matches(genes[0], list(vocabulary), n=1)
    example = near[0] if near else next(iter(vocabulary), "nothing")
    return (
        f"none of the {len(genes)} genes of class '{name}' is in the vocabulary: {', '.join(genes[:5])}; it has names "
        f"such as {example!r}"
    )
