"""The content of prepare.json: what each step kept, lengths, and what became of the genes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import InputError
from ..gene_classes import GeneClasses
from ..shards import Shard
from .labelling import Labelling, TagLabels, Tally, TokenLabels
from .passes import Classes, Rows, Written
from .plan import Decision, step

_BINS = 40
_EXAMPLES = 20


@dataclass
class Total:
    """What all units wrote."""

    classes_count: int
    shards: list[Shard] = field(default_factory=list)
    classes: Classes = field(default_factory=Counter)
    lengths: Counter[int] = field(default_factory=Counter)
    other_lengths: int = 0

    def __post_init__(self) -> None:
        self.tally = Tally(np.zeros(self.classes_count, dtype=np.int64))


def add_written(total: Total, written: Written) -> None:
    if written.shard is not None:
        total.shards.append(written.shard)
    total.classes.update(written.classes)
    total.lengths.update(written.lengths)
    total.other_lengths += written.other_lengths
    total.tally.add(written.tally)


def summarize(task: str, rows: Rows, decision: Decision, labelling: Labelling, total: Total) -> dict[str, Any]:
    """Refuses a result without rows, or with labels of one class only."""
    names = list(labelling.class_map)
    seen = [name for name in names if total.tally.units[labelling.class_map[name]]]
    if not total.shards:
        raise InputError("no row has a token of any class; are vocabulary and gene names those of the dataset?")
    if len(seen) < 2:
        raise InputError(f"only class '{seen[0]}' is left of {names}; a classifier needs at least two")
    notes = list(decision.notes)
    notes += [f"class '{name}' does not occur in the prepared rows" for name in names if name not in seen]
    if total.other_lengths:
        notes.append(f"column 'length' was wrong in {total.other_lengths} rows and holds the number of tokens now")
    genes = _genes(labelling, total, notes) if isinstance(labelling, TokenLabels) else None
    return {
        "task": task,
        "column": labelling.tags.column if isinstance(labelling, TagLabels) else rows.column,
        "classes": names,
        "steps": [*decision.steps, step("labelled", total.classes)],
        "units": {name: int(total.tally.units[i]) for name, i in labelling.class_map.items()},
        "notes": notes,
        "lengths": lengths_summary(total.lengths),
        **({"genes": genes} if genes else {}),
    }


def lengths_summary(lengths: Counter[int]) -> dict[str, Any]:
    """Exact minimum, median, mean and maximum, and a histogram, of tokens in a row."""
    values = np.array(sorted(lengths), dtype=np.int64)
    counts = np.array([lengths[value] for value in values.tolist()], dtype=np.int64)
    total = int(counts.sum())
    below = np.cumsum(counts)
    middle = [int(values[np.searchsorted(below, place, side="right")]) for place in ((total - 1) // 2, total // 2)]
    bins, edges = np.histogram(values, bins=min(_BINS, int(values[-1] - values[0]) + 1), weights=counts)
    return {
        "min": int(values[0]),
        "median": sum(middle) / 2,
        "mean": round(float((values * counts).sum() / total), 3),
        "max": int(values[-1]),
        "histogram": {"edges": [round(float(e), 3) for e in edges], "counts": bins.astype(int).tolist()},
    }


def _genes(labelling: TokenLabels, total: Total, notes: list[str]) -> dict[str, Any]:
    genes = labelling.genes
    notes += genes.remarks()
    skipped = genes.skipped
    seen_of = np.bincount(genes.table[np.flatnonzero(total.tally.tokens)], minlength=len(labelling.class_map))
    return {
        "missing_from_vocabulary": {"count": len(skipped), "examples": skipped[:_EXAMPLES]},
        "remarks": genes.remarks(),
        **({"in_several_classes": _shared(genes)} if genes.shared else {}),
        "per_class": {
            name: {
                "given": genes.given[name],
                "known": genes.known[name],
                "seen": int(seen_of[i]),
                "missing": list(genes.missing[name][:_EXAMPLES]),
            }
            for name, i in labelling.class_map.items()
        },
    }


def _shared(genes: GeneClasses) -> dict[str, Any]:
    examples = {gene: list(names) for gene, names in list(genes.shared.items())[:_EXAMPLES]}
    return {"count": len(genes.shared), "overlap": genes.overlap, "examples": examples}
