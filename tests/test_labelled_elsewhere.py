"""Datasets that something else has labelled train, and are scored, without prepare_data."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, List, Value
from transformers import AutoConfig, AutoModelForSequenceClassification, BertTokenizerFast

from makers import architecture, rows
from prepare_data import tree
from sortase import GenericClassifier, predict_from_checkpoint
from sortase.data.labelled import class_map
from sortase.errors import InputError, InputTypeError, SortaseError

NAMES = ["B", "NK", "T"]
ARGUMENTS = {"num_train_epochs": 1, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pretrained")
    config = AutoConfig.for_model(**architecture())
    AutoModelForSequenceClassification.from_config(config).base_model.save_pretrained(folder)
    return str(folder)


def cells(n: int = 60, name: str = "label", feature: Any = None) -> Dataset:
    """As Geneformer's classifier leaves them: ids of the classes in a column."""
    ids = rows(n)
    data = Dataset.from_dict({"input_ids": ids, name: [row[0] - 5 for row in ids], "length": [len(row) for row in ids]})
    return data if feature is None else data.cast_column(name, feature)


def tokens(n: int = 60, feature: Any = None) -> Dataset:
    ids = rows(n)
    data = Dataset.from_dict({"input_ids": ids, "labels": [[t % 3 if t % 2 else -100 for t in row] for row in ids]})
    return data if feature is None else data.cast_column("labels", List(feature))


def classifier(kind: str = "sequence", **settings: Any) -> GenericClassifier:
    return GenericClassifier("cell_type", kind, training_args=ARGUMENTS, compute={"device": "cpu"}, nproc=1, **settings)


def saved(data: Dataset, folder: Path, name: str = "labelled") -> str:
    data.save_to_disk(str(folder / name))
    return str(folder / name)


@pytest.mark.parametrize(
    ("kind", "data", "settings", "expected"),
    [
        pytest.param(
            "sequence",
            cells(name="labels"),
            {"label_mapping": {"a": 2, "b": 0, "c": 1}},
            ["b", "c", "a"],
            id="ids with a mapping, called labels",
        ),
        pytest.param("sequence", cells(), {}, ["0", "1", "2"], id="ids alone"),
        pytest.param("token", tokens(feature=ClassLabel(names=NAMES)), {}, NAMES, id="ClassLabel of tokens"),
        pytest.param(
            "token", tokens(), {"label_mapping": {"x": 1, "y": 0, "z": 2}}, ["y", "x", "z"], id="ids of tokens, mapping"
        ),
    ],
)
def test_training_and_scoring(
    kind: str, data: Dataset, settings: dict[str, Any], expected: list[str], tmp_path: Path, checkpoint: str
) -> None:
    path, made = saved(data, tmp_path), classifier(kind, **settings)
    trainer = made.train(checkpoint, path, str(tmp_path / "out"))
    assert trainer.model.config.label2id == {name: i for i, name in enumerate(expected)}
    scored = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert scored["classes"] == expected
    metrics = made.evaluate(str(tmp_path / "out"), path, None, str(tmp_path / "scores"))  # type: ignore[arg-type]
    column = "labels" if "labels" in data.column_names else "label"
    counted = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    labels = np.concatenate([np.atleast_1d(row) for row in data[column]])
    found = np.array(counted["confusion_matrix"]).sum(1).tolist()
    assert found == np.bincount(labels[labels >= 0]).tolist()
    assert trainer.evaluate(data)["eval_accuracy"] == pytest.approx(metrics["eval_accuracy"])


def test_an_evaluation_dataset_in_memory(tmp_path: Path, checkpoint: str) -> None:
    path = saved(cells(feature=ClassLabel(names=NAMES)), tmp_path)
    test = cells(40).select(range(5, 30))
    classifier().train(checkpoint, path, str(tmp_path / "out"), eval_dataset=test)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"] == 25


TEXTS = ["the cat sat", "the dog ran off", "a bird", "dogs bark", "cats sleep all day", "birds sing"] * 10


def tokenizer() -> BertTokenizerFast:
    words = dict.fromkeys(" ".join(TEXTS).split())
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(vocabulary)})


