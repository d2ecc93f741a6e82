"""The public utility functions: a Dataset in, a Dataset out, with the same arithmetic as `prepare`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from .. import arguments as check
from ..config.former_names import accepts_former_names
from ..config.gene_lists import Overlap
from ..data import classmap
from ..data.gene_classes import gene_classes
from ..data.hashing import priorities
from ..data.labels import check_label_column, check_tokens, check_tokens_column
from ..data.padding import token_columns
from ..data.selection.filters import holdings, make_filters, passing
from ..data.selection.labelling import RowLabels, TokenLabels
from ..data.sequences import open_dataset
from ..data.source import MemorySource, require_column
from ..data.split.split import column_classes
from ..errors import InputError, InputTypeError

if TYPE_CHECKING:
    from datasets import Dataset

SEED = 42


@accepts_former_names(input_data_file="input_data")
@check.public(filter_data=check.optional(check.filters), nproc=check.count(1), input_data=check.dataset_or_path)
def load_and_filter(filter_data: dict[str, Any] | None, nproc: int, input_data: str | Dataset) -> Dataset:
    """Open a dataset and keep the rows that pass every filter.

    Args:
        filter_data: column name to the value, or list of values, that a row must have.
        nproc: positive; the work is columnar and its result does not depend on it.
        input_data: path or URL of a saved dataset, or a Dataset; also called ``input_data_file``.

    Returns:
        The rows that pass, in their order, as a view of the dataset: nothing is copied or written.

    Raises:
        InputError: a column is unknown, a value does not fit it, or the filters leave no row.
        MissingInputError: the path leads to nothing.
    """
    with check.naming("input_data"):
        data = open_dataset(input_data)
    if not filter_data:
        return data
    source = MemorySource(data, "input_data")
    filters = make_filters(filter_data, source)
    keep = np.flatnonzero(passing(source, filters))
    if len(keep) == 0:
        held = "; ".join(
            f"column '{f.column}' holds {holdings(data.unique(f.column))}, asked for {holdings(f.allowed.to_pylist())}"
            for f in filters
        )
        raise InputError(f"filter_data leaves none of {len(data)} rows: {held}")
    return _select(data, keep)


@check.public(data=check.dataset, rare_threshold=check.fraction(), state_key=check.word, nproc=check.count(1))
def remove_rare(data: Dataset, rare_threshold: float, state_key: str, nproc: int) -> Dataset:
    """Keep the rows whose value in ``state_key`` makes up at least ``rare_threshold`` of all rows.

    Rows without a value count among all rows, and stay or go together like a value.

    Args:
        data: the rows.
        rare_threshold: share of the rows, between 0 and 1.
        state_key: column with the labels.
        nproc: positive; the work is columnar and its result does not depend on it.

    Returns:
        The rows that stay, in their order.

    Raises:
        InputError: the column is unknown, or no value is frequent enough.
    """
    names, codes = _classes(data, state_key, "state_key")
    common = np.bincount(codes, minlength=len(names)) / max(1, len(codes)) >= rare_threshold
    if len(codes) and not common.any():
        raise InputError(f"rare_threshold {rare_threshold} leaves no value of column '{state_key}'")
    return _select(data, np.flatnonzero(common[codes]))


@check.public(
    data=check.dataset,
    max_ncells=check.optional(check.count(1, check.CAP)),
    max_ncells_per_class=check.optional(check.count(1, check.CAP)),
    cell_state_dict=check.optional(check.settings),
)
def downsample_and_shuffle(
    data: Dataset, max_ncells: int | None, max_ncells_per_class: int | None, cell_state_dict: dict[str, Any]
) -> Dataset:
    """Shuffle, keep at most ``max_ncells`` rows, of these at most ``max_ncells_per_class`` of a class.

    Args:
        data: the rows.
        max_ncells: rows kept at most, or None.
        max_ncells_per_class: rows of a class kept at most, or None.
        cell_state_dict: ``{"state_key": column}`` names the column of the classes.

    Returns:
        The rows that stay, shuffled. The order is the same in every process.

    Raises:
        InputError: ``max_ncells_per_class`` is given, and the column is not named or unknown.
    """
    order = np.argsort(priorities(0, len(data), SEED))[:max_ncells]
    if max_ncells_per_class is not None:
        if "state_key" not in (cell_state_dict or {}):
            raise InputError(f"cell_state_dict must have the key 'state_key', got {check.shown(cell_state_dict)}")
        named = "cell_state_dict['state_key']"
        _, codes = _classes(data, check.word(named, cell_state_dict["state_key"]), named)
        order = order[_rank_in_class(codes[order]) < max_ncells_per_class]
    return _select(data, order)


@check.public(labels=check.items, N=check.count(0, check.CAP))
def subsample_by_class(labels: Sequence[Any], N: int) -> list[int]:  # noqa: N803 - the name is a contract
    """Draw up to ``N`` entries of each label at random, but always the same.

    Args:
        labels: a name or number for each entry.
        N: entries of a label at most.

    Returns:
        Their indices, ascending.

    Raises:
        InputTypeError: a label is neither a name nor a number.
    """
    place: dict[Any, int] = {}
    try:
        numbered = [place.setdefault(label, len(place)) for label in labels]
    except TypeError as error:
        raise InputTypeError(f"labels must be names or numbers, got {check.shown(labels)}: {error}") from error
    codes = np.array(numbered, dtype=np.int64)
    order = np.argsort(priorities(0, len(labels), SEED))
    return np.sort(order[_rank_in_class(codes[order]) < N]).tolist()


@check.public(data=check.dataset, state_key=check.word)
def rename_cols(data: Dataset, state_key: str) -> Dataset:
    """Call the column ``state_key`` ``label``.

    Args:
        data: the rows.
        state_key: the column's name until now.

    Returns:
        The same rows.

    Raises:
        InputError: the column is unknown, or another one is called ``label`` already.
    """
    require_column(MemorySource(data, "data"), state_key, "state_key")
    if state_key == "label":
        return data
    if "label" in data.column_names:
        raise InputError(f"data has a column 'label' beside state_key '{state_key}'; rename or remove it first")
    return data.rename_column(state_key, "label")


@check.public(l=check.nested)
def flatten_list(l: Sequence[Sequence[Any]]) -> list[Any]:  # noqa: E741 - the name is a contract
    """Join sequences.

    Args:
        l: sequences of items.

    Returns:
        The items of the inner sequences, in order.

    Raises:
        InputTypeError: an item of ``l`` is not a sequence.
    """
    return list(chain.from_iterable(l))


@check.public(
    classifier=check.choice("cell", "gene", "sequence", "token"),
    data=check.dataset,
    class_dict=check.optional(check.mapping),
    token_dict_path=check.optional(check.path, or_empty=True),
    nproc=check.count(1),
    overlap=check.overlap,
)
def label_classes(
    classifier: str,
    data: Dataset,
    class_dict: Mapping[str, Sequence[str]] | None,
    token_dict_path: str,
    nproc: int,
    *,
    overlap: Overlap = "error",
) -> tuple[Dataset, dict[str, int]]:
    """Class ids for rows (``cell``, ``sequence``) or for tokens (``gene``, ``token``).

    Args:
        classifier: which of the two.
        data: with a column ``label`` of names, or ``input_ids``.
        class_dict: for tokens, class name to its genes (lists, sets, arrays, columns of tables).
        token_dict_path: for tokens, the vocabulary (pickle or JSON).
        nproc: positive; the work is columnar and its result does not depend on it.
        overlap: what becomes of genes in several classes: ``error``, ``drop`` (no label), ``first`` or ``last`` (the
            class that is written first, or last).

    Genes that are not in the vocabulary are skipped; one warning says how many of each class, and which.

    Returns:
        The dataset, with class ids in ``label``, or lists of them as long as ``input_ids`` in ``labels`` (-100: none),
        without the rows that have no label; and the map from class names to ids.

    Raises:
        InputError: a column is missing, no row has a label, a class has no known gene, or a gene is in two classes.
        UnsafePickleError: the vocabulary asks for more than plain data.
    """
    makers = {"cell": _label_rows, "sequence": _label_rows, "gene": _label_tokens, "token": _label_tokens}
    return makers[classifier](data, class_dict, token_dict_path, overlap)


def _label_rows(
    data: Dataset, class_dict: Any, token_dict_path: str, overlap: Overlap
) -> tuple[Dataset, dict[str, int]]:
    from datasets import Features

    names, codes = _classes(data, "label", "data")
    class_map = classmap.build(name for name in names if name is not None)
    labelled = np.array([name is not None for name in names], dtype=bool)[codes]
    ids = np.array([class_map.get(name or "", -1) for name in names], dtype=np.int64)[codes][labelled]
    feature = Features.from_dict({"label": RowLabels(class_map).feature})["label"]
    kept = data if labelled.all() else _select(data, np.flatnonzero(labelled))
    return _with_column(kept.remove_columns("label"), "label", pa.array(ids), feature), class_map


def _label_tokens(
    data: Dataset, class_dict: Any, token_dict_path: str, overlap: Overlap
) -> tuple[Dataset, dict[str, int]]:
    from datasets import Features

    from ..data import vocabulary

    classes = check.classes("class_dict", class_dict)
    with check.naming("token_dict_path"):
        tokens = vocabulary.read(check.path("token_dict_path", token_dict_path))
    class_map = classmap.build(classes)
    with check.naming("class_dict"):
        genes = gene_classes(classes, tokens, class_map, overlap)
    labelling = TokenLabels(class_map, genes)
    source = MemorySource(data, "data")
    with check.naming("data"):
        check_tokens_column(require_column(source, "input_ids", "token ids"))
    kept, labels, start = [np.empty(0, np.int64)], [], 0
    columns = token_columns(data.column_names)
    for batch in chain.from_iterable(source.read(unit, columns) for unit in source.units):
        check_tokens(batch.column("input_ids"), start)
        some, column = labelling.labelled_rows(batch, labelling.ids(batch))
        kept.append(start + np.flatnonzero(some))
        labels.append(column)
        start += batch.num_rows
    rows = np.concatenate(kept)
    if len(rows) == 0:
        raise InputError(
            "data has no row with a token of any class; are vocabulary and gene names those of the dataset?"
        )
    for remark in genes.remarks():
        warnings.warn(remark, stacklevel=4)
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


def _classes(data: Dataset, column: str, argument: str) -> tuple[list[str | None], np.ndarray]:
    """Names of the column's values, and which of them each row has; ``argument`` says which column."""
    source = MemorySource(data, "data")
    with check.naming(argument):
        check_label_column(require_column(source, column, "the labels"))
    return column_classes(source, column)


def _rank_in_class(codes: np.ndarray) -> np.ndarray:
    """For each entry, how many of its class come before it."""
    order = np.argsort(codes, kind="stable")
    counts = np.bincount(codes)
    rank = np.empty(len(codes), dtype=np.int64)
    rank[order] = np.arange(len(codes)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank
