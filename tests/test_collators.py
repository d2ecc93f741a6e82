"""The public data collators."""

import copy

import numpy as np
import pytest
import torch

from sortase import DataCollatorForCellClassification, DataCollatorForGeneClassification
from sortase.errors import InputError


class Tokenizer:
    """The one thing that a collator asks of a tokenizer."""

    pad_token_id = 7


def features(kind: str) -> list[dict]:
    rows: list[dict] = [{"input_ids": [1, 2, 3]}, {"input_ids": np.array([4])}]
    for number, row in enumerate(rows):
        row["label" if kind == "cell" else "labels"] = number if kind == "cell" else [number] * len(row["input_ids"])
    return rows


def test_cells_are_padded_to_max_length_by_default() -> None:
    batch = DataCollatorForCellClassification(Tokenizer())(features("cell"))
    assert batch["input_ids"].shape == (2, 2048)
    assert batch["attention_mask"].sum(1).tolist() == [3, 1]
    assert batch["labels"].tolist() == [0, 1]
    assert {t.dtype for t in batch.values()} == {torch.int64}


def test_genes_are_padded_with_their_labels() -> None:
    batch = DataCollatorForGeneClassification(Tokenizer())(features("gene"))
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, 7, 7]]
    assert batch["labels"].tolist() == [[0, 0, 0], [1, -100, -100]]


def test_genes_are_cut_with_their_labels_and_a_warning_once() -> None:
    collator = DataCollatorForGeneClassification(Tokenizer(), max_length=2)
    with pytest.warns(UserWarning, match="3 tokens is cut to max_length=2"):
        batch = collator(features("gene"))
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 2)
    collator(features("gene"))  # a second warning would be an error


@pytest.mark.parametrize("kind", ["cell", "gene"])
def test_features_stay_as_they_are(kind: str) -> None:
    given = features(kind)
    before = copy.deepcopy(given)
    collators = {"cell": DataCollatorForCellClassification, "gene": DataCollatorForGeneClassification}
    collators[kind](Tokenizer(), padding="longest", max_length=8)(given)
    assert repr(given) == repr(before)


@pytest.mark.parametrize("kind", ["cell", "gene"])
def test_unlabelled_features_give_no_labels(kind: str) -> None:
    collators = {"cell": DataCollatorForCellClassification, "gene": DataCollatorForGeneClassification}
    batch = collators[kind](Tokenizer(), padding="longest", max_length=8)([{"input_ids": [1]}, {"input_ids": [2, 3]}])
    assert set(batch) == {"input_ids", "attention_mask"}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"padding": "longer"}, id="padding"),
        pytest.param({"padding": "max_length", "max_length": None}, id="no length"),
        pytest.param({"max_length": 0}, id="length 0"),
        pytest.param({"return_tensors": "tf"}, id="tensors"),
    ],
)
def test_bad_settings_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError):
        DataCollatorForGeneClassification(Tokenizer(), **arguments)


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="3 tokens and 1 labels"):
        DataCollatorForGeneClassification(Tokenizer())([{"input_ids": [1, 2, 3], "labels": [0]}])