@pytest.mark.parametrize("side", ["right", "left"])
def test_what_a_tokenizer_has_padded(side: str, tmp_path: Path, checkpoint: str) -> None:
    """As run_ner.py prepares it, padded to one length: masks, types of tokens, -100 at special tokens."""
    made = tokenizer()
    made.padding_side = side
    encoded = made([text.split() for text in TEXTS], is_split_into_words=True, padding="max_length", max_length=10)
    labels = [[-100 if word is None else word % 2 for word in encoded.word_ids(number)] for number in range(len(TEXTS))]
    data = Dataset.from_dict({**encoded, "labels": labels}).cast_column(
        "labels", List(ClassLabel(names=["even", "odd"]))
    )
    path = saved(data, tmp_path)
    classifier("token").train(checkpoint, path, str(tmp_path / "out"), split={"validation_size": 0.0})
    ids = predict_from_checkpoint(str(tmp_path / "out"), path, "token")
    assert len(ids) == sum(len(text.split()) + 2 for text in TEXTS)
    scored = pickle.loads((tmp_path / "out" / "predictions.pkl").read_bytes())
    assert len(scored["labels"]) == sum(len(TEXTS[row].split()) for row in set(scored["rows"]))


def column(values: list[Any], name: str = "label", feature: Any = None) -> Dataset:
    data = Dataset.from_dict({"input_ids": [[5, 6]] * len(values), name: values})
    return data if feature is None else data.cast_column(name, feature)


WAYS = r"label_mapping \({name: id}\).*prepare_data \(metadata_column='labels?'\)"
REFUSED = [
    pytest.param("label", column([0, 2, 3]), f"labels up to 3 and none with the id 1; .*{WAYS}", id="gap"),
    pytest.param("label", column([1, 2]), f"none with the id 0; .*{WAYS}", id="from 1"),
    pytest.param("label", column([0, 10**12]), "none with the id 1", id="identifiers"),
    pytest.param("label", column([-1, 0, 1]), f"has the label -1; .*{WAYS}", id="negative"),
    pytest.param("label", column([-100, 0, 1]), "has the label -100", id="-100 of a row"),
    pytest.param("label", column([1, 1]), "only the label 1; .* at least two", id="one class"),
    pytest.param("label", column([0, None]), "missing labels", id="null"),
    pytest.param("label", column([0.0, 1.0]), "labels of type double; .* prepare_data with metadata", id="float"),
    pytest.param("label", column(["a", "b"]), "labels of type string; .* prepare_data with metadata", id="text"),
    pytest.param("label", column([True, False]), "labels of type bool; .* prepare_data with metadata", id="bool"),
    pytest.param("label", column(["a", "b"], "cell_type"), r"no column 'label' of labels, only 'cell_type'", id="none"),
    pytest.param("label", column([[0, 1], [1, 0]], "labels"), "lists.*classifier_type 'token'", id="lists for rows"),
    pytest.param("labels", column([0, 1]), "one label for each row: .* 'sequence'", id="numbers for tokens"),
    pytest.param("labels", column([[0, 2], [2, 0]], "labels"), f"none with the id 1; .*{WAYS}", id="gap in lists"),
    pytest.param("labels", column([[0, -1], [1, 0]], "labels"), "has the label -1", id="negative in lists"),
    pytest.param("labels", column([[-100, -100]] * 2, "labels"), "has no label", id="no label"),
    pytest.param("labels", column([["a", "b"]] * 2, "labels"), "labels of type string; .*'labels'", id="text lists"),
    pytest.param("labels", column([[0, None], [1, 0]], "labels"), "missing labels", id="null in lists"),
]


