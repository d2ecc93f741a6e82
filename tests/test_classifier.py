"""GenericClassifier from data to a scored model, as a notebook would use it."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from transformers import AutoConfig, AutoModelForSequenceClassification, Trainer

from makers import architecture, rows
from sortase import GenericClassifier, predict_from_checkpoint
from sortase.errors import ConfigError, ExistingOutputError, InputError, SortaseError

NAMES = ["B cell", "NK cell", "T cell"]
ARGUMENTS = {"num_train_epochs": 2, "learning_rate": 1e-3}


def cells(n: int = 150) -> Dataset:
    ids = rows(n)
    return Dataset.from_dict(
        {
            "input_ids": ids,
            "cell_type": [NAMES[row[0] - 5] for row in ids],
            "donor": [f"d{i % 5}" for i in range(n)],
        }
    )


@pytest.fixture
def checkpoint(tmp_path: Path) -> str:
    """A pretrained model of a few kilobytes."""
    settings = architecture()
    config = AutoConfig.for_model(**settings)
    AutoModelForSequenceClassification.from_config(config).base_model.save_pretrained(tmp_path / "pretrained")
    return str(tmp_path / "pretrained")


@pytest.fixture
def vocabulary(tmp_path: Path) -> str:
    path = tmp_path / "vocabulary.pkl"
    tokens = {"<pad>": 0, "<mask>": 1, **{f"ENSG{i:011d}": i for i in range(2, 55)}}
    path.write_bytes(pickle.dumps(tokens))
    return str(path)


def genes(numbers: range) -> list[str]:
    return [f"ENSG{i:011d}" for i in numbers]


def test_sequence_classifier_from_data_to_metrics(tmp_path: Path, checkpoint: str, vocabulary: str) -> None:
    classifier = GenericClassifier("cell_type", training_args=ARGUMENTS, compute={"device": "cpu"}, nproc=1)
    dataset, class_map = classifier.prepare_data(cells(), str(tmp_path / "data"), "blood")
    assert dataset.endswith("blood_labeled.dataset")
    assert pickle.loads(Path(class_map).read_bytes()) == {"B cell": 0, "NK cell": 1, "T cell": 2}
    out = tmp_path / "out"
    trainer = classifier.train(checkpoint, dataset, str(out), tokenizer_name_or_path=vocabulary)
    assert isinstance(trainer, Trainer)
    names = {path.name for path in out.iterdir()}
    wanted = {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
        "predictions.parquet",
        "predictions.pkl",
        "run.json",
    }
    assert wanted <= names
    again = AutoModelForSequenceClassification.from_pretrained(out)
    assert again.config.id2label == dict(enumerate(NAMES))
    metrics = classifier.evaluate(str(out), dataset, class_map, str(tmp_path / "scored"))
    assert {"eval_loss", "eval_accuracy", "eval_macro_f1"} <= metrics.keys()
    written = json.loads((tmp_path / "scored" / "evaluation.json").read_text())
    assert np.array(written["confusion_matrix"]).sum() == 150
    predictions = pickle.loads((out / "predictions.pkl").read_bytes())
    assert len(predictions["labels"]) == 30
    assert predictions["classes"] == NAMES


def test_token_classifier_counts_labelled_tokens(tmp_path: Path, checkpoint: str, vocabulary: str) -> None:
    classes = {"low": genes(range(8, 20)), "high": genes(range(20, 32))}
    classifier = GenericClassifier(
        "cell_type", "token", classes, token_dictionary_file=vocabulary, training_args=ARGUMENTS, nproc=2
    )
    dataset, _ = classifier.prepare_data(cells(), str(tmp_path / "data"), "genes")
    trainer = classifier.train(checkpoint, dataset, str(tmp_path / "out"), split={"strategy": "token"})
    evaluation = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation["unit"] == "token"
    assert evaluation["per_token_type"]["tokens"] <= 6
    assert trainer.model.config.label2id == {"high": 0, "low": 1}
    ids = predict_from_checkpoint(str(tmp_path / "out"), dataset, "gene")
    labelled = Dataset.load_from_disk(dataset)
    assert len(ids) == sum(labelled["length"])


def test_finished_work_is_taken_up_and_other_settings_are_refused(tmp_path: Path, checkpoint: str) -> None:
    classifier = GenericClassifier("cell_type", training_args=ARGUMENTS)
    dataset, _ = classifier.prepare_data(cells(), str(tmp_path / "data"), "x")
    first = classifier.train(checkpoint, dataset, str(tmp_path / "out"))
    stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    second = classifier.train(checkpoint, dataset, str(tmp_path / "out"))
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp
    for left, right in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert np.array_equal(left.detach(), right.detach())
    other = GenericClassifier("cell_type", training_args={**ARGUMENTS, "learning_rate": 1e-4})
    with pytest.raises(ExistingOutputError, match="learning_rate"):
        other.train(checkpoint, dataset, str(tmp_path / "out"))


def test_separate_evaluation_dataset(tmp_path: Path, checkpoint: str) -> None:
    classifier = GenericClassifier("cell_type", training_args=ARGUMENTS)
    dataset, _ = classifier.prepare_data(cells(), str(tmp_path / "data"), "train")
    held_out, _ = classifier.prepare_data(cells(40), str(tmp_path / "data"), "test")
    classifier.train(checkpoint, dataset, str(tmp_path / "out"), eval_dataset=held_out)
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["rows"] == 40


def test_class_map_of_another_model_is_refused(tmp_path: Path, checkpoint: str) -> None:
    classifier = GenericClassifier("cell_type", training_args=ARGUMENTS)
    dataset, _ = classifier.prepare_data(cells(), str(tmp_path / "data"), "x")
    classifier.train(checkpoint, dataset, str(tmp_path / "out"))
    other = tmp_path / "other.pkl"
    other.write_bytes(pickle.dumps({"B cell": 1, "NK cell": 0, "T cell": 2}))
    with pytest.raises(InputError, match="same ids"):
        classifier.evaluate(str(tmp_path / "out"), dataset, str(other), str(tmp_path / "scored"))
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"classifier_type": "cells"}, "one of 'sequence'", id="kind"),
        pytest.param({"rare_threshold": 1.5}, "rare_threshold", id="threshold"),
        pytest.param({"max_examples": 0}, "max_examples", id="cap"),
        pytest.param({"nproc": 0}, "nproc", id="nproc"),
        pytest.param({"freeze_layers": -1}, "freeze_layers", id="layers"),
        pytest.param({"forward_batch_size": 0}, "forward_batch_size", id="batch"),
        pytest.param({"training_args": {"class_weights": "some"}}, "class_weights", id="weights"),
        pytest.param({"compute": {"devise": "cpu"}}, "device", id="compute"),
    ],
)
def test_bad_settings_are_refused_at_once(arguments: dict, words: str) -> None:
    with pytest.raises(SortaseError, match=words) as caught:
        GenericClassifier("cell_type", **arguments)
    assert caught.value.exit_code == 2


def test_search_needs_a_space(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ray_config"):
        GenericClassifier("cell_type").train("m", str(tmp_path), str(tmp_path), n_trials=2)


def test_refusals_name_arguments_as_they_are_called(tmp_path: Path) -> None:
    """Settings, and not the keys that run.yaml has for them."""
    wrong: list[tuple[dict, str]] = [
        ({"metadata_column": "celltype"}, "unknown column 'celltype' for metadata_column; did you mean 'cell_type'"),
        ({"filter_data": {"organ": ["x"]}}, "unknown column 'organ' for filter_data;"),
        ({"filter_data": {"cell_type": ["x"]}}, "filter_data leaves none of"),
        ({"label_mapping": {"B cell": 0, "T cell": 1}}, "or leave it out with filter_data"),
        (
            {"classifier_type": "token", "gene_class_dict": {"a": ["g1"]}},
            "gene_class_dict needs token_dictionary_file",
        ),
    ]
    for arguments, words in wrong:
        with pytest.raises(SortaseError) as caught:
            GenericClassifier(**{"metadata_column": "cell_type", **arguments}).prepare_data(
                cells(), str(tmp_path / "data"), "x"
            )
        assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_checkpoint_is_named_with_what_is_near(
    tmp_path: Path, checkpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = GenericClassifier("cell_type")
    dataset, _ = classifier.prepare_data(cells(), str(tmp_path / "data"), "x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        classifier.train("pretained", dataset, "out")
    assert "model_checkpoint: pretained does not exist; near it are ['pretrained']" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_the_checkpoint_gave_and_what_has_no_effect_is_seen_without_logging(
    tmp_path: Path, checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {"num_train_epochs": 1, "push_to_hub": True}
    classifier = GenericClassifier("cell_type", training_args=arguments)
    dataset, _ = classifier.prepare_data(cells(), str(tmp_path / "data"), "x")
    capsys.readouterr()
    classifier.train(checkpoint, dataset, str(tmp_path / "out"))
    seen = capsys.readouterr().err
    assert f"parameters come from {checkpoint}; new: classifier.bias, classifier.weight\n" in seen
    assert "push_to_hub (models are not uploaded" in seen
    assert "without a tokenizer; tokenizer_name_or_path or token_dictionary_file can name one\n" in seen
    assert "model." not in seen and "labels." not in seen
