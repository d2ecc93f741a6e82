"""Cells of real lengths for benchmarks: the 559 cells of the celltypist package, ranked as Geneformer ranks them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


def count_table() -> Path:
    """The table of counts that the celltypist package carries."""
    spec = find_spec("celltypist")
    if spec is None or spec.origin is None:
        raise SystemExit("this benchmark needs: pip install 'sortase[demo]'")
    return Path(spec.origin).parent / "data" / "samples" / "sample_cell_by_gene.csv"


def ranked_cells(limit: int = 2048) -> tuple[list[np.ndarray], int]:
    """Token ids (from 2 on) of each cell, most expressed gene first, cut at ``limit``; and the vocabulary's size."""
    counts = pd.read_csv(count_table(), index_col=0).to_numpy(dtype=np.float32)
    counts = counts[:, counts.sum(0) > 0]
    cells = []
    for row in counts:
        expressed = np.flatnonzero(row)
        order = expressed[np.argsort(-row[expressed], kind="stable")]
        cells.append((order[:limit] + 2).astype(np.int64))
    return cells, counts.shape[1] + 2


def resampled(n: int, seed: int = 0, limit: int = 2048) -> tuple[list[np.ndarray], int]:
    """``n`` cells drawn with replacement: the same distribution of lengths at any size."""
    cells, size = ranked_cells(limit)
    rng = np.random.default_rng(seed)
    return [cells[i] for i in rng.integers(0, len(cells), n)], size


class Pad:
    """All of a tokenizer that the collators need."""

    pad_token_id = 0


def architecture(vocabulary: int, layers: int, hidden: int) -> dict[str, Any]:
    """Geneformer's shape: 6 layers of 256, 4 heads, dropout 0.02."""
    return {
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 2048,
        "hidden_dropout_prob": 0.02,
        "attention_probs_dropout_prob": 0.02,
        "pad_token_id": 0,
    }