@pytest.mark.parametrize(("usual", "data", "words"), REFUSED)
def test_labels_that_are_no_ids(usual: str, data: Dataset, words: str) -> None:
    with pytest.raises((InputError, InputTypeError), match=f"(?s){words}"):
        class_map(data, usual)


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        pytest.param(
            cells(), {"label_mapping": {"a": 0, "b": 1}}, "label 2, and label_mapping has the ids 0 to 1", id="few"
        ),
        pytest.param(
            cells(feature=ClassLabel(names=NAMES)),
            {"label_mapping": {"B": 0, "T": 1, "NK": 2}},
            "label_mapping has .*'T': 1.*own classes are .*'T': 2",
            id="other than the ClassLabel",
        ),
        pytest.param(column([0, 2, 3] * 9), {}, "none with the id 1", id="gap"),
        pytest.param(column([1.5, 2] * 9), {}, "labels of type double", id="measurements"),
    ],
)
def test_refusals_leave_nothing_behind(
    data: Dataset, settings: dict[str, Any], words: str, tmp_path: Path, checkpoint: str
) -> None:
    with pytest.raises(SortaseError, match=words):
        classifier(**settings).train(checkpoint, saved(data, tmp_path), str(tmp_path / "out"))
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize(
    ("test", "words"),
    [
        pytest.param(cells(feature=ClassLabel(names=["T", "B", "NK"])), "eval_dataset has the classes", id="other ids"),
        pytest.param(cells(feature=ClassLabel(names=[*NAMES, "Z"])), "eval_dataset has the classes", id="more classes"),
        pytest.param(column([0, 3]), "label 3, but there are 3 classes", id="an id too many"),
        pytest.param(column(["B", "T"]), "holds string|of type string", id="names"),
    ],
)
def test_evaluation_datasets_of_other_classes_are_refused(
    test: Dataset, words: str, tmp_path: Path, checkpoint: str
) -> None:
    path = saved(cells(feature=ClassLabel(names=NAMES)), tmp_path)
    with pytest.raises(SortaseError, match=words):
        classifier().train(checkpoint, path, str(tmp_path / "out"), eval_dataset=test)
    assert tree(tmp_path / "out") == {}


def test_prepared_tokens_keep_their_classes_beside_a_label_of_rows(tmp_path: Path) -> None:
    """A ClassLabel ``label`` of the rows says nothing of the tokens' classes, which the description tells."""
    ids = rows(30)
    data = Dataset.from_dict({"input_ids": ids, "label": [i % 2 for i in range(30)]})
    data = data.cast_column("label", ClassLabel(names=["ill", "well"]))
    (tmp_path / "v.json").write_text(json.dumps({f"G{i}": i for i in range(60)}))
    genes = {"odd": [f"G{i}" for i in range(9, 60, 2)], "even": [f"G{i}" for i in range(8, 60, 2)]}
    made = GenericClassifier("label", "token", genes, token_dictionary_file=str(tmp_path / "v.json"), nproc=1)
    path, _ = made.prepare_data(data, str(tmp_path / "data"), "t")
    assert class_map(Dataset.load_from_disk(path), "labels") == {"even": 0, "odd": 1}


def test_integers_of_any_width_are_ids() -> None:
    for kind in ("int8", "uint8", "int16", "uint64"):
        assert class_map(column([0, 1], feature=Value(kind)), "label") == {"0": 0, "1": 1}


def test_the_trainer_predicts_padded_rows_where_their_tokens_are(tmp_path: Path, checkpoint: str) -> None:
    made, data = classifier("token"), tokens()
    width = max(map(len, data["input_ids"]))
    padded = Dataset.from_dict(
        {
            "input_ids": [[0] * (width - len(row)) + row for row in data["input_ids"]],
            "attention_mask": [[0] * (width - len(row)) + [1] * len(row) for row in data["input_ids"]],
            "labels": [[-100] * (width - len(row)) + row for row in data["labels"]],
        }
    )
    trainer = made.train(checkpoint, saved(padded, tmp_path), str(tmp_path / "out"))
    found = trainer.predict(padded)
    assert found.label_ids.tolist() == padded["labels"]
    stock = trainer.model(
        **{name: torch.tensor(padded[name][:4]) for name in ("input_ids", "attention_mask")}
    ).logits.detach()
    inside = np.array(padded["attention_mask"][:4]) == 1
    np.testing.assert_allclose(found.predictions[:4][inside], stock.numpy()[inside], atol=1e-5)
