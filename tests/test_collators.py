"""The public data collators."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertTokenizerFast, DataCollatorForTokenClassification, DataCollatorWithPadding

from sortase import DataCollatorForCellClassification, DataCollatorForGeneClassification
from sortase.errors import InputError, SortaseError


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
    with pytest.raises(InputError, match="feature 0 has 3 tokens and 1 values in 'labels'"):
        DataCollatorForGeneClassification(Tokenizer())([{"input_ids": [1, 2, 3], "labels": [0]}])


TEXTS = ["the cat sat", "dogs", "a bird in the hand"]


def real_tokenizer(side: str = "right", **settings: Any) -> BertTokenizerFast:
    words = dict.fromkeys(" ".join(TEXTS).split())
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words])}
    made = BertTokenizerFast(vocab=vocabulary, **settings)
    made.padding_side = side
    return made


def encoded(tokenizer: Any, kind: str, container: Any, given: str, masked: bool) -> list[dict[str, Any]]:
    """Features as ``tokenizer`` makes them, with token types; labels in ``given``."""
    found = []
    for number, text in enumerate(TEXTS):
        made = dict(tokenizer(text, text))
        if not masked:
            del made["attention_mask"]
        length = len(made["input_ids"])
        label = number if kind == "cell" else [(number + i) % 3 for i in range(length)]
        found.append({name: container(values) for name, values in made.items()} | {given: container(label)})
    return found


def assert_same(ours: Any, theirs: Any) -> None:
    assert set(ours) == set(theirs)
    for name, values in theirs.items():
        assert type(ours[name]) is type(values), name
        assert ours[name].dtype == values.dtype, name
        assert np.array_equal(np.asarray(ours[name]), np.asarray(values)), name


CONTAINERS = [
    pytest.param(lambda values: values, id="lists"),
    pytest.param(np.array, id="arrays"),
    pytest.param(torch.tensor, id="tensors"),
]


@pytest.mark.filterwarnings("ignore:.*__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("masked", [True, False], ids=["with masks", "without masks"])
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"padding": "longest"}, id="longest"),
        pytest.param({"padding": True}, id="True"),
        pytest.param({"padding": "max_length", "max_length": 20}, id="max_length"),
        pytest.param({"padding": "longest", "pad_to_multiple_of": 8}, id="multiple"),
        pytest.param({"padding": "max_length", "max_length": 15, "pad_to_multiple_of": 8}, id="multiple of max_length"),
    ],
)
def test_batches_are_those_of_transformers(container: Any, side: str, masked: bool, settings: dict[str, Any]) -> None:
    tokenizer = real_tokenizer(side)
    cells = encoded(tokenizer, "cell", container, "label", masked)
    assert_same(
        DataCollatorForCellClassification(tokenizer, **{"max_length": 99} | settings)(cells),
        DataCollatorWithPadding(tokenizer, **settings)(cells),
    )
    genes = encoded(tokenizer, "gene", container, "labels", masked)
    for tensors in ("pt", "np"):
        ours = DataCollatorForGeneClassification(tokenizer, return_tensors=tensors, **settings)
        theirs = DataCollatorForTokenClassification(tokenizer, return_tensors=tensors, **settings)
        assert_same(ours(genes), theirs(genes))


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_features_keep_their_masks(side: str) -> None:
    tokenizer = real_tokenizer(side)
    padded = tokenizer(TEXTS, padding="longest")
    features = [dict(zip(padded, row, strict=True)) for row in zip(*padded.values(), strict=True)]
    ours = DataCollatorForGeneClassification(tokenizer, pad_to_multiple_of=16)(features)
    assert_same(ours, DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=16)(features))
    assert ours["attention_mask"].sum(1).tolist() == [5, 3, 7]


@pytest.mark.parametrize("name", ["label", "labels", "label_ids"])
def test_labels_of_cells_have_the_names_of_transformers(name: str) -> None:
    features = encoded(real_tokenizer(), "cell", lambda values: values, name, True)
    batch = DataCollatorForCellClassification(real_tokenizer(), "longest")(features)
    assert batch["labels"].tolist() == [0, 1, 2]


def test_a_batch_of_a_dataset_is_taken() -> None:
    columns = {"input_ids": [[1, 2], [3]], "label": [1, 0], "donor": ["a", "b"]}
    batch = DataCollatorForCellClassification(Tokenizer(), "longest")(columns)  # type: ignore[arg-type]
    assert batch["input_ids"].tolist() == [[1, 2], [3, 7]]
    assert batch["labels"].tolist() == [1, 0]
    assert set(batch) == {"input_ids", "attention_mask", "labels"}


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_too_long_gives_up_its_padding_first(side: str) -> None:
    """Without a warning: no token is lost."""
    ids, mask, labels = [0, 0, 0, 4, 5, 6], [0, 0, 0, 1, 1, 1], [-100, -100, -100, 0, 1, 2]
    if side == "right":
        ids, mask, labels = ids[::-1], mask[::-1], labels[::-1]
    feature = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    batch = DataCollatorForGeneClassification(Tokenizer(), max_length=4)([feature])
    expected = {"left": [0, 4, 5, 6], "right": [6, 5, 4, 0]}
    assert batch["input_ids"].tolist() == [expected[side]]
    assert sorted(batch["labels"][0].tolist()) == [-100, 0, 1, 2]


def test_lists_of_the_features_are_not_shared() -> None:
    given = features("gene")
    batch = DataCollatorForGeneClassification(Tokenizer())(given)
    batch["input_ids"].fill_(0)
    batch["labels"].fill_(0)
    assert given[1]["input_ids"].tolist() == [4] and given[0]["labels"] == [0, 0, 0]
    single = torch.tensor([1, 2])
    DataCollatorForGeneClassification(Tokenizer())([{"input_ids": single}])["input_ids"].fill_(0)
    assert single.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param([], "at least one", id="none"),
        pytest.param([[1, 2]], "features must be dicts", id="lists"),
        pytest.param([{"tokens": [1]}], r"must have 'input_ids', got \['tokens'\]", id="no ids"),
        pytest.param([{"input_ids": [1]}, {"label": 0}], "feature 1 has no 'input_ids', others have", id="one without"),
        pytest.param([{"input_ids": [1], "label": 0}, {"input_ids": [1]}], "feature 1 has no 'label'", id="labels"),
        pytest.param([{"input_ids": ["a"]}], "'input_ids' of feature 0 must be a list of whole numbers", id="text"),
        pytest.param([{"input_ids": [[1], [2]]}], "'input_ids' of feature 0 must be a list of", id="nested"),
        pytest.param([{"input_ids": [[1], [2, 3]]}], "'input_ids' of feature 0 must", id="ragged"),
        pytest.param(
            [{"input_ids": [1.5]}], "'input_ids' of feature 0 must be a list of whole numbers", id="fractions"
        ),
        pytest.param([{"input_ids": [1], "label": 0.5}], "'label' of feature 0 must be a whole number", id="half"),
        pytest.param([{"input_ids": [1], "label": "B"}], "'label' of feature 0 must be a whole number", id="name"),
        pytest.param(
            [{"input_ids": [1, 2], "attention_mask": [1]}], "2 tokens and 1 values in 'attention_mask'", id="mask"
        ),
    ],
)
def test_features_that_are_none_are_refused(given: Any, words: str) -> None:
    with pytest.raises(SortaseError, match=words):
        DataCollatorForCellClassification(Tokenizer(), "longest")(given)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"tokenizer": None}, "tokenizer must be a tokenizer", id="no tokenizer"),
        pytest.param({"padding": None}, "unknown padding None", id="padding"),
        pytest.param({"max_length": "9"}, "max_length must be a whole number", id="length"),
        pytest.param({"pad_to_multiple_of": 0}, "pad_to_multiple_of must be a whole number", id="multiple"),
        pytest.param({"label_pad_token_id": "x"}, "label_pad_token_id must be a whole number", id="label"),
    ],
)
def test_arguments_of_the_wrong_kind_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SortaseError, match=words):
        DataCollatorForGeneClassification(**{"tokenizer": Tokenizer()} | arguments)
