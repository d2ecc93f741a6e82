"""From counts of genes per cell to the ranked-token dataset that Geneformer-style models read.

Up to two passes over chunks of cells, in memory that does not grow with their number: medians (unless they are given),
then ranks. The same input gives the same bytes, whatever the size of the chunks.
"""

from __future__ import annotations

import builtins
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .. import storage
from ..config.tokenize import TokenizeSpec
from ..data import vocabulary
from ..data.cells import BATCH_ROWS, SHARD_BATCHES, cells_batch, cells_schema, rebatched
from ..data.counts import Chunk, Counts, open_counts
from ..data.genes import GeneColumns, map_genes, read_names
from ..data.medians import Medians, given_medians, read_medians
from ..data.ranking import Expressed, Ranking, expressed
from ..data.shards import STATE, Shard, features_of, publish, with_features, write_shard
from ..data.values import check_kind, checked, fractions
from ..errors import ExistingOutputError, InputError
from ..progress import Progress
from .run_folder import digest
from .where import Map

FORMAT = 2
SHARD_CELLS = BATCH_ROWS * SHARD_BATCHES
MEDIAN_CELLS = 65_536
MOST_ID = 2**31 - 1
NAMES = {
    "dataset": "tokenized.dataset",
    "vocabulary": "vocabulary.pkl",
    "twin": "vocabulary.json",
    "medians": "medians.json",
    "mark": "tokenize.json",
}


@dataclass(frozen=True)
class Tokenized:
    """Where the dataset and its vocabulary lie, and what became of cells and genes."""

    dataset_path: str
    vocabulary_path: str
    summary: dict[str, Any]
    skipped: bool = False


@dataclass(frozen=True)
class Plan:
    """``genes`` are those of ``known`` that have a median, in ``medians``; ``tokens`` is the vocabulary."""

    known: GeneColumns
    genes: GeneColumns
    medians: np.ndarray
    tokens: dict[str, int]

    def ranking(self, limit: int, first: int | None, last: int | None) -> Ranking:
        ids = np.array([self.tokens[gene] for gene in self.genes.tokens], np.int64)
        return Ranking(self.medians, ids, limit, first, last)


@dataclass
class Tally:
    """What the ranking pass counts. ``lengths`` are before cutting, without special tokens; 0 for dropped cells."""

    values: int = 0
    fractions: int = 0
    lengths: list[np.ndarray] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        self.values += other.values
        self.fractions += other.fractions
        self.lengths += other.lengths

    def add(self, chunk: Chunk, cells: Expressed) -> None:
        self.values += len(chunk.values)
        self.fractions += fractions(chunk.values)
        self.lengths.append(np.diff(cells.indptr).astype(np.int32))


@dataclass
class RankCells:
    """The second pass: ranks the cells of one shard and writes it. Any process can do any shard.

    ``schema`` is that of the dataset. ``counts`` and ``tick``, which hears of cells done, stay where they are: another
    process opens the counts once, and closes them when it lets go of this.
    """

    spec: TokenizeSpec
    genes: GeneColumns
    ranking: Ranking
    dataset: str
    schema: pa.Schema
    shard_cells: int
    counts: Counts | None
    tick: Callable[[int], None]

    def __getstate__(self) -> dict[str, Any]:
        spec = self.spec.model_copy(update={"input": storage.join(self.spec.input)})  # whatever folder it stands in
        return {**self.__dict__, "spec": spec, "counts": None, "tick": _unheard}

    def __call__(self, number: int) -> tuple[Shard | None, Tally]:
        tally = Tally()
        batches = rebatched(self._batches(self._opened(), number * self.shard_cells, tally))
        return write_shard(self.dataset, number, self.schema, batches), tally

    def _opened(self) -> Counts:
        if self.counts is None:
            stack = ExitStack()
            self.counts = stack.enter_context(open_counts(self.spec))
            weakref.finalize(self, stack.close)
        return self.counts

    def _batches(self, counts: Counts, first: int, tally: Tally) -> Iterator[pa.RecordBatch]:
        for chunk in counts.chunks(self.spec.chunk_cells, start=first, end=first + self.shard_cells):
            cells = expressed(chunk, checked(chunk, counts, self.spec.values), self.genes)
            tally.add(chunk, cells)
            tokens, indptr = self.ranking.tokens(cells)
            yield cells_batch(tokens, indptr, cells.totals, counts.metadata(chunk.start, chunk.stop))
            self.tick(chunk.stop - chunk.start)


