"""The Trainer that a training returns, beside transformers' own on the same model and rows."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

from makers import VOCABULARY, architecture, rows
from sortase import GenericClassifier, build_custom_tokenizer
from sortase.errors import ConfigError, InputError, InputTypeError

NAMES = ["B cell", "NK cell", "T cell"]
pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*")


def cells(n: int = 90) -> Dataset:
    ids = rows(n)
    columns = {"cell_type": [NAMES[row[0] - 5] for row in ids], "donor": [f"d{i % 5}" for i in range(n)]}
    return Dataset.from_dict({"input_ids": ids, **columns})


class Made:
    """A training of each task: its classifier, prepared dataset, class map and Trainer."""

    def __init__(self, folder: Path, kind: str):
        self.folder, self.kind = folder, kind
        AutoModel.from_config(AutoConfig.for_model(**architecture())).save_pretrained(folder / "pretrained")
        self.vocabulary = folder / "vocabulary.pkl"
        tokens = {"<pad>": 0, "<mask>": 1, **{f"G{i}": i for i in range(2, VOCABULARY - 3)}}
        self.vocabulary.write_bytes(pickle.dumps(tokens))
        genes = {"low": [f"G{i}" for i in range(8, 25)], "high": [f"G{i}" for i in range(25, 40)]}
        token = {"gene_class_dict": genes, "token_dictionary_file": str(self.vocabulary)} if kind == "token" else {}
        self.classifier = GenericClassifier(
            "cell_type", kind, training_args={"num_train_epochs": 2, "learning_rate": 1e-3}, nproc=1, **token
        )
        self.dataset, self.map = self.classifier.prepare_data(cells(), str(folder / "data"), "x")
        self.trainer = self.train()

    def train(self) -> Any:
        return self.classifier.train(str(self.folder / "pretrained"), self.dataset, str(self.folder / "out"))

    def stock(self, data: Dataset) -> Any:
        """transformers' own Trainer, as run_classification.py and run_ner.py make it."""
        tokenizer = build_custom_tokenizer(str(self.vocabulary))
        auto, collator = {
            "sequence": (AutoModelForSequenceClassification, DataCollatorWithPadding),
            "token": (AutoModelForTokenClassification, DataCollatorForTokenClassification),
        }[self.kind]
        model = auto.from_pretrained(self.folder / "out")
        arguments = TrainingArguments(
            str(self.folder / "stock"), per_device_eval_batch_size=7, use_cpu=True, report_to=[]
        )
        return Trainer(model=model, args=arguments, data_collator=collator(tokenizer)).predict(data)


