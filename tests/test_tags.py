"""Labels that the data have for each token: columns of lists, as token classification in transformers has them."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from datasets import ClassLabel, Dataset, Features, List, Value, load_from_disk

from makers import architecture, rows
from prepare_data import tree
from sortase import GenericClassifier, predict_from_checkpoint
from sortase.cli import main
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.config.run import Config
from sortase.data import classmap
from sortase.errors import ConfigError, InputError, InputTypeError, SortaseError
from sortase.model.task import TASKS
from sortase.prepare.prepare import prepare
from sortase.retrain.evaluation_set import frozen_set

# The first sentences of CoNLL-2003 (Tjong Kim Sang and De Meulder 2003) with their tags, as the Hugging Face hub has
# them (conll2003, train): numbers of a ClassLabel.
TAGS = ["O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC", "B-MISC", "I-MISC"]
SENTENCES = [
    ("EU rejects German call to boycott British lamb .", [3, 0, 7, 0, 0, 0, 7, 0, 0]),
    ("Peter Blackburn", [1, 2]),
    ("BRUSSELS 1996-08-22", [5, 0]),
]
WORDS = {word: i + 2 for i, word in enumerate(dict.fromkeys(" ".join(text for text, _ in SENTENCES).split()))}
IDS = [[WORDS[word] for word in text.split()] for text, _ in SENTENCES]
NUMBERS = [tags for _, tags in SENTENCES]
NAMED = [[TAGS[tag] for tag in tags] for tags in NUMBERS]
CLASSES = ["B-LOC", "B-MISC", "B-ORG", "B-PER", "I-PER", "O"]


def conll(tags: list[Any] = NUMBERS, feature: Any = None, name: str = "ner_tags", **columns: list[Any]) -> Dataset:
    data = Dataset.from_dict({"input_ids": IDS, name: tags, **columns})
    return data if feature is None else data.cast_column(name, feature)


def prepared(data: Any, out: Path, column: str = "ner_tags", split: Any = None, **options: Any) -> Dataset:
    labels = LabelSpec(task="token", column=column, **options.pop("labels", {}))
    split = SplitSpec(**split) if split else None
    return load_from_disk(prepare(data, DataSpec(nproc=2), labels, str(out), "p", split=split, **options).dataset_path)


def meant(made: Dataset) -> list[list[str | None]]:
    """The names of the labels of each row."""
    class_map = classmap.of_dataset(made, "labels")
    assert class_map is not None
    names = {number: name for name, number in class_map.items()} | {-100: None}
    return [[names[number] for number in row] for row in made["labels"]]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(conll(feature=List(ClassLabel(names=TAGS))), id="ClassLabel"),
        pytest.param(conll(NAMED), id="names"),
        pytest.param(conll(NAMED, List(Value("large_string"))), id="large text"),
    ],
)
def test_names_of_the_tags_are_the_classes(data: Dataset, tmp_path: Path) -> None:
    made = prepared(data, tmp_path)
    assert meant(made) == NAMED
    assert classmap.of_dataset(made, "labels") == {name: i for i, name in enumerate(CLASSES)}
    assert made["length"] == [9, 2, 2]
    assert made["ner_tags"] == data["ner_tags"]


@pytest.mark.parametrize("kind", ["int8", "int64", "uint16", "float32"])
def test_numbers_are_named_by_their_digits(kind: str, tmp_path: Path) -> None:
    made = prepared(conll(feature=List(Value(kind))), tmp_path)
    assert meant(made) == [[str(tag) for tag in tags] for tags in NUMBERS]
    assert classmap.of_dataset(made, "labels") == {"0": 0, "1": 1, "2": 2, "3": 3, "5": 4, "7": 5}


NONE: Any = None


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param([[3, -100, 7, *[-100] * 6], [1, -100], [5, 0]], "3-7- 1- 50", id="-100"),
        pytest.param([["3", None, "7", *[""] * 6], ["1", " "], ["5", "0"]], "3-7- 1- 50", id="null and blank text"),
        pytest.param([[3, None, 7, *[None] * 6], [1, None], [5, 0]], "3-7- 1- 50", id="null"),
        pytest.param([[3, 0, 7, 0, 0, 0, 7, 0, 0], NONE, [5, 0]], "307000700 50", id="a row without"),
        pytest.param([[-100] * 9, [1, 2], [5, 0]], "12 50", id="a row of -100"),
    ],
)
def test_tokens_without_a_label_have_none(tags: list[Any], expected: str, tmp_path: Path) -> None:
    made = prepared(conll(tags), tmp_path)
    told = ["".join(name or "-" for name in row) for row in meant(made)]
    assert [row.rstrip("-") for row in told] == [row.rstrip("-") for row in expected.split()]
    assert [len(row) for row in made["labels"]] == made["length"]


def test_a_class_label_of_minus_one_is_none(tmp_path: Path) -> None:
    features = Features({"input_ids": List(Value("int64")), "ner_tags": List(ClassLabel(names=TAGS))})
    table = pa.table({"input_ids": IDS, "ner_tags": [[3, -1, 7, -1, -100, -1, 7, -1, None], [1, 2], [5, 0]]})
    made = prepared(Dataset(table.cast(features.arrow_schema)), tmp_path)
    assert meant(made)[0] == ["B-ORG", None, "B-MISC", None, None, None, "B-MISC", None, None]


def test_a_column_labels_is_replaced_by_the_ids(tmp_path: Path) -> None:
    made = prepared(conll(NAMED, name="labels"), tmp_path, "labels")
    assert meant(made) == NAMED
    assert "input_labels" not in made.column_names


def test_padding_has_no_label(tmp_path: Path) -> None:
    width = 12
    data = Dataset.from_dict(
        {
            "input_ids": [[0] * (width - len(row)) + row for row in IDS],
            "attention_mask": [[0] * (width - len(row)) + [1] * len(row) for row in IDS],
            "ner_tags": [["O"] * (width - len(row)) + row for row in NAMED],  # also of the pads
        }
    )
    made = prepared(data, tmp_path)
    assert meant(made) == [[None] * (width - len(row)) + row for row in NAMED]
    assert made["length"] == [9, 2, 2]


def test_label_mapping_gives_the_ids(tmp_path: Path) -> None:
    mapping = {name: 5 - i for i, name in enumerate(CLASSES)}
    made = prepared(conll(NAMED), tmp_path, labels={"mapping": mapping})
    assert made["labels"] == [[mapping[name] for name in row] for row in NAMED]


def test_filters_decide_which_labels_there_are(tmp_path: Path) -> None:
    data = conll(NAMED, part=["a", "b", "b"])
    labels = LabelSpec(task="token", column="ner_tags")
    made = prepare(data, DataSpec(filter={"part": "b"}), labels, str(tmp_path), "p")
    assert made.class_map == {"B-LOC": 0, "B-PER": 1, "I-PER": 2, "O": 3}
    assert made.summary["column"] == "ner_tags"
    assert made.summary["units"] == {"B-LOC": 1, "B-PER": 1, "I-PER": 1, "O": 1}


def test_bytes_do_not_depend_on_workers_and_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = rows(300)
    data = Dataset.from_dict({"input_ids": ids, "tags": [["abc"[token % 3] for token in row] for row in ids]})
    trees = []
    for name, size in (("one", 1 << 27), ("many", 4000)):
        monkeypatch.setattr("sortase.data.source.UNIT_BYTES", size)
        prepared(data, tmp_path / name, "tags", {"strategy": "random"})
        trees.append(load_from_disk(str(tmp_path / name / "p_labeled.dataset")).to_dict())
    assert trees[0] == trees[1]
    assert trees[0]["labels"] == [[token % 3 for token in row] for row in ids]


def test_the_work_can_be_done_by_other_processes(tmp_path: Path) -> None:
    def through_pickle(function: Any, items: Any) -> Any:
        return [pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(function))(item))) for item in items]

    data = conll(feature=List(ClassLabel(names=TAGS)))
    assert meant(prepared(data, tmp_path, map=through_pickle)) == NAMED


@pytest.mark.parametrize("column", ["ner_tags", "labels"])
def test_a_frozen_set_is_labelled_with_the_ids_of_the_model(column: str, tmp_path: Path) -> None:
    classes = {name: 5 - i for i, name in enumerate(CLASSES)}
    conll(NAMED, name=column).save_to_disk(str(tmp_path / "frozen"))
    settings = {
        "run": {"name": "r", "output": str(tmp_path)},
        "data": {"dataset": "cells"},
        "labels": {"task": "token", "column": "ner_tags"},
        "model": {"config": {}},
    }
    found = frozen_set(str(tmp_path / "frozen"), TASKS["token"], classes, "row", Config(**settings))
    assert found.test.flat_labels(np.arange(3)).tolist() == [classes[name] for row in NAMED for name in row]


def test_other_tags_are_other_inputs(tmp_path: Path) -> None:
    prepared(conll(NAMED), tmp_path)
    with pytest.raises(SortaseError, match="replace"):
        prepared(conll(NAMED, other=NAMED), tmp_path, "other")


@pytest.mark.parametrize("strategy", ["random", "token"])
def test_splits_divide_rows_or_tokens(strategy: str, tmp_path: Path) -> None:
    ids = rows(60)
    data = Dataset.from_dict({"input_ids": ids, "tags": [["abc"[token % 3] for token in row] for row in ids]})
    labels = LabelSpec(task="token", column="tags")
    made = prepare(data, DataSpec(nproc=1), labels, str(tmp_path), "p", split=SplitSpec(strategy=strategy))
    sides = made.summary["split"]["sides"]
    whole = 60 if strategy == "random" else len({token for row in ids for token in row})
    assert sum(side["rows"] for side in sides.values()) == whole
    if strategy == "token":
        assert set(sides["test"]["per_class"]) == {"a", "b", "c"}


REFUSED = [
    pytest.param(conll([*NUMBERS[:2], [5]]), {}, "row 2 has 2 tokens and 1 values in 'ner_tags'", id="shorter"),
    pytest.param(conll([*NUMBERS[:2], [5, 0, 0]]), {}, "row 2 has 2 tokens and 3 values in 'ner_tags'", id="longer"),
    pytest.param(conll([*NUMBERS[:2], []]), {}, "row 2 has 2 tokens and 0 values in 'ner_tags'", id="empty"),
    pytest.param(conll(["a", "b", "c"]), {}, "'ner_tags' holds string; .* lists of names or ids.*gene_cl", id="text"),
    pytest.param(conll([[["a"]]] * 3), {}, "'ner_tags' holds lists of list", id="nested"),
    pytest.param(conll([[0.5] * 9, [0.5, 1], [0, 1]]), {}, r"holds the label 0\.5", id="measurements"),
    pytest.param(conll([["a"] * 9, ["a"] * 2, ["a"] * 2]), {}, "only 'a'", id="one class"),
    pytest.param(conll([[-100] * 9, [-100] * 2, [-100] * 2]), {}, "has no label in the rows left", id="no class"),
    pytest.param(
        conll(NAMED), {"mapping": {"O": 0, "B-PER": 1}}, "label_mapping lacks: 'B-MISC', 'B-LOC', 'B-ORG'", id="mapping"
    ),
    pytest.param(conll(NAMED, name="tags"), {}, "unknown column 'ner_tags'.*'tags'", id="no column"),
]


@pytest.mark.parametrize(("data", "labels", "words"), REFUSED)
def test_tags_that_do_not_fit(data: Dataset, labels: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(SortaseError, match=words):
        prepared(data, tmp_path / "out", labels=labels)
    assert tree(tmp_path / "out") == {}


def test_tags_beyond_the_class_label_are_refused(tmp_path: Path) -> None:
    features = Features({"input_ids": List(Value("int64")), "ner_tags": List(ClassLabel(names=TAGS))})
    table = pa.table({"input_ids": IDS, "ner_tags": [[3, 0, 7, 0, 9, 0, 7, 0, 0], [1, 2], [5, 0]]})
    with pytest.raises(InputError, match="'ner_tags' holds the label 9, but its ClassLabel has 9 names"):
        prepared(Dataset(table.cast(features.arrow_schema)), tmp_path / "out")


@pytest.mark.parametrize("name", ["rare_threshold", "max_examples_per_class"])
def test_settings_of_rows_classes_are_refused(name: str, tmp_path: Path) -> None:
    spec = DataSpec(**{name: 1})
    with pytest.raises(InputError, match=f"{name} needs one class a row, and column 'ner_tags' has one a token"):
        prepare(conll(), spec, LabelSpec(task="token", column="ner_tags"), str(tmp_path / "out"), "p")


def test_a_token_of_two_labels_cannot_be_held_out(tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": [[5, 6], [5, 7]], "tags": [["a", "b"], ["b", "a"]]})
    with pytest.raises(InputError, match=r"token 5 has different labels in different places; .* random or group"):
        prepared(data, tmp_path / "out", "tags", {"strategy": "token"})
    assert tree(tmp_path / "out") == {}


def test_token_labels_need_genes_or_a_column() -> None:
    with pytest.raises(ConfigError, match=r"gene_class_dict .*or .*column"):
        GenericClassifier(None, "token")


def tagged(n: int = 90) -> Dataset:
    """A token's tag is that of the row's first token, so that context decides; every fifth has none."""
    ids = rows(n)
    tags = [["hkl"[row[0] - 5] if place % 5 else None for place in range(len(row))] for row in ids]
    return Dataset.from_dict({"input_ids": ids, "tags": tags, "donor": [f"d{i % 6}" for i in range(n)]})


def test_from_python_without_gene_classes(tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForTokenClassification

    AutoModelForTokenClassification.from_config(AutoConfig.for_model(**architecture())).base_model.save_pretrained(
        tmp_path / "pretrained"
    )
    arguments = {"num_train_epochs": 1, "learning_rate": 1e-3}
    classifier = GenericClassifier("tags", "token", training_args=arguments, compute={"device": "cpu"}, nproc=1)
    dataset, class_map = classifier.prepare_data(tagged(), str(tmp_path / "data"), "t")
    trainer = classifier.train(str(tmp_path / "pretrained"), dataset, str(tmp_path / "out"))
    assert trainer.model.config.label2id == {"h": 0, "k": 1, "l": 2}
    metrics = classifier.evaluate(str(tmp_path / "out"), dataset, class_map, str(tmp_path / "scores"))
    counted = json.loads((tmp_path / "scores" / "evaluation.json").read_text())
    labelled = [tag for row in tagged()["tags"] for tag in row if tag is not None]
    assert np.array(counted["confusion_matrix"]).sum() == len(labelled)
    assert 0 <= metrics["eval_macro_f1"] <= 1
    assert len(predict_from_checkpoint(str(tmp_path / "out"), dataset, "token")) == sum(map(len, rows(90)))


def test_a_whole_run_from_a_column_of_tags(tmp_path: Path) -> None:
    tagged().save_to_disk(str(tmp_path / "tagged.dataset"))
    settings = {
        "run": {"name": "tags", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "tagged.dataset"), "nproc": 1},
        "labels": {"task": "token", "column": "tags"},
        "split": {"strategy": "group", "column": "donor"},
        "model": {"config": architecture()},
        "train": {"num_train_epochs": 1},
        "evaluate": {"bootstrap": 20},
        "compute": {"device": "cpu"},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["run", "-c", str(tmp_path / "run.yaml")]) == 0
    folder = tmp_path / "runs" / "tags"
    assert json.loads((folder / "evaluation.json").read_text())["classes"] == ["h", "k", "l"]
    assert "tags" in (folder / "report.html").read_text()


def test_text_where_lists_belong_is_refused_in_python(tmp_path: Path) -> None:
    classifier = GenericClassifier("donor", "token")
    with pytest.raises(InputTypeError, match=r"'donor' holds string; .*gene_class_dict"):
        classifier.prepare_data(tagged(), str(tmp_path / "out"), "t")
    assert not (tmp_path / "out").exists()
