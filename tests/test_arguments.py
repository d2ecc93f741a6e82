"""Every argument of every public function, tried with values of every wrong kind."""

from __future__ import annotations

import math
import numbers
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import HealthCheck, given, settings

import sortase
from odd_values import CELLS, GENERATED, ODD
from sortase import SortaseError

TRIED = settings(
    derandomize=True, deadline=None, max_examples=12, suppress_health_check=list(HealthCheck), database=None
)
Fits = Callable[[Any], bool]


def is_whole(value: Any, least: int = 0) -> bool:
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return False
    return bool(value >= least and value < 2**63 and value == math.floor(value))


def is_fraction(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and bool(0 <= value <= 1)


def is_text(value: Any) -> bool:
    return isinstance(value, str)


def is_path(value: Any) -> bool:
    text = str(value)
    return isinstance(value, str | Path) and text.strip() != "" and text.isprintable()


def is_dataset(value: Any) -> bool:
    return isinstance(value, Dataset)


def is_rows(value: Any) -> bool:
    return isinstance(value, Dataset) and len(value) > 0


def is_flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def is_dict(value: Any) -> bool:
    return isinstance(value, Mapping)


def is_list(value: Any) -> bool:
    known = isinstance(value, list | tuple | range | np.ndarray) or hasattr(value, "iloc") or isinstance(value, Dataset)
    return known and getattr(value, "ndim", 1) == 1


def no_value(value: Any) -> bool:
    return False


def or_none(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def of(*allowed: str) -> Fits:
    return lambda value: isinstance(value, str) and value in allowed


count, more = is_whole, lambda value: is_whole(value, 1)
KIND = of("sequence", "token", "cell", "gene")
ANY_DICT = or_none(is_dict)

# What may be right for an argument; everything else has to be refused, and these may be, for what they hold.
FITS: dict[str, dict[str, Fits]] = {
    "build_custom_tokenizer": {"token_dict_path": is_path, "pad_token": is_text, "mask_token": is_text},
    "load_and_filter": {
        "filter_data": ANY_DICT,
        "nproc": more,
        "input_data": lambda value: is_path(value) or is_rows(value),
    },
    "remove_rare": {"data": is_dataset, "rare_threshold": is_fraction, "state_key": is_text, "nproc": more},
    "downsample_and_shuffle": {
        "data": is_dataset,
        "max_ncells": or_none(more),
        "max_ncells_per_class": or_none(more),
        "cell_state_dict": is_dict,
    },
    "subsample_by_class": {"labels": is_list, "N": count},
    "rename_cols": {"data": is_dataset, "state_key": is_text},
    "flatten_list": {"l": is_list},
    "label_classes": {
        "classifier": KIND,
        "data": is_dataset,
        "class_dict": is_dict,
        "token_dict_path": is_path,
        "nproc": more,
    },
    "predict_from_checkpoint": {
        "model_dir": is_path,
        "dataset_path": lambda value: is_path(value) or is_rows(value),
        "classifier_type": KIND,
        "batch_size": more,
        "num_workers": count,
        "return_logits": is_flag,
    },
    "GenericClassifier": {
        "metadata_column": is_text,
        "classifier_type": KIND,
        "gene_class_dict": or_none(lambda value: is_dict(value) or is_path(value)),
        "label_mapping": ANY_DICT,
        "token_dictionary_file": or_none(is_path),
        "filter_data": ANY_DICT,
        "rare_threshold": is_fraction,
        "max_examples": or_none(more),
        "max_examples_per_class": or_none(more),
        "training_args": ANY_DICT,
        "ray_config": ANY_DICT,
        "freeze_layers": count,
        "forward_batch_size": more,
        "nproc": more,
        "seed": or_none(count),
        "replace": is_flag,
        "compute": ANY_DICT,
    },
}


def write_vocabulary(folder: Path) -> str:
    path = folder / "vocabulary.pkl"
    path.write_bytes(pickle.dumps({"<pad>": 0, "<mask>": 1, **{f"G{i}": i for i in range(2, 60)}}))
    return str(path)


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """By function, arguments with which it succeeds."""
    folder = tmp_path_factory.mktemp("right")
    vocabulary = write_vocabulary(folder)
    genes = {"low": ["G5"], "high": ["G6", "G7"]}
    return {
        "build_custom_tokenizer": {"token_dict_path": vocabulary},
        "load_and_filter": {"filter_data": {"kind": ["a"]}, "nproc": 1, "input_data": CELLS},
        "remove_rare": {"data": CELLS, "rare_threshold": 0.1, "state_key": "kind", "nproc": 1},
        "downsample_and_shuffle": {
            "data": CELLS,
            "max_ncells": 4,
            "max_ncells_per_class": 2,
            "cell_state_dict": {"state_key": "kind"},
        },
        "subsample_by_class": {"labels": ["a", "b"], "N": 1},
        "rename_cols": {"data": CELLS, "state_key": "kind"},
        "flatten_list": {"l": [[1], [2]]},
        "label_classes": {
            "classifier": "gene",
            "data": CELLS,
            "class_dict": genes,
            "token_dict_path": vocabulary,
            "nproc": 1,
        },
        "GenericClassifier": {
            "metadata_column": "kind",
            "gene_class_dict": genes,
            "token_dictionary_file": vocabulary,
        },
    }


def check(function: Callable[..., Any], argument: str, arguments: dict[str, Any], value: Any, fits: Fits) -> bool:
    """Whether the value was refused, in words that name the argument and the value."""
    try:
        function(**{**arguments, argument: value})
    except SortaseError as error:
        message = str(error)
        assert re.search(rf"\b{argument}\b", message), f"{argument} is not named: {message}"
        assert len(message) < 1000 or len(str(value)) > 1000, message
        if value is None or (isinstance(value, bool | int) and abs(value) < 100):
            assert repr(value) in message, f"{value!r} is not shown: {message}"
        return True
    assert fits(value), f"{argument}={value!r} passed"
    return False


@pytest.mark.parametrize(
    ("function", "argument"),
    [(f, a) for f, arguments in FITS.items() for a in arguments if f != "predict_from_checkpoint"],
)
def test_wrong_values_are_refused_by_name(function: str, argument: str, right: dict[str, dict[str, Any]]) -> None:
    target, fits = getattr(sortase, function), FITS[function][argument]
    refused = [check(target, argument, right[function], value, fits) for value in ODD]
    assert any(refused)

    @TRIED
    @given(GENERATED)
    def generated(value: Any) -> None:
        check(target, argument, right[function], value, fits)

    generated()


def test_an_argument_is_named_as_it_was_passed() -> None:
    with pytest.raises(SortaseError, match=r"^input_data_file must be"):
        sortase.load_and_filter(None, 1, input_data_file=3)
    with pytest.raises(SortaseError, match=r"^input_data must be"):
        sortase.load_and_filter(None, 1, input_data=3)