def _unheard(cells: int) -> None: ...


def tokenize(spec: TokenizeSpec, output: str, *, replace: bool = False, map: Map | None = None) -> Tokenized:
    """Write ``tokenized.dataset``, ``vocabulary.pkl`` and ``.json``, ``medians.json`` and, last, ``tokenize.json``.

    The dataset has the columns ``input_ids`` (list of int32, highest rank first), ``length``, ``n_counts`` (sum over
    all genes of the matrix), ``cell_id`` and the metadata carried along. Cells without any known gene are dropped and
    counted. The same inputs again do nothing. ``map`` ranks the shards elsewhere; medians are measured here.

    Raises:
        InputError: a value that is no count, no known gene, an unknown column; nothing is left behind then.
        ExistingOutputError: ``output`` holds the result of other inputs and ``replace`` is not set.
    """
    inputs = _identity(spec)
    if not replace and (done := _existing(output, inputs)) is not None:
        return done
    with ExitStack() as stack:
        counts = stack.enter_context(open_counts(spec))
        check_kind(counts, spec.values)
        plan = _plan(spec, counts)
        tokens, first, last = _ends(spec, plan.tokens)
        ranking = plan.ranking(spec.max_length - (2 if spec.special_tokens else 0), first, last)
        undo = stack.enter_context(ExitStack())
        undo.callback(_clear, output)
        _clear(output)
        tally = Tally()
        schema = cells_schema(counts.schema)
        features = features_of(schema)
        work = RankCells(
            spec,
            plan.genes,
            ranking,
            storage.join(output, NAMES["dataset"]),
            with_features(schema, features),
            SHARD_CELLS,
            counts,
            _unheard,
        )
        shards = _write(work, counts, tally, map)
        summary = _summary(spec, counts, plan, ranking, tally)
        vocabulary.write(storage.join(output, NAMES["vocabulary"]), tokens)
        medians = dict(zip(plan.genes.tokens, plan.medians.tolist(), strict=True))
        if (
            spec.medians
        ):  # also those of genes that these data lack: what is made from later data goes on from this file
            medians = {**read_medians(spec.medians), **medians}
        storage.write_json(storage.join(output, NAMES["medians"]), medians)
        publish(work.dataset, shards, features, inputs, vocabulary.describe(tokens))
        storage.write_json(storage.join(output, NAMES["mark"]), {**summary, "inputs": inputs})
        undo.pop_all()
    return _result(output, summary)


def _identity(spec: TokenizeSpec) -> str:
    """Names everything the result follows from: settings and the content of files, not where these lie."""
    files = ("input", "vocabulary", "medians", "gene_names")
    settings = spec.model_dump(mode="json", exclude={"chunk_cells", *files})
    content = [storage.fingerprint(url) if url else None for url in (getattr(spec, name) for name in files)]
    return digest([FORMAT, settings, content])


def _existing(output: str, inputs: str) -> Tokenized | None:
    state = storage.join(output, NAMES["dataset"], STATE)
    if not storage.exists(state):
        return None
    mark = storage.join(output, NAMES["mark"])
    summary = storage.read_json(mark) if storage.exists(mark) else {}
    if summary.pop("inputs", None) != inputs:
        raise ExistingOutputError(
            f"{storage.join(output, NAMES['dataset'])} was made from other inputs or settings; give another folder, or "
            "say that it is to be replaced"
        )
    return _result(output, summary, skipped=True)


def _result(output: str, summary: dict[str, Any], skipped: bool = False) -> Tokenized:
    return Tokenized(
        storage.join(output, NAMES["dataset"]), storage.join(output, NAMES["vocabulary"]), summary, skipped
    )


def _clear(output: str) -> None:
    for name in ("mark", "dataset", "vocabulary", "twin", "medians"):
        storage.remove(storage.join(output, NAMES[name]))


def _plan(spec: TokenizeSpec, counts: Counts) -> Plan:
    """The genes that are ranked, their medians, and the vocabulary: the given one, or of exactly these genes."""
    given = vocabulary.read(spec.vocabulary) if spec.vocabulary else None
    if given and max(given.values()) > MOST_ID:
        raise InputError(f"{spec.vocabulary} has the id {max(given.values())}; ids up to {MOST_ID} can be written")
    names = read_names(spec.gene_names) if spec.gene_names else None
    known = map_genes(counts.genes, names, given)
    if not known.tokens:
        raise InputError(_no_gene(spec, counts, names, given))
    medians = given_medians(spec.medians, known.tokens) if spec.medians else _measure(spec, counts, known)
    if not medians.any():
        source = f"{spec.medians} has no median for" if spec.medians else f"{counts.name} has no count above 0 for"
        raise InputError(f"{source} any of {len(known.tokens)} known genes such as {known.tokens[:3]}")
    genes = known.only(medians > 0)
    return Plan(known, genes, medians[medians > 0], given or vocabulary.build(genes.tokens))


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


def _ends(spec: TokenizeSpec, tokens: dict[str, int]) -> tuple[dict[str, int], int | None, int | None]:
    """The vocabulary with the tokens around a cell; Geneformer V2 calls the last one <eos>."""
    if not spec.special_tokens:
        return tokens, None, None
    last = "<eos>" if "<eos>" in tokens and "<sep>" not in tokens else "<sep>"
    tokens = vocabulary.with_special_tokens(tokens, ("<cls>", last))
    return tokens, tokens["<cls>"], tokens[last]


def _chunks(
    spec: TokenizeSpec, counts: Counts, genes: GeneColumns, what: str, cells: int
) -> Iterator[tuple[Chunk, Expressed]]:
    with Progress(counts.cells, what, "cells") as progress:
        for chunk in counts.chunks(cells):
            yield chunk, expressed(chunk, checked(chunk, counts, spec.values), genes)
            progress.update(chunk.stop - chunk.start)


def _measure(spec: TokenizeSpec, counts: Counts, genes: GeneColumns) -> np.ndarray:
    with tempfile.TemporaryDirectory(prefix="sortase-medians-") as folder:
        medians = Medians(len(genes.tokens), Path(folder))
        for _, cells in _chunks(spec, counts, genes, "medians", MEDIAN_CELLS):
            medians.add(cells.slots, cells.scaled(spec.target_sum))
        return medians.result()


def _write(work: RankCells, counts: Counts, tally: Tally, map: Map | None) -> list[Shard]:
    """Shards of 50,000 cells of the input; those without a token leave no file."""
    shards: list[Shard] = []
    numbers = range(-(-counts.cells // work.shard_cells))
    with Progress(counts.cells, "tokenize", "cells") as progress:
        if map is None:
            work.tick = progress.update
        for shard, part in (map or builtins.map)(work, numbers):
            tally.merge(part)
            shards += [shard] if shard is not None else []
            if map is not None:
                progress.update(sum(len(lengths) for lengths in part.lengths))
    if not shards:
        raise InputError(f"none of {counts.cells} cells of {counts.name} has a count above 0 for a known gene")
    return shards


def _summary(spec: TokenizeSpec, counts: Counts, plan: Plan, ranking: Ranking, tally: Tally) -> dict[str, Any]:
    expressed_genes = np.concatenate(tally.lengths)
    around = 0 if ranking.first is None else 2
    lengths = np.minimum(expressed_genes[expressed_genes > 0], ranking.limit) + around
    unknown = plan.known.unknown()
    notes = list(counts.notes)
    if spec.values == "counts" and tally.fractions:
        notes.append(f"{tally.fractions:,} of {tally.values:,} stored values are no whole numbers")
    return {
        "cells": counts.cells,
        "dropped": int((expressed_genes == 0).sum()),
        "truncated": int((expressed_genes > ranking.limit).sum()),
        "genes": len(counts.genes),
        "known_genes": len(plan.known.tokens),
        "genes_with_median": len(plan.genes.tokens),
        "unknown_genes": len(unknown),
        "unknown_examples": unknown[:10],
        "duplicates_summed": plan.known.duplicates,
        "counts_are_whole": tally.fractions == 0,
        "lengths": _distribution(lengths),
        "notes": notes,
    }


def _distribution(lengths: np.ndarray) -> dict[str, float]:
    return {
        "min": int(lengths.min()),
        "median": float(np.median(lengths)),
        "mean": float(lengths.mean()),
        "max": int(lengths.max()),
    }
