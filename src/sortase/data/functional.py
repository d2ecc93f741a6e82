"""The public utility functions: a Dataset in, a Dataset out, with the same arithmetic as `prepare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ..errors import ConfigError, InputError, InputTypeError
from . import classmap
from .labelling import RowLabels, TokenLabels
from .labels import (
    check_label_column,
    check_tokens,
    check_tokens_column,
    gene_classes,
)
from .select import holdings, make_filters, priorities
from .sequences import open_dataset
from .source import MemorySource, Source, require_column
from .split import column_classes

if TYPE_CHECKING:
    from datasets import Dataset

SEED = 42


def load_and_filter(filter_data: dict[str, Any] | None, nproc: int, input_data: str | Dataset) -> Dataset:
    """Open a dataset and keep the rows that pass every filter.

    Args:
        filter_data: column name to the value, or list of values, that a row must have.
        nproc: positive; the work is columnar and its result does not depend on it.
        input_data: path or URL of a saved dataset, or a Dataset.

    Raises InputError for an unknown column, a value that does not fit it, and filters that leave nothing.
    """
    _check_nproc(nproc)
    data = open_dataset(input_data)
    if not filter_data:
        return data
    source = MemorySource(data)
    filters = make_filters(filter_data, source)
    parts = [np.zeros(0, dtype=bool)]
    for batch in _batches(source, [condition.column for condition in filters]):
        parts.append(np.logical_and.reduce([condition.mask(batch) for condition in filters]))
    keep = np.flatnonzero(np.concatenate(parts))
    if len(keep) == 0:
        held = "; ".join(
            f"column '{f.column}' holds {holdings(data.unique(f.column))}, asked for {holdings(f.allowed.to_pylist())}"
            for f in filters
        )
        raise InputError(f"the filter leaves none of {len(data)} rows: {held}")
    return _select(data, keep)


def remove_rare(data: Dataset, rare_threshold: float, state_key: str, nproc: int) -> Dataset:
    """Keep the rows whose value in ``state_key`` makes up at least ``rare_threshold`` of all rows.

    Rows without a value count among all rows, and stay or go together like a value.
    """
    _check_nproc(nproc)
    if not 0 <= rare_threshold <= 1:
        raise InputError(f"rare_threshold must be a fraction between 0 and 1, got {rare_threshold}")
    names, codes = _classes(data, state_key)
    common = np.bincount(codes, minlength=len(names)) / max(1, len(codes)) >= rare_threshold
    if len(codes) and not common.any():
        raise InputError(f"rare_threshold {rare_threshold} leaves no value of column '{state_key}'")
    return _select(data, np.flatnonzero(common[codes]))


def downsample_and_shuffle(
    data: Dataset, max_ncells: int | None, max_ncells_per_class: int | None, cell_state_dict: dict[str, Any]
) -> Dataset:
    """Shuffle, keep at most ``max_ncells`` rows, of these at most ``max_ncells_per_class`` of a class.

    ``cell_state_dict["state_key"]`` names the column of the classes. The order is the same in every process.
    """
    for name, cap in (("max_ncells", max_ncells), ("max_ncells_per_class", max_ncells_per_class)):
        if cap is not None and cap < 1:
            raise InputError(f"{name} must be at least 1, got {cap}")
    order = np.argsort(priorities(0, len(data), SEED))[:max_ncells]
    if max_ncells_per_class is not None:
        if "state_key" not in cell_state_dict:
            raise InputError(f"cell_state_dict must have the key 'state_key', got {sorted(cell_state_dict)}")
        _, codes = _classes(data, cell_state_dict["state_key"])
        order = order[_rank_in_class(codes[order]) < max_ncells_per_class]
    return _select(data, order)


def subsample_by_class(labels: Sequence[Any], N: int) -> list[int]:  # noqa: N803 - the name is a contract
    """Indices, ascending, of up to ``N`` entries of each label, drawn at random but always the same."""
    if N < 0:
        raise InputError(f"N must not be negative, got {N}")
    values = list(labels)
    place: dict[Any, int] = {}
    codes = np.fromiter((place.setdefault(value, len(place)) for value in values), dtype=np.int64, count=len(values))
    order = np.argsort(priorities(0, len(values), SEED))
    return np.sort(order[_rank_in_class(codes[order]) < N]).tolist()


def rename_cols(data: Dataset, state_key: str) -> Dataset:
    """Call the column ``state_key`` ``label``."""
    require_column(MemorySource(data), state_key, "the label")
    if state_key == "label":
        return data
    if "label" in data.column_names:
        raise InputError(f"the dataset has a column 'label' beside '{state_key}'; rename or remove it first")
    return data.rename_column(state_key, "label")


def flatten_list(l: Sequence[Sequence[Any]]) -> list[Any]:  # noqa: E741 - the name is a contract
    """The items of the inner sequences, in order."""
    return list(chain.from_iterable(l))


def label_classes(
    classifier: str, data: Dataset, class_dict: Mapping[str, Sequence[str]] | None, token_dict_path: str, nproc: int
) -> tuple[Dataset, dict[str, int]]:
    """Class ids for rows (``cell``, ``sequence``) or for tokens (``gene``, ``token``).

    Args:
        classifier: which of the two.
        data: with a column ``label`` of names, or ``input_ids``.
        class_dict: for tokens, class name to its genes.
        token_dict_path: for tokens, the vocabulary (pickle or JSON).
        nproc: positive; the work is columnar and its result does not depend on it.

    Returns the dataset, with class ids in ``label`` or lists of them in ``labels`` (-100: none), without the rows that
    have no label, and the map from class names to ids.
    """
    _check_nproc(nproc)
    makers = {"cell": _label_rows, "sequence": _label_rows, "gene": _label_tokens, "token": _label_tokens}
    if classifier not in makers:
        raise InputError(f"unknown classifier {classifier!r}; allowed: {', '.join(map(repr, makers))}")
    return makers[classifier](data, class_dict, token_dict_path)


def _label_rows(data: Dataset, class_dict: Any, token_dict_path: str) -> tuple[Dataset, dict[str, int]]:
    from datasets import Features

    names, codes = _classes(data, "label")
    class_map = classmap.build(name for name in names if name is not None)
    labelled = np.array([name is not None for name in names], dtype=bool)[codes]
    ids = np.array([class_map.get(name or "", -1) for name in names], dtype=np.int64)[codes][labelled]
    feature = Features.from_dict({"label": RowLabels(class_map).feature})["label"]
    kept = data if labelled.all() else _select(data, np.flatnonzero(labelled))
    return _with_column(kept.remove_columns("label"), "label", pa.array(ids), feature), class_map


def _label_tokens(data: Dataset, class_dict: Any, token_dict_path: str) -> tuple[Dataset, dict[str, int]]:
    from datasets import Features

    from . import vocabulary

    if not class_dict:
        raise ConfigError("class_dict is required for classifier 'gene': class name to its genes")
    class_map = classmap.build(class_dict)
    labelling = TokenLabels(class_map, gene_classes(class_dict, vocabulary.read(token_dict_path), class_map))
    source = MemorySource(data)
    check_tokens_column(require_column(source, "input_ids", "token ids"))
    kept, labels, start = [np.empty(0, np.int64)], [], 0
    for batch in _batches(source, ["input_ids"]):
        check_tokens(batch.column("input_ids"), start)
        _, rows, column, _ = labelling.labelled_rows(batch, np.arange(start, start + batch.num_rows))
        kept.append(rows)
        labels.append(column)
        start += batch.num_rows
    rows = np.concatenate(kept)
    if len(rows) == 0:
        raise InputError("no row has a token of any class; are vocabulary and gene names those of the dataset?")
    feature = Features.from_dict({"labels": labelling.feature})["labels"]
    chosen = data if len(rows) == len(data) else _select(data, rows)
    described = _with_column(chosen, "labels", pa.chunked_array(labels, labelling.kind), feature)
    described.info.description = classmap.describe(class_map)
    return described, class_map


def _with_column(data: Dataset, name: str, values: Any, feature: Any) -> Dataset:
    """Add a column; an indices mapping is resolved in memory only, so that no cache file appears."""
    if name in data.column_names:
        raise InputError(f"the dataset has a column '{name}' already; rename or remove it first")
    flat = data if data._indices is None else data.flatten_indices(keep_in_memory=True)
    return flat.add_column(name, values, feature=feature)


def _select(data: Dataset, rows: np.ndarray) -> Dataset:
    """The rows in this order, as an indices mapping in memory: nothing is copied or written."""
    return data.select(rows, keep_in_memory=True)


def _batches(source: Source, columns: list[str]) -> Any:
    for unit in source.units:
        yield from source.read(unit, list(dict.fromkeys(columns)))


def _classes(data: Dataset, column: str) -> tuple[list[str | None], np.ndarray]:
    if not hasattr(data, "_indices"):
        raise InputTypeError(f"expected a datasets.Dataset, got {type(data).__name__}")
    source = MemorySource(data)
    check_label_column(require_column(source, column, "labels"))
    return column_classes(source, column)


def _rank_in_class(codes: np.ndarray) -> np.ndarray:
    """For each entry, how many of its class come before it."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank


def _check_nproc(nproc: int) -> None:
    if nproc < 1:
        raise InputError(f"nproc must be at least 1, got {nproc}")
