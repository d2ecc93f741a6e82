"""What a training is refused for, with the data, models and files that make it so."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetInfo, Features
from transformers import AutoConfig, AutoModelForSequenceClassification

from makers import architecture, rows

NAMES = ["B", "NK", "T"]
ARGUMENTS = {"num_train_epochs": 1, "per_device_train_batch_size": 16}


def state(folder: Path) -> dict[str, bytes | None]:
    """Every file with its content and every folder (None), by relative path; hidden ones too."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
    }


def labelled(ids: list[list[int]], labels: list[int]) -> Dataset:
    """A prepared dataset, in which any number may stand as label."""
    plain = Dataset.from_dict({"input_ids": ids, "label": labels, "length": [len(row) for row in ids]})
    features = Features({**plain.features, "label": ClassLabel(names=NAMES)})
    return Dataset(plain.data, info=DatasetInfo(features=features))


@dataclass(frozen=True)
class Ground:
    """Paths of a checkpoint, a prepared dataset, and of what does not fit them."""

    root: Path

    def __getattr__(self, name: str) -> str:
        return str(self.root / name)


def prepare_ground(root: Path) -> Ground:
    settings = architecture()
    model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**settings)).base_model
    model.save_pretrained(root / "checkpoint")
    shutil.copytree(root / "checkpoint", root / "damaged")
    (root / "damaged" / "model.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    ids = rows(60)
    labels = [row[0] % 3 for row in ids]
    labelled(ids, labels).save_to_disk(root / "data")
    names = [NAMES[label] for label in labels]
    Dataset.from_dict({"input_ids": ids, "cell_type": names}).save_to_disk(root / "cells")
    foreign = labelled([*ids[:-1], [5, 4000]], labels)
    foreign.add_column("cell_type", names).save_to_disk(root / "foreign_token")
    labelled(ids, [*labels[:-1], 7]).save_to_disk(root / "foreign_label")
    labelled(ids, labels).remove_columns("label").save_to_disk(root / "no_labels")
    labelled(ids[:1], labels[:1]).select([]).save_to_disk(root / "no_rows")
    (root / "class_map.pkl").write_bytes(pickle.dumps({name: number for number, name in enumerate(NAMES)}))
    (root / "malicious.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/never'\ntR.")
    (root / "text.txt").write_text("no pickle")
    return Ground(root)


Case = tuple[dict[str, Any], Callable[[Ground], dict[str, Any]], str]


def of(settings: dict[str, Any] | None = None, words: str = "", **paths: str) -> Case:
    """Settings of the classifier, arguments of ``train`` (names of what lies on the ground), words of the refusal."""
    return settings or {}, lambda ground: {name: getattr(ground, path) for name, path in paths.items()}, words


def given(arguments: dict[str, Any], words: str, **settings: Any) -> Case:
    return settings, lambda ground: arguments, words


TRAININGS: dict[str, Case] = {
    "missing model": of(model_checkpoint="nothing", words="nothing"),
    "damaged weights": of(model_checkpoint="damaged", words="damaged"),
    "foreign token": of(dataset_path="foreign_token", words="4000"),
    "foreign label": of(dataset_path="foreign_label", words="label 7"),
    "no labels": of(dataset_path="no_labels", words="dataset_path"),
    "no rows": of(dataset_path="no_rows", words="dataset_path"),
    "evaluated on a foreign token": of(eval_dataset="foreign_token", words="eval_dataset.*4000"),
    "evaluated on a foreign label": of(eval_dataset="foreign_label", words="eval_dataset.*label 7"),
    "evaluated on nothing": of(eval_dataset="no_rows", words="eval_dataset"),
    "malicious tokenizer": of(tokenizer_name_or_path="malicious.pkl", words="tokenizer_name_or_path.*system"),
    "too many frozen layers": given({}, "freeze_layers=9", freeze_layers=9),
    "unknown training argument": given({}, "lerning_rate", training_args={"lerning_rate": 1}),
    "class without rows": given({}, "'Z'", training_args={"class_weights": {"Z": 1.0}}),
    "senseless split": given({"split": {"validation_size": 0.9}}, "validation_size"),
    "split by a column that is not there": given({"split": {"strategy": "group", "column": "donor"}}, "donor"),
    "early stopping without validation": given(
        {"split": {"validation_size": 0}},
        "early_stopping_patience",
        training_args={**ARGUMENTS, "early_stopping_patience": 1},
    ),
    "search without validation": given(
        {"split": {"validation_size": 0}, "n_trials": 2},
        "validation",
        ray_config={"learning_rate": [1e-5, 1e-3]},
    ),
    "search over too many frozen layers": given({"n_trials": 2}, "9", ray_config={"freeze_layers": [0, 9]}),
    "search over text": given({"n_trials": 2}, "learning_rate", ray_config={"learning_rate": ["high", "low"]}),
    "unknown DeepSpeed file": given(
        {}, "deepspeed.json", compute={"workers": 1, "deepspeed": "/nowhere/deepspeed.json"}
    ),
    "workers that freeze too much": given({}, "freeze_layers=9", freeze_layers=9, compute={"workers": 1}),
    "unknown architecture setting": given({"model_config": {"hiden_size": 3}}, "model_config.*hiden_size"),
}


def train(ground: Ground, case: Case, output: Path, **settings: Any) -> Any:
    """Train as the case says."""
    from sortase import GenericClassifier

    own, arguments, _ = case
    classifier = GenericClassifier("cell_type", **{"training_args": ARGUMENTS, **own, **settings})
    usual = {"model_checkpoint": ground.checkpoint, "dataset_path": ground.data, "output_directory": output}
    return classifier.train(**{**usual, **arguments(ground)})


FITTING: Case = of()


RUNS: dict[str, tuple[dict[str, Any], str]] = {
    "missing model": ({"model.checkpoint": "{ground}/nothing"}, "nothing"),
    "damaged weights": ({"model.checkpoint": "{ground}/damaged"}, "damaged"),
    "missing data": ({"data.dataset": "{ground}/nothing"}, "nothing"),
    "unknown column": ({"labels.column": "kin"}, "kin"),
    "foreign token": ({"data.dataset": "{ground}/foreign_token"}, "4000"),
    "malicious tokenizer": ({"model.tokenizer": "{ground}/malicious.pkl"}, "os.system"),
    "too many frozen layers": ({"model.freeze_layers": 9}, "freeze_layers"),
    "unknown training argument": ({"train.lerning_rate": 1}, "lerning_rate"),
    "senseless split": ({"split.validation_size": 0.9}, "validation_size"),
    "split by a column that is not there": ({"split": {"strategy": "group", "column": "donor"}}, "donor"),
    "early stopping without validation": (
        {"split.validation_size": 0, "train.early_stopping_patience": 1},
        "early_stopping_patience",
    ),
    "unknown DeepSpeed file": (
        {"compute.workers": 1, "compute.deepspeed": "{ground}/deepspeed.json"},
        "deepspeed.json",
    ),
    "rare classes only": ({"data.rare_threshold": 0.9}, "rare_threshold"),
}


def run(ground: Ground, output: Path, changes: dict[str, Any], command: str = "run") -> int:
    """``sortase run`` on the ground's data; returns its exit code."""
    from sortase.cli import main

    usual = {"run.name": "x", "run.output": str(output), "data.dataset": ground.cells, "labels.column": "cell_type"}
    usual |= {"model.checkpoint": ground.checkpoint, "train.num_train_epochs": 1, "evaluate.bootstrap": 0}
    overrides = []
    for name, value in {**usual, **changes}.items():
        overrides += ["--set", f"{name}={json.dumps(value)}".replace("{ground}", str(ground.root))]
    (output.parent / "run.yaml").write_text("run: {}\n")
    return main([command, "-c", str(output.parent / "run.yaml"), *overrides])