@pytest.fixture(scope="module", params=["sequence", "token"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp(request.param), request.param)


def chosen(made: Made, how: str) -> Dataset:
    data = load_from_disk(made.dataset)
    label = "label" if made.kind == "sequence" else "labels"
    return {
        "whole": lambda: data,
        "shuffled": lambda: data.shuffle(seed=42).select(range(33)),
        "unlabelled": lambda: data.remove_columns([label]).select([5, 3, 8]),
        "torch": lambda: data.with_format("torch", columns=["input_ids", label]).select([30, 2, 7]),
        "filtered": lambda: data.filter(lambda row: row["donor"] == "d1"),
    }[how]()


@pytest.mark.parametrize("how", ["whole", "shuffled", "unlabelled", "torch", "filtered"])
def test_predict_gives_what_the_stock_trainer_gives(made: Made, how: str) -> None:
    data = chosen(made, how)
    ours, stock = made.trainer.predict(data), made.stock(data)
    assert type(ours).__name__ == "PredictionOutput"
    assert ours.predictions.shape == stock.predictions.shape
    assert ours.predictions.dtype == stock.predictions.dtype
    if made.kind == "token":  # where a row has no token, stock has a score of padding or -100, by its batch
        inside = np.arange(ours.predictions.shape[1]) < np.array([len(row) for row in data["input_ids"]])[:, None]
        assert np.allclose(ours.predictions[inside], stock.predictions[inside], atol=1e-5)
        assert (ours.predictions[~inside] == -100).all()
    else:
        assert np.allclose(ours.predictions, stock.predictions, atol=1e-5)
    if how == "unlabelled":
        assert ours.label_ids is None and stock.label_ids is None
        assert "test_loss" not in ours.metrics
    else:
        assert np.array_equal(ours.label_ids, stock.label_ids)
        assert ours.metrics["test_loss"] == pytest.approx(stock.metrics["test_loss"], abs=1e-2)
    assert {"test_runtime", "test_samples_per_second", "test_steps_per_second"} <= ours.metrics.keys()


def test_notebook_cell_of_predictions(made: Made, tmp_path: Path) -> None:
    """stFormer's Classification.ipynb, `1.3 Plot Predictions using Evaluation Utils`, for both tasks."""
    preds = made.trainer.predict(load_from_disk(made.dataset).shuffle(seed=42).select(range(60)))
    y_true, y_pred = preds.label_ids, preds.predictions.argmax(-1)
    mask = y_true != -100
    y_true, y_pred = y_true[mask], y_pred[mask]
    id_map = pickle.loads(Path(made.map).read_bytes())
    cm = confusion_matrix(y_true, y_pred, labels=list(id_map.values()))
    assert cm.sum() == mask.sum()
    assert preds.metrics["test_accuracy"] == pytest.approx(accuracy_score(y_true, y_pred))
    assert preds.metrics["test_macro_f1"] == pytest.approx(f1_score(y_true, y_pred, average="macro"))


def test_evaluate_names_metrics_and_logs_them(made: Made) -> None:
    data = load_from_disk(made.dataset).select(range(40))
    metrics = made.trainer.evaluate(data)
    assert metrics["eval_accuracy"] == made.trainer.predict(data).metrics["test_accuracy"]
    assert made.trainer.state.log_history[-1]["eval_loss"] == metrics["eval_loss"]
    by_name = made.trainer.evaluate({"a": data, "b": data.select(range(9))}, metric_key_prefix="held")
    assert {"held_a_loss", "held_b_loss"} <= by_name.keys()
    own = made.trainer.evaluate()
    assert own["eval_samples_per_second"] > 0
    assert len(made.trainer.eval_dataset) and isinstance(made.trainer.eval_dataset, Dataset)


def test_other_forms_of_the_same_rows(made: Made) -> None:
    data = load_from_disk(made.dataset)
    wanted = made.trainer.predict(data.select(range(12)))
    listed = made.trainer.predict([data[i] for i in range(12)])
    assert np.array_equal(listed.predictions, wanted.predictions)
    assert np.array_equal(listed.label_ids, wanted.label_ids)
    whole = made.trainer.predict(made.dataset)
    assert len(whole.predictions) == len(data)
    none = made.trainer.predict(data.select([]))
    assert none.predictions.shape[0] == 0
    assert none.predictions.shape[-1] == len(made.trainer.model.config.id2label)


def test_labels_under_the_name_that_models_take(made: Made) -> None:
    if made.kind == "token":
        pytest.skip("token labels have one name")
    data = load_from_disk(made.dataset)
    renamed = data.rename_column("label", "labels")
    assert np.array_equal(made.trainer.predict(renamed).label_ids, np.array(data["label"]))


def test_saved_again_it_is_the_same_model(made: Made, tmp_path: Path) -> None:
    made.trainer.save_model(str(tmp_path / "copy"))
    auto = AutoModelForSequenceClassification if made.kind == "sequence" else AutoModelForTokenClassification
    copy = auto.from_pretrained(tmp_path / "copy")
    for left, right in zip(copy.parameters(), made.trainer.model.parameters(), strict=True):
        assert np.array_equal(left.detach(), right.detach())
    assert made.trainer.args.output_dir == str(made.folder / "out")


def test_the_log_of_the_training_is_there_also_when_it_is_taken_up_again(made: Made) -> None:
    again = made.train()
    history = made.trainer.state.log_history[: len(again.state.log_history)]  # later ones are of evaluate()
    assert again.state.log_history == history
    assert again.state.global_step == json.loads((made.folder / "out" / "run.json").read_text())["training"]["steps"]
    assert [entry["epoch"] for entry in history if "eval_loss" in entry] == [1.0, 2.0]
    assert again.state.best_metric == max(entry["eval_macro_f1"] for entry in history if "eval_loss" in entry)
    data = load_from_disk(made.dataset)
    assert np.array_equal(again.predict(data).predictions, made.trainer.predict(data).predictions)


def test_of_a_training_in_object_storage_it_has_a_folder_of_its_own(made: Made, s3_url: str) -> None:
    """Other users of the machine write to the folder for temporary files too."""
    train = made.classifier.train
    trainers = [train(str(made.folder / "pretrained"), made.dataset, f"{s3_url}/{name}") for name in ("one", "two")]
    folders = [Path(trainer.args.output_dir) for trainer in trainers]
    assert folders[0] != folders[1]
    for trainer, folder in zip(trainers, folders, strict=True):
        trainer.save_state()
        assert [path.name for path in folder.iterdir()] == ["trainer_state.json"]
        assert (folder.parent.stat().st_mode & 0o777, folder.parent.stat().st_uid) == (0o700, os.geteuid())


@pytest.mark.parametrize("deed", ["train", "hyperparameter_search"])
def test_it_trains_no_more(made: Made, deed: str) -> None:
    with pytest.raises(ConfigError, match=r"GenericClassifier\.train"):
        getattr(made.trainer, deed)()


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        pytest.param(DatasetDict({"train": cells(3)}), InputTypeError, r"\['train'\]", id="splits"),
        pytest.param(cells(3).to_iterable_dataset(), InputTypeError, "IterableDataset", id="iterable"),
        pytest.param(7, InputTypeError, "int", id="number"),
        pytest.param(cells(3).remove_columns("input_ids"), InputError, "input_ids", id="no tokens"),
        pytest.param(
            Dataset.from_dict({"input_ids": [[1, VOCABULARY]]}), InputError, "token id 60", id="foreign token"
        ),
    ],
)
def test_what_it_cannot_predict_is_refused_in_words(made: Made, data: Any, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        made.trainer.predict(data)


def test_a_foreign_label_is_refused(made: Made) -> None:
    label = {"sequence": {"label": [9]}, "token": {"labels": [[9, -100]]}}[made.kind]
    data = Dataset.from_dict({"input_ids": [[5, 9]], **label})
    with pytest.raises(InputError, match="label 9"):
        made.trainer.predict(data)
    with pytest.raises(InputError, match="no labels"):
        made.trainer.evaluate(Dataset.from_dict({"input_ids": [[5, 9]]}))
