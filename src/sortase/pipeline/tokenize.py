"""From counts of genes per cell to the ranked-token dataset that Geneformer-style models read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa

from .. import pickles, storage
from ..config.tokenize import TokenizeSpec
from ..data import vocabulary
from ..data.counts import Counts, check_values, open_counts
from ..data.genes import GeneMap, canonical, map_genes, read_names, stripped
from ..data.medians import Medians
from ..data.ranking import MOST_TOKENS, normalised, rank, surround
from ..data.shards import Shard, features_of, publish, with_features, write_shard
from ..errors import InputError
from ..progress import Progress
from .run_folder import digest

SHARD_CHUNKS = 32
LOG_LIKE = 30.0


@dataclass(frozen=True)
class Tokenized:
    """Where the dataset and its vocabulary lie, and what became of cells and genes."""

    dataset_path: str
    vocabulary_path: str
    summary: dict[str, Any]


@dataclass
class _Tally:
    cells: int = 0
    dropped: int = 0
    truncated: int = 0
    whole: bool = True
    lengths: list[np.ndarray] = field(default_factory=list)


def tokenize(spec: TokenizeSpec, output: str) -> Tokenized:
    """Write ``tokenized.dataset``, ``vocabulary.pkl`` (and .json), ``medians.json`` and ``tokenize.json``.

    The dataset has ``input_ids`` (list of int32), ``length``, ``n_counts`` (the cell's counts over all genes of the
    matrix) and the metadata columns. Cells in which no gene of the vocabulary is expressed are dropped and counted.
    """
    counts = open_counts(spec.input, spec.layer, spec.gene_column, spec.columns)
    names = read_names(spec.gene_names) if spec.gene_names else {}
    genes, tokens, medians = _plan(spec, counts, names)
    dataset = storage.join(output, "tokenized.dataset")
    storage.remove(dataset)
    tally = _Tally()
    shards = list(_write(spec, counts, genes, tokens, medians, dataset, tally))
    if not shards:
        raise InputError(f"none of {tally.cells} cells of {spec.input} expresses a gene of the vocabulary")
    summary = _summary(genes, tally, medians)
    vocabulary.write(storage.join(output, "vocabulary.pkl"), tokens)
    by_id = {index: token for token, index in tokens.items()}
    used = {by_id[i]: float(m) for i, m in enumerate(medians) if m > 0 and i in by_id}
    storage.write_bytes(storage.join(output, "medians.json"), json.dumps(used).encode())
    storage.write_json(storage.join(output, "tokenize.json"), summary)
    publish(dataset, [s for s, _ in shards], shards[0][1], digest([spec.model_dump(), storage.fingerprint(spec.input)]))
    return Tokenized(dataset, storage.join(output, "vocabulary.pkl"), summary)


def _plan(spec: TokenizeSpec, counts: Counts, names: dict[str, str]) -> tuple[GeneMap, dict[str, int], np.ndarray]:
    """Which token each column is, the vocabulary, and the median of each token (0: the gene is not used)."""
    given = vocabulary.with_special_tokens(vocabulary.read(spec.vocabulary)) if spec.vocabulary else None
    tokens = given or vocabulary.build(canonical(counts.genes, names))
    if max(tokens.values()) >= MOST_TOKENS:
        raise InputError(
            f"the vocabulary has ids up to {max(tokens.values())}; at most {MOST_TOKENS - 1} can be ranked"
        )
    genes = map_genes(counts.genes, names, tokens)
    if spec.medians is not None:
        return genes, tokens, _given_medians(spec.medians, tokens)
    medians = _measure(spec, counts, genes, 1 + max(tokens.values()))
    if given is None:
        expressed = [token for token, index in tokens.items() if medians[index] > 0]
        tokens, before = vocabulary.build(expressed), tokens
        genes = map_genes(counts.genes, names, tokens)
        moved = np.zeros(1 + max(tokens.values()))
        for token in expressed:
            moved[tokens[token]] = medians[before[token]]
        medians = moved
    return genes, tokens, medians


def _given_medians(url: str, tokens: dict[str, int]) -> np.ndarray:
    content = storage.read_json(url) if url.endswith(".json") else pickles.load(url)
    if not isinstance(content, dict) or not all(isinstance(v, Real) and v > 0 for v in content.values()):
        raise InputError(f"{url} does not map genes to their non-zero medians, positive numbers")
    by_gene = {stripped(str(gene)): float(value) for gene, value in content.items()}
    medians = np.zeros(1 + max(tokens.values()))
    for token, index in tokens.items():
        medians[index] = by_gene.get(stripped(token), 0.0)
    if not medians.any():
        raise InputError(f"{url} has no median for any gene of the vocabulary: it has {list(by_gene)[:3]}")
    return medians


def _chunks(
    spec: TokenizeSpec, counts: Counts, genes: GeneMap, size: int, what: str, tally: _Tally | None = None
) -> Iterator[tuple[Any, np.ndarray, pa.Table]]:
    """Normalised cells x tokens, the cells' total counts, and their metadata."""
    from scipy.sparse import csr_matrix

    known = np.flatnonzero(genes.token >= 0)
    gather = csr_matrix((np.ones(len(known), np.float32), (known, genes.token[known])), (len(genes.token), size))
    start = 0
    with Progress(counts.cells, what, "cells") as progress:
        for chunk, metadata, cells in counts.chunks():
            whole = check_values(chunk, start, counts.genes, cells, counts.name)
            if spec.values == "counts" and not whole and chunk.data.max() < LOG_LIKE:
                raise InputError(
                    f"{counts.name} holds fractions below {LOG_LIKE:g}, such as {chunk.data.max():.4g}: they look like "
                    "logarithms, not counts. Set tokenize.values: log1p, or name the layer with counts"
                )
            if tally is not None:
                tally.whole &= whole
            if spec.values == "log1p":
                chunk = chunk.astype(np.float64)
                chunk.data = np.expm1(chunk.data)
            scaled, totals = normalised(chunk, spec.target_sum)
            ranked = (scaled @ gather).tocsr()
            ranked.sort_indices()
            yield ranked, totals, metadata
            start += len(totals)
            progress.update(len(totals))


