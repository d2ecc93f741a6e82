"""From counts of genes per cell to the ranked-token dataset that Geneformer-style models read.

Up to two passes over chunks of cells, in memory that does not grow with their number: medians (unless they are given),
then ranks. The same input gives the same bytes, whatever the size of the chunks.
"""

from __future__ import annotations

import builtins
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from .. import storage
from ..config.tokenize import TokenizeSpec
from ..data import vocabulary
from ..data.counts.checks import Scale, checked, fractions, scale_of
from ..data.counts.counts import Chunk, Counts
from ..data.counts.genes import GeneColumns
from ..data.counts.medians import read_medians
from ..data.counts.open import input_urls, labels_of, open_counts
from ..data.counts.ranking import Expressed, Ranking, expressed
from ..data.counts.token_rows import BATCH_ROWS, SHARD_BATCHES, cells_batch, cells_schema, rebatched
from ..data.shards import STATE, Shard, features_of, publish, with_features, write_shard
from ..errors import ExistingOutputError, InputError
from ..progress import Progress
from ..runs import layout
from ..runs.folder import digest
from ..types import Map
from .tokenize_plan import Plan, plan_of

FORMAT = 2
SHARD_CELLS = BATCH_ROWS * SHARD_BATCHES
NAMES = {
    "dataset": layout.TOKENIZED,
    "vocabulary": layout.VOCABULARY,
    "twin": "vocabulary.json",
    "medians": layout.MEDIANS,
    "mark": "tokenize.json",
}


@dataclass(frozen=True)
class Tokenized:
    """Where the dataset and its vocabulary lie, and what became of cells and genes."""

    dataset_path: str
    vocabulary_path: str
    summary: dict[str, Any]
    skipped: bool = False


