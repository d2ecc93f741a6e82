"""Class maps: name to id, ids 0..n-1, as `{prefix}_id_class_dict.pkl` with a JSON twin."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import storage
from ..errors import InputError
from ..storage import pickles

if TYPE_CHECKING:
    from datasets import Dataset

_DESCRIPTION = "Class ids of the token labels: "
_INTEGER = re.compile(r"-?\d+")
_PREPARED = re.compile(r"_labeled(?:_train|_test)?\.dataset/*$")  # Geneformer's prepare_data makes one or two of them


def build(names: Iterable[str]) -> dict[str, int]:
    """Ids in sorted order of the names; numerically when all of them are integers."""
    unique = set(names)
    if all(_INTEGER.fullmatch(name) for name in unique):
        return {name: i for i, name in enumerate(sorted(unique, key=lambda name: (int(name), name)))}
    return {name: i for i, name in enumerate(sorted(unique))}


def check(mapping: Mapping[Any, Any]) -> dict[str, int]:
    """The mapping with text names and plain ids, in order of the ids, which must be 0..n-1."""
    wrong = [value for value in mapping.values() if isinstance(value, bool) or not isinstance(value, int | np.integer)]
    if wrong:
        raise InputError(f"class ids must be integers, got {wrong[0]!r}")
    ids = sorted(int(value) for value in mapping.values())
    if ids != list(range(len(ids))):
        raise InputError(
            f"class ids must be 0 to {len(ids) - 1}, each once, for {len(ids)} classes; got {_some(ids)}. "
            "Number the classes anew, or leave the mapping out"
        )
    names = {str(name): int(value) for name, value in sorted(mapping.items(), key=lambda item: item[1])}
    if len(names) != len(mapping):
        raise InputError(f"class names must differ as text; got {_some(list(mapping))}")
    return names


def _some(values: list[Any], most: int = 12) -> str:
    return ", ".join(repr(value) for value in values[:most]) + (", ..." if len(values) > most else "")


def _forward(content: Any, name: str) -> dict[str, int]:
    """Accept name→id and id→name; JSON turns the ids of the latter into text."""
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{name} must hold a class map (name to id), not {type(content).__name__} {content!r:.80}")
    if all(isinstance(value, str) for value in content.values()):
        if not all(_INTEGER.fullmatch(str(key)) for key in content):
            raise InputError(f"{name} maps text to text; expected class name to id, or id to class name")
        if len(set(content.values())) != len(content):
            raise InputError(f"{name} gives two ids to one class name")
        return check({value: int(key) for key, value in content.items()})
    return check(content)


def read(url: str) -> dict[str, int]:
    """Read name→id from a pickle or JSON file that holds either direction."""
    content = storage.read_json(url) if url.endswith(".json") else pickles.load(url)
    return _forward(content, url)


def beside(dataset: str, kind: str = "pkl") -> str | None:
    """The file beside a prepared dataset that holds its class map, ``kind`` ``pkl`` or ``json``; None for a dataset
    whose name says that it was not prepared, and where there is no such file."""
    url, prepared = _PREPARED.subn(f"_id_class_dict.{kind}", dataset)
    return url if prepared and storage.exists(url) else None


def write(directory: str, prefix: str, class_map: Mapping[str, int]) -> tuple[str, str]:
    """Write the pickle and its JSON twin; returns their paths."""
    checked = check(class_map)
    pickle_url = storage.join(directory, f"{prefix}_id_class_dict.pkl")
    json_url = storage.join(directory, f"{prefix}_id_class_dict.json")
    pickles.dump(pickle_url, checked)
    storage.write_json(json_url, checked)
    return pickle_url, json_url


def describe(class_map: Mapping[str, int]) -> str:
    """The words of a dataset's description in which the classes of token labels travel."""
    return _DESCRIPTION + json.dumps(check(class_map), ensure_ascii=False)


def of_dataset(dataset: Dataset, column: str) -> dict[str, int] | None:
    """The class map that a dataset carries itself for the labels in ``column``: a ClassLabel of rows or tokens, or what
    `describe` made for lists. None when it carries none."""
    feature: Any = dataset.features.get(column)
    lists = hasattr(feature, "feature") or isinstance(feature, list)
    names = getattr(getattr(feature, "feature", feature), "names", None)
    if names:
        return check({name: i for i, name in enumerate(names)})
    if not lists:
        return None
    for line in (dataset.info.description or "").splitlines():
        if line.startswith(_DESCRIPTION):
            return _forward(json.loads(line.removeprefix(_DESCRIPTION)), "the dataset's description")
    return None
