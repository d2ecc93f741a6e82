"""Relative paths: everywhere they mean the folder that they are written in, and where a file lies is no part of it."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import AutoConfig, AutoModel

from makers import architecture, rows
from sortase import GenericClassifier, predict_from_checkpoint, storage
from sortase.config.load import check
from sortase.config.run import Config
from sortase.errors import ExistingOutputError
from sortase.pipeline.paths import NAMES, PATHS, absolute
from sortase.pipeline.run import run

ARGUMENTS = {"num_train_epochs": 1, "per_device_train_batch_size": 20, "save_strategy": "no"}


def make_inputs(folder: Path) -> None:
    """pretrained, cells.dataset and vocabulary.pkl, below ``folder``."""
    AutoModel.from_config(AutoConfig.for_model(**architecture())).save_pretrained(folder / "pretrained")
    names = {"cell_type": ["B", "T"] * 30, "donor": [f"d{i % 4}" for i in range(60)]}
    Dataset.from_dict({"input_ids": rows(60), **names}).save_to_disk(folder / "cells.dataset")
    tokens = {"<pad>": 0, "<mask>": 1, **{f"G{i}": i for i in range(2, 55)}}
    (folder / "vocabulary.pkl").write_bytes(pickle.dumps(tokens))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with inputs in it."""
    work = tmp_path / "work"
    work.mkdir()
    make_inputs(work)
    monkeypatch.chdir(work)
    yield work


def train(classifier: GenericClassifier, **more: Any) -> tuple[Any, str, str]:
    data, class_map = classifier.prepare_data("cells.dataset", "tmp", "x")
    return classifier.train("pretrained", data, "output/model", **more), data, class_map


def test_a_notebook_of_relative_paths(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = GenericClassifier("cell_type", nproc=1, training_args=ARGUMENTS)
    trainer, _, _ = train(classifier, tokenizer_name_or_path="vocabulary.pkl", eval_dataset="tmp/x_labeled.dataset")
    metrics = classifier.evaluate("output/model", "tmp/x_labeled.dataset", "tmp/x_id_class_dict.pkl", "output/scores")
    assert metrics["eval_samples"] == 60
    assert len(predict_from_checkpoint("output/model", "tmp/x_labeled.dataset")) == 60
    classifier.plot_predictions(
        "output/model/predictions.pkl", "tmp/x_id_class_dict.pkl", "x", "output/figures", "x", ["T", "B"]
    )
    assert (here / "output" / "figures" / "x_predictions.png").is_file()
    assert trainer.args.output_dir == str(here / "output" / "model")

    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")  # what was returned is of the folder that it was made in
    trainer.save_model()
    assert not list((here / "elsewhere").iterdir())


def test_a_training_is_finished_wherever_it_is_called_from(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = GenericClassifier("cell_type", nproc=1, training_args=ARGUMENTS)
    train(classifier)
    stamp = (here / "output" / "model" / "model.safetensors").stat().st_mtime_ns
    monkeypatch.chdir(here / "tmp")
    classifier.train("../pretrained", "x_labeled.dataset", "../output/model")
    monkeypatch.setenv("HOME", str(here))
    classifier.train("~/pretrained", "~/tmp/x_labeled.dataset", "~/output/model")
    assert (here / "output" / "model" / "model.safetensors").stat().st_mtime_ns == stamp
    assert not (here / "tmp" / "~").exists()

    moved = here.parent / "moved"
    shutil.move(here, moved)
    monkeypatch.chdir(moved)
    classifier.train("pretrained", "tmp/x_labeled.dataset", "output/model")
    assert (moved / "output" / "model" / "model.safetensors").stat().st_mtime_ns == stamp


def test_other_contents_in_the_same_place_are_other_inputs(here: Path) -> None:
    classifier = GenericClassifier("cell_type", nproc=1, training_args=ARGUMENTS)
    _, data, _ = train(classifier)
    AutoModel.from_config(AutoConfig.for_model(**architecture())).save_pretrained("pretrained")
    with pytest.raises(ExistingOutputError, match="pretrained"):
        classifier.train("pretrained", data, "output/model")


SETTINGS: dict[str, Any] = {
    "run": {"name": "r", "output": "runs"},
    "data": {"dataset": "cells.dataset"},
    "labels": {"column": "cell_type", "vocabulary": "vocabulary.pkl"},
    "model": {"checkpoint": "pretrained"},
    "train": ARGUMENTS,
    "predict": {"dataset": "cells.dataset"},
}


def test_a_run_is_skipped_from_another_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(check(SETTINGS, "run.yaml"))
    assert first == str(here / "runs" / "r" / "report.html")
    moved = here.parent / "moved"
    shutil.move(here, moved)
    monkeypatch.chdir(moved)
    said: list[str] = []
    run(check(SETTINGS, "run.yaml"), log=said.append)
    done = [line for line in said if "finished earlier with the same inputs" in line]
    assert len(done) == 5
    config = storage.read_json(str(moved / "runs" / "r" / "run.json"))["config"]
    assert config["model"]["checkpoint"] == str(moved / "pretrained")
    assert config["data"]["dataset"] == str(moved / "cells.dataset")


def test_every_setting_that_is_a_path_becomes_absolute(here: Path) -> None:
    """Those that say so in their description; a new one has to join the table, or the exceptions here."""
    apart = {
        ("registry", "mlflow"),  # a server
        ("card", "license_link"),
        ("storage", "endpoint"),
        ("storage", "profile"),
        ("run", "prefix"),
        ("tokenize", "file_column"),
        ("tracking", "mlflow_uri"),
    }
    words = ("folder", "url", " file", "pickle", "csv")
    known = {(section, name) for table in (PATHS, NAMES) for section, names in table.items() for name in names}
    found = set()
    for section, field in Config.model_fields.items():
        for kind in (field.annotation, *getattr(field.annotation, "__args__", ())):
            for name, inner in getattr(kind, "model_fields", {}).items():
                is_text = "str" in str(inner.annotation) and "dict[str, float]" not in str(inner.annotation)
                if is_text and any(word in (inner.description or "").lower() for word in words):
                    found.add((section, name))
    assert found - apart - known == set()


def test_names_of_a_hub_and_urls_stay(here: Path) -> None:
    model = {"checkpoint": "ctheodoris/Geneformer", "tokenizer": "./vocabulary.pkl"}
    settings = {**SETTINGS, "run": {"name": "r", "output": "s3://bucket/runs"}, "model": model}
    config = absolute(check(settings, "run.yaml"))
    assert config.run.output == "s3://bucket/runs"
    assert config.model.checkpoint == "ctheodoris/Geneformer"
    assert config.model.tokenizer == str(here / "vocabulary.pkl")
    assert config.labels.vocabulary == str(here / "vocabulary.pkl")
