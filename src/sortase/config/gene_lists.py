"""Classes of genes as users have them: lists, sets, arrays and columns of tables, by name of the class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args

Overlap = Literal["error", "drop", "first", "last"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
_COMING = "multilabel"


def check_overlap(value: Any) -> Overlap:
    """What becomes of a token that belongs to several classes. ValueError for anything else."""
    if value == _COMING:
        raise ValueError(
            f"overlap {_COMING!r} (several labels for one token) is not there yet; allowed now: {_quoted(OVERLAPS)}"
        )
    for known in OVERLAPS:
        if value == known:
            return known
    raise ValueError(f"overlap must be one of {_quoted(OVERLAPS)}, got {value!r}")


def gene_lists(classes: Any, called: str = "labels.gene_class_dict") -> dict[str, list[str]]:
    """Class name to its genes as text, each once and in sorted order, so that sets in any order are the same classes.

    Classes keep their order. Missing entries (None, NaN, blank), with which tables fill up short columns, are left
    out; whole numbers count as their digits. Raises ValueError for anything that is no mapping of names to genes.
    """
    if not isinstance(classes, Mapping):
        raise ValueError(f"{called} must map each class name to a list of genes, got {classes!r:.100}")
    found: dict[str, list[str]] = {}
    for key, genes in classes.items():
        name = str(key).strip()
        if key is None or not name:
            raise ValueError(f"{called} must have a name for each class, got {key!r}")
        if name in found:
            raise ValueError(f"{called} has two classes of the name {name!r}")
        if isinstance(genes, str | bytes | Mapping) or not isinstance(genes, Iterable):
            raise ValueError(f"{called}[{name!r}] must be a list of genes, got {genes!r:.100}")
        texts = (_text(gene, f"{called}[{name!r}]") for gene in genes)
        found[name] = sorted({text for text in texts if text is not None})
    return found


def _text(gene: Any, called: str) -> str | None:
    gene = gene.item() if hasattr(gene, "item") and not isinstance(gene, str) else gene
    if gene is None or (isinstance(gene, float) and gene != gene):
        return None
    if isinstance(gene, float) and gene.is_integer():
        gene = int(gene)
    if isinstance(gene, bool) or not isinstance(gene, str | int):
        raise ValueError(f"{called} must hold names of genes, got {gene!r:.100} in it")
    return str(gene).strip() or None


def _quoted(values: Iterable[str]) -> str:
    return ", ".join(map(repr, values))
