"""Which genes of a matrix are ranked, by which token and median."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..config.tokenize import TokenizeSpec
from ..data import vocabulary
from ..data.counts.checks import Scale, checked
from ..data.counts.counts import Counts
from ..data.counts.genes import GeneColumns, map_genes, read_names
from ..data.counts.medians import Medians, given_medians
from ..data.counts.ranking import Ranking, expressed
from ..errors import InputError
from ..progress import Progress
from ..storage.scratch import Scratch

MEDIAN_CELLS = 65_536
# Names, in lower case, of the columns of var that tools and archives write identifiers of genes to.
IDENTIFIERS = (
    *("gene_ids", "gene_id", "geneid", "ensembl_id", "ensembl_ids", "ensemblid", "ensembl", "ensembl_gene_id", "ensg"),
    *("feature_id", "feature_ids", "featureid", "gene_stable_id"),
)


@dataclass(frozen=True)
class Genes:
    """``medians`` float64[genes of known], 0 where there is none; None where they are to be measured."""

    known: GeneColumns
    medians: np.ndarray | None
    vocabulary: dict[str, int] | None
    notes: list[str]


@dataclass(frozen=True)
class Plan:
    """``genes`` are those of ``known`` that have a median, in ``medians``; ``tokens`` is the vocabulary."""

    known: GeneColumns
    genes: GeneColumns
    medians: np.ndarray
    tokens: dict[str, int]
    notes: list[str]

    def ranking(self, limit: int, first: int | None, last: int | None) -> Ranking:
        ids = np.array([self.tokens[gene] for gene in self.genes.tokens], np.int64)
        return Ranking(self.medians, ids, limit, first, last)


def plan_of(spec: TokenizeSpec, counts: Counts, scale: Scale) -> Plan:
    """The genes that are ranked, their medians, and the vocabulary: the given one, or of exactly these genes."""
    choice = chosen_genes(spec, counts)
    known, medians = choice.known, choice.medians
    if medians is None:
        medians = _measure(spec, counts, known, scale)
        if not medians.any():
            raise InputError(
                f"{counts.name} has no count above 0 for any of {len(known.tokens)} known genes such as "
                f"{known.tokens[:3]}"
            )
    genes = known.only(medians > 0)
    tokens = choice.vocabulary or vocabulary.build(genes.tokens)
    return Plan(known, genes, medians[medians > 0], tokens, choice.notes)


def chosen_genes(spec: TokenizeSpec, counts: Counts) -> Genes:
    """What can be said before the matrix is read. Raises InputError where too few genes are known."""
    given = vocabulary.read(spec.vocabulary) if spec.vocabulary else None
    names = read_names(spec.gene_names) if spec.gene_names else None
    known = map_genes(counts.genes, names, given)
    notes: list[str] = []
    if known.share < spec.min_known or not known.tokens:
        known, notes = _by_identifiers(known, spec, counts, names, given)
    if not known.tokens:
        raise InputError(_no_gene(spec, counts, names, given))
    _check_share(known, spec, counts, spec.vocabulary or "the vocabulary")
    if not spec.medians:
        return Genes(known, None, given, notes)
    medians = given_medians(spec.medians, known.tokens)
    if not medians.any():
        raise InputError(
            f"{spec.medians} has no median for any of {len(known.tokens)} known genes such as {known.tokens[:3]}"
        )
    _check_share(known.only(medians > 0), spec, counts, spec.medians)
    return Genes(known, medians, given, notes)


def _by_identifiers(
    known: GeneColumns,
    spec: TokenizeSpec,
    counts: Counts,
    names: dict[str, list[str]] | None,
    given: dict[str, int] | None,
) -> tuple[GeneColumns, list[str]]:
    """The genes by the column of var that commonly holds their identifiers, where more of them are known by it."""
    if spec.gene_column is not None:
        return known, []
    others = {name: values for name, values in counts.other_names().items() if name.lower() in IDENTIFIERS}
    mapped = {name: map_genes(values, names, given) for name, values in others.items()}
    best = max(mapped, key=lambda name: mapped[name].share, default=None)
    if best is None or mapped[best].share <= known.share:
        return known, []
    return mapped[best], [f"the genes are known by var column '{best}'; tokenize.gene_column chooses another one"]


def _check_share(genes: GeneColumns, spec: TokenizeSpec, counts: Counts, where: str) -> None:
    """Data of another species share a few names with a vocabulary; what is made of them is of no use."""
    if genes.share >= spec.min_known:
        return
    unknown, columns = genes.unknown(), len(genes.names)
    raise InputError(
        f"only {columns - len(unknown):,} of {columns:,} genes of {counts.name} are in {where}: a share of "
        f"{genes.share:.2g}, and tokenize.min_known is {spec.min_known:g}. It lacks {unknown[:3]}: compare species, "
        "and whether genes are named by identifier or symbol; a lower tokenize.min_known takes the data as they are"
    )


def _no_gene(
    spec: TokenizeSpec, counts: Counts, names: dict[str, list[str]] | None, given: dict[str, int] | None
) -> str:
    known = list(given or {gene: 0 for ids in (names or {}).values() for gene in ids})
    where = spec.vocabulary or spec.gene_names
    message = f"none of {len(counts.genes)} genes of {counts.name}, such as {counts.genes[:3]}, is in {where}"
    message += f", which has {[gene for gene in known if not gene.startswith('<')][:3]}"
    for column, others in counts.other_names().items():
        if map_genes(others, names, given).tokens:
            return f"{message}; var column '{column}' has genes of it: set tokenize.gene_column: {column}"
    cells = counts.metadata(0, min(100, counts.cells)).column(0).to_pylist()
    if map_genes([str(cell) for cell in cells], names, given).tokens:
        return f"{message}; its rows are named like genes: it must be cells x genes, transpose it"
    return f"{message}; tokenize.gene_names can translate symbols to identifiers"


def _measure(spec: TokenizeSpec, counts: Counts, genes: GeneColumns, scale: Scale) -> np.ndarray:
    with (
        Scratch("medians") as folder,
        Progress(counts.cells, "medians", "cells") as progress,
    ):
        medians = Medians(len(genes.tokens), folder)
        for chunk in counts.chunks(MEDIAN_CELLS):
            cells = expressed(chunk, checked(chunk, counts, scale.base), genes)
            medians.add(cells.slots, cells.scaled(spec.target_sum))
            progress.update(chunk.stop - chunk.start)
        return medians.result()
