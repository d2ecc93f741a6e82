"""Datasets that are labelled already, by `prepare` or elsewhere: where their labels are and which classes they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import InputError, InputTypeError
from . import classmap
from .sequences import IGNORED, label_column

if TYPE_CHECKING:
    from datasets import Dataset


def class_map(dataset: Dataset, usual: str, mapping: Mapping[str, int] | None = None) -> dict[str, int]:
    """Name to id: as the dataset says it (a ClassLabel, or the description that `prepare` writes), else ``mapping``,
    else the ids themselves as names.

    ``usual`` is ``label`` where rows have labels, ``labels`` where tokens have them.

    Raises InputError for labels that are no ids 0..n-1, and for a ``mapping`` that is not the dataset's own.
    """
    column = label_column(dataset.column_names, usual)
    _check(dataset, column, tokens=usual == "labels")
    own = classmap.of_dataset(dataset, column)
    if own is not None:
        if mapping is not None and dict(mapping) != own:
            raise InputError(f"label_mapping has {dict(mapping)}, the dataset's own classes are {own}")
        return own
    ids = _ids(dataset, column)
    if mapping is not None:
        wrong = [number for number in ids if not 0 <= number < len(mapping)]
        if wrong:
            raise InputError(
                f"column '{column}' has the label {wrong[0]}, and label_mapping has the ids 0 to {len(mapping) - 1}; "
                "give it a name for each id, or leave out the rows"
            )
        return dict(mapping)
    return _named_by_ids(ids, column)


def _named_by_ids(ids: Sequence[int], column: str) -> dict[str, int]:
    ways = (
        "say with label_mapping ({name: id}) which classes there are, or number the labels anew with prepare_data "
        f"(metadata_column='{column}')"
    )
    if ids and ids[0] < 0:
        raise InputError(f"column '{column}' has the label {ids[0]}; ids of classes are 0, 1, 2, ...: {ways}")
    if len(ids) < 2:
        held = f"only the label {ids[0]}" if ids else "no label"
        raise InputError(f"column '{column}' has {held}; a classifier needs at least two classes")
    lacking = next((place for place, number in enumerate(ids) if place != number), None)
    if lacking is not None:
        raise InputError(
            f"column '{column}' has labels up to {ids[-1]} and none with the id {lacking}; without names, ids must "
            f"be 0 to n-1: {ways}"
        )
    return {str(number): number for number in ids}


def _check(dataset: Dataset, column: str, tokens: bool) -> None:
    """Refuse a column that does not hold ids of this kind."""
    if column not in dataset.column_names:
        others = ", ".join(map(repr, sorted(set(dataset.column_names) - {"input_ids"})))
        raise InputError(
            f"the dataset has no column '{column}' of labels, only {others or 'token ids'}; prepare_data makes it from "
            "the column that metadata_column names"
        )
    kind = _table(dataset).schema.field(column).type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if lists != tokens:
        what = "lists, one label for each token: that is" if lists else "one label for each row: that is"
        fitting = "classifier_type 'token'" if lists else "classifier_type 'sequence'"
        raise InputTypeError(f"column '{column}' holds {what} for {fitting}")
    inner = kind.value_type if lists else kind
    if not pa.types.is_integer(inner):
        _refuse_kind(column, inner)


def _refuse_kind(column: str, kind: pa.DataType) -> NoReturn:
    raise InputTypeError(
        f"column '{column}' holds labels of type {kind}; training takes ids (whole numbers) or a ClassLabel. "
        f"prepare_data with metadata_column='{column}' numbers names, truth values and whole numbers of any type"
    )


def _ids(dataset: Dataset, column: str) -> list[int]:
    """Distinct labels in ascending order, without -100 in lists."""
    found: set[int] = set()
    for chunk in dataset.select_columns(column).with_format("arrow").iter(batch_size=10_000):
        values = chunk.column(0).combine_chunks()
        lists = not pa.types.is_integer(values.type)
        flat = pc.unique(values.flatten() if lists else values)
        if values.null_count or flat.null_count:
            raise InputError(
                f"column '{column}' has missing labels (null): -100 marks tokens without one, rows without one must go"
            )
        found |= {int(number) for number in np.asarray(flat) if not (lists and number == IGNORED)}
    return sorted(found)


def _table(dataset: Dataset) -> Any:
    return dataset.data.table if hasattr(dataset.data, "table") else dataset.data