@dataclass
class Tally:
    """What the ranking pass counts, and what was noted of the rows it read. ``lengths`` are before cutting, without
    special tokens; 0 for dropped cells."""

    values: int = 0
    fractions: int = 0
    notes: list[str] = field(default_factory=list)
    lengths: list[np.ndarray] = field(default_factory=list)

    def merge(self, other: Tally) -> None:
        self.values += other.values
        self.fractions += other.fractions
        self.lengths += other.lengths
        self.notes += [note for note in other.notes if note not in self.notes]

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
    scale: Scale
    genes: GeneColumns
    ranking: Ranking
    dataset: str
    schema: pa.Schema
    shard_cells: int
    counts: Counts | None
    tick: Callable[[int], None]

    def __getstate__(self) -> dict[str, Any]:
        urls = [storage.absolute(url) for url in input_urls(self.spec)]  # whatever folder it stands in
        spec = self.spec.model_copy(update={"input": urls})
        return {**self.__dict__, "spec": spec, "counts": None, "tick": _unheard}

    def __call__(self, number: int) -> tuple[Shard | None, Tally]:
        tally = Tally()
        counts = self._opened()
        batches = rebatched(self._batches(counts, number * self.shard_cells, tally))
        shard = write_shard(self.dataset, number, self.schema, batches)
        tally.notes += counts.said()
        return shard, tally

    def _opened(self) -> Counts:
        if self.counts is None:
            stack = ExitStack()
            self.counts = stack.enter_context(open_counts(self.spec))
            weakref.finalize(self, stack.close)
        return self.counts

    def _batches(self, counts: Counts, first: int, tally: Tally) -> Iterator[pa.RecordBatch]:
        for chunk in counts.chunks(self.spec.chunk_cells, start=first, end=first + self.shard_cells):
            cells = expressed(chunk, checked(chunk, counts, self.scale.base), self.genes)
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
        StorageError: a file was replaced while it was read, which is done twice.
        ExistingOutputError: ``output`` holds the result of other inputs and ``replace`` is not set.
    """
    files = [url for url in (*input_urls(spec), spec.vocabulary, spec.medians, spec.gene_names) if url is not None]
    stamps = {url: storage.stamp(url) for url in (storage.absolute(file) for file in files)}
    inputs = _identity(spec)
    if not replace and (done := _existing(output, inputs)) is not None:
        return done
    with ExitStack() as stack:
        counts = stack.enter_context(open_counts(spec))
        scale = scale_of(counts, spec)
        plan = plan_of(spec, counts, scale)
        tokens, first, last = _ends(spec, plan.tokens)
        ranking = plan.ranking(spec.max_length - (2 if spec.special_tokens else 0), first, last)
        stack.enter_context(storage.removed_on_failure(*_outputs(output)))
        for url in _outputs(output):
            storage.remove(url)
        tally = Tally()
        schema = cells_schema(counts.schema)
        features = features_of(schema)
        work = RankCells(
            spec,
            scale,
            plan.genes,
            ranking,
            storage.join(output, NAMES["dataset"]),
            with_features(schema, features),
            SHARD_CELLS,
            counts,
            _unheard,
        )
        shards = _write(work, counts, tally, map)
        summary = _summary(scale, counts, plan, ranking, tally)
        vocabulary.write(storage.join(output, NAMES["vocabulary"]), tokens)
        medians = dict(zip(plan.genes.tokens, plan.medians.tolist(), strict=True))
        if (
            spec.medians
        ):  # also those of genes that these data lack: what is made from later data goes on from this file
            medians = {**read_medians(spec.medians), **medians}
        storage.write_json(storage.join(output, NAMES["medians"]), medians)
        for url, stamp in stamps.items():
            storage.check_unchanged(url, stamp)
        publish(work.dataset, shards, features, inputs, vocabulary.describe(tokens))
        storage.write_json(storage.join(output, NAMES["mark"]), {**summary, "inputs": inputs})
    return _result(output, summary)


def _identity(spec: TokenizeSpec) -> str:
    """Names everything the result follows from: settings and the content of files, not where these lie."""
    files = ("vocabulary", "medians", "gene_names")
    settings = spec.model_dump(mode="json", exclude={"chunk_cells", "input", "file_column", *files})
    urls = input_urls(spec)
    content = [storage.fingerprint(url) if url else None for url in (*urls, *(getattr(spec, name) for name in files))]
    several = [spec.file_column, labels_of(urls)] if len(urls) > 1 or spec.file_column else []
    return digest([FORMAT, settings, content, *several])


def _existing(output: str, inputs: str) -> Tokenized | None:
    state = storage.join(output, NAMES["dataset"], STATE)
    if not storage.exists(state):
        return None
    mark = storage.join(output, NAMES["mark"])
    remedy = "give another folder, or say that it is to be replaced"
    if not storage.exists(mark):
        raise ExistingOutputError(
            f"{storage.join(output, NAMES['dataset'])} is there without {mark}: that file is lost, or tokenize did not "
            f"make the dataset; {remedy}"
        )
    summary = storage.read_json(mark)
    if summary.pop("inputs", None) != inputs:
        raise ExistingOutputError(
            f"{storage.join(output, NAMES['dataset'])} was made from other inputs or settings; {remedy}"
        )
    return _result(output, summary, skipped=True)


def _result(output: str, summary: dict[str, Any], skipped: bool = False) -> Tokenized:
    return Tokenized(
        storage.join(output, NAMES["dataset"]), storage.join(output, NAMES["vocabulary"]), summary, skipped
    )


def _outputs(output: str) -> list[str]:
    """All that is made, the mark first."""
    return [storage.join(output, NAMES[name]) for name in ("mark", "dataset", "vocabulary", "twin", "medians")]


def _ends(spec: TokenizeSpec, tokens: dict[str, int]) -> tuple[dict[str, int], int | None, int | None]:
    """The vocabulary with the tokens around a cell; Geneformer V2 calls the last one <eos>."""
    if not spec.special_tokens:
        return tokens, None, None
    last = "<eos>" if "<eos>" in tokens and "<sep>" not in tokens else "<sep>"
    tokens = vocabulary.with_special_tokens(tokens, ("<cls>", last))
    return tokens, tokens["<cls>"], tokens[last]


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


def _summary(scale: Scale, counts: Counts, plan: Plan, ranking: Ranking, tally: Tally) -> dict[str, Any]:
    expressed_genes = np.concatenate(tally.lengths)
    around = 0 if ranking.first is None else 2
    lengths = np.minimum(expressed_genes[expressed_genes > 0], ranking.limit) + around
    unknown = plan.known.unknown()
    notes = [*dict.fromkeys([*counts.said(), *tally.notes]), *plan.notes, *scale.notes]
    if scale.base is None and tally.fractions:
        notes.append(f"{tally.fractions:,} of {tally.values:,} stored values are not whole numbers")
    return {
        "cells": counts.cells,
        "dropped": int((expressed_genes == 0).sum()),
        "truncated": int((expressed_genes > ranking.limit).sum()),
        "genes": len(counts.genes),
        "known_genes": len(plan.known.tokens),
        "known_share": round(plan.known.share, 4),
        "genes_with_median": len(plan.genes.tokens),
        "unknown_genes": len(unknown),
        "unknown_examples": unknown[:10],
        "duplicates_summed": plan.known.duplicates,
        "counts_are_whole": tally.fractions == 0,
        "lengths": _distribution(lengths),
        "notes": notes,
    }


def in_words(summary: dict[str, Any]) -> str:
    """What was lost: genes that are not known, cells without a known gene, cells that were cut."""
    known = summary["genes"] - summary["unknown_genes"]
    return (
        f"{known:,} of {summary['genes']:,} genes are known ({100 * summary['known_share']:.3g} %), "
        f"{summary['dropped']:,} of {summary['cells']:,} cells have none of them and are dropped, "
        f"{summary['truncated']:,} are cut to {summary['lengths']['max']:,} tokens"
    )


def _distribution(lengths: np.ndarray) -> dict[str, float]:
    return {
        "min": int(lengths.min()),
        "median": float(np.median(lengths)),
        "mean": float(lengths.mean()),
        "max": int(lengths.max()),
    }