def _measure(spec: TokenizeSpec, counts: Counts, genes: GeneMap, size: int) -> np.ndarray:
    medians = Medians(size)
    for chunk, _, _ in _chunks(spec, counts, genes, size, "medians"):
        medians.update(chunk)
    return medians.result()


def _write(
    spec: TokenizeSpec,
    counts: Counts,
    genes: GeneMap,
    tokens: dict[str, int],
    medians: np.ndarray,
    dataset: str,
    tally: _Tally,
) -> Iterator[tuple[Shard, dict[str, Any]]]:
    """Shards of up to 65,536 cells, with the dataset's features."""
    weights = np.divide(1.0, medians, out=np.zeros(len(medians)), where=medians > 0)
    waiting: list[pa.RecordBatch] = []
    schema: pa.Schema | None = None
    number = chunks = 0
    for chunk, totals, metadata in _chunks(spec, counts, genes, len(medians), "tokenize", tally):
        table = _encode(spec, chunk, totals, metadata, weights, tokens, tally)
        if schema is None:
            features = features_of(table.schema)
            schema = with_features(table.schema, features)
        waiting += table.to_batches()
        chunks += 1
        if chunks % SHARD_CHUNKS == 0 and waiting:
            shard = write_shard(dataset, number, schema, waiting)
            number, waiting = number + (shard is not None), []
            if shard is not None:
                yield shard, features
    if schema is not None and (shard := write_shard(dataset, number, schema, waiting)) is not None:
        yield shard, features


def _encode(
    spec: TokenizeSpec,
    chunk: Any,
    totals: np.ndarray,
    metadata: pa.Table,
    weights: np.ndarray,
    tokens: dict[str, int],
    tally: _Tally,
) -> pa.Table:
    limit = spec.max_length - 2 * spec.special_tokens
    ranked, starts = rank(chunk, weights, limit)
    expressed = np.diff(chunk.indptr) if weights.all() else _expressed(chunk, weights)
    kept = np.flatnonzero(np.diff(starts) > 0)
    starts = np.concatenate([[0], np.cumsum(np.diff(starts)[kept])])
    if spec.special_tokens:
        ranked, starts = surround(ranked, starts, tokens["<cls>"], tokens["<sep>"])
    lengths = np.diff(starts)
    tally.cells += len(totals)
    tally.dropped += len(totals) - len(kept)
    tally.truncated += int((expressed > limit).sum())
    tally.lengths.append(lengths)
    columns = {
        "input_ids": pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), pa.array(ranked)),
        "length": pa.array(lengths.astype(np.int32)),
    }
    if "n_counts" not in metadata.column_names:
        columns["n_counts"] = pa.array(totals[kept])
    carried = metadata.take(pa.array(kept)) if metadata.num_columns else metadata
    for name in carried.column_names:
        if name not in columns:
            columns[name] = carried.column(name).combine_chunks()
    return pa.table(columns)


def _expressed(chunk: Any, weights: np.ndarray) -> np.ndarray:
    """Genes of each cell that can be ranked."""
    rows = np.repeat(np.arange(chunk.shape[0]), np.diff(chunk.indptr))
    return np.bincount(rows, weights=(chunk.data > 0) & (weights[chunk.indices] > 0), minlength=chunk.shape[0])


def _summary(genes: GeneMap, tally: _Tally, medians: np.ndarray) -> dict[str, Any]:
    lengths = np.concatenate(tally.lengths)
    return {
        "cells": tally.cells,
        "dropped": tally.dropped,
        "truncated": tally.truncated,
        **genes.summary(),
        "genes_with_median": int((medians > 0).sum()),
        "counts_are_whole": tally.whole,
        "lengths": {
            "min": int(lengths.min()),
            "median": float(np.median(lengths)),
            "mean": float(lengths.mean()),
            "max": int(lengths.max()),
        },
    }
