"""Geneformer's classifier flow, as in cell_classification.ipynb, gene_classification.ipynb and its class Classifier, on
dictionaries and checkpoints of its two generations."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, load_from_disk
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
)

from sortase import GenericClassifier, predict_from_checkpoint

STATES = ("dcm", "hcm", "nf")
EXAMPLES = Path(__file__).parents[1] / "src" / "sortase" / "demo" / "dosage_sensitivity_tf.csv"


@dataclass(frozen=True)
class Generation:
    """What is published: ``entries`` of the token dictionary are ids 0 to entries - 1, the special tokens first."""

    entries: int
    special: tuple[str, ...]
    positions: int
    around: bool  # rows are <cls> ... <eos>


GENERATIONS = {
    "V1": Generation(25426, ("<pad>", "<mask>"), 2048, False),
    "V2": Generation(20275, ("<pad>", "<mask>", "<cls>", "<eos>"), 4096, True),
}


@dataclass(frozen=True)
class Files:
    generation: Generation
    folder: Path
    dictionary: dict[str, int]

    @property
    def model(self) -> str:
        return str(self.folder / "Geneformer")

    @property
    def token_dictionary(self) -> str:
        return str(self.folder / "token_dictionary.pkl")

    @property
    def cells(self) -> str:
        return str(self.folder / "cells.dataset")


def transcription_factors() -> dict[str, list[str]]:
    table = pd.read_csv(EXAMPLES)
    return {
        "Dosage-sensitive TFs": table["dosage_sensitive"].dropna().tolist(),
        "Dosage-insensitive TFs": table["dosage_insensitive"].dropna().tolist(),
    }


@pytest.fixture(scope="module", params=GENERATIONS)
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Dictionary, checkpoint without tokenizer files, and tokenised cells whose genes tell their disease."""
    generation = GENERATIONS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    factors = [gene for genes in transcription_factors().values() for gene in genes]
    others = [f"ENSG9{i:010d}" for i in range(generation.entries - len(generation.special) - len(factors))]
    genes = [*others[: len(others) // 2], *factors, *others[len(others) // 2 :]]
    found = Files(generation, folder, {token: i for i, token in enumerate([*generation.special, *genes])})
    Path(found.token_dictionary).write_bytes(pickle.dumps(found.dictionary))
    config = BertConfig(
        vocab_size=generation.entries,
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_act="relu",
        attention_probs_dropout_prob=0.02,
        hidden_dropout_prob=0.02,
        max_position_embeddings=generation.positions,
        pad_token_id=0,
    )
    BertForMaskedLM(config).save_pretrained(found.model)
    rng = np.random.default_rng(0)
    rows, tokens = [], np.array([found.dictionary[gene] for gene in factors])
    for i in range(90):
        own = generation.entries - 1 - 20 * (i % 3) - np.arange(10)  # the last id is in use
        row = [*own.tolist(), *rng.choice(tokens, 15 + i % 9, replace=False).tolist()]
        rows.append([found.dictionary["<cls>"], *row, found.dictionary["<eos>"]] if generation.around else row)
    Dataset.from_dict(
        {
            "input_ids": rows,
            "length": [len(row) for row in rows],
            "disease": [STATES[i % 3] for i in range(90)],
            "cell_type": [f"Cardiomyocyte{1 + i % 2}" for i in range(90)],
            "individual": [str(1000 + i // 6) for i in range(90)],
        }
    ).save_to_disk(found.cells)
    return found


def classifier_of_states(files: Files) -> GenericClassifier:
    """The settings of the example."""
    return GenericClassifier(
        "disease",
        filter_data={"cell_type": ["Cardiomyocyte1", "Cardiomyocyte2", "Cardiomyocyte3"]},
        training_args={
            "num_train_epochs": 0.9,
            "learning_rate": 0.000804,
            "lr_scheduler_type": "polynomial",
            "warmup_steps": 1812,
            "weight_decay": 0.258828,
            "per_device_train_batch_size": 12,
            "seed": 73,
        },
        freeze_layers=2,
        forward_batch_size=200,
        nproc=16,
        token_dictionary_file=files.token_dictionary,
    )


def test_cell_states(files: Files, tmp_path: Path) -> None:
    classifier = classifier_of_states(files)
    prepared, map_file = classifier.prepare_data(
        input_data_file=files.cells, output_directory=str(tmp_path), output_prefix="cm_classifier_test"
    )
    test_ids = ["1003", "1007", "1011"]
    trainer = classifier.train(
        files.model,
        prepared,
        str(tmp_path / "model"),
        split={"strategy": "group", "column": "individual"},
    )
    assert trainer.args.seed == 73
    saved = json.loads((tmp_path / "model" / "evaluation.json").read_text())
    assert saved["classes"] == list(STATES)

    held_out, _ = GenericClassifier("disease", filter_data={"individual": test_ids}, nproc=1).prepare_data(
        files.cells, str(tmp_path), "cm_classifier_heldout"
    )
    metrics = classifier.evaluate(str(tmp_path / "model"), held_out, map_file, str(tmp_path / "scored"))
    confusion = np.array(json.loads((tmp_path / "scored" / "evaluation.json").read_text())["confusion_matrix"])
    assert confusion.sum() == 18
    assert metrics["eval_accuracy"] == pytest.approx(np.trace(confusion) / 18)

    matrix = pd.DataFrame(confusion, columns=STATES, index=STATES)
    classifier.plot_confusion_matrix({"Geneformer": matrix}, str(tmp_path), "cm", ["nf", "hcm", "dcm"])
    assert (tmp_path / "cm_confusion_matrix.png").stat().st_size
    ids, logits = predict_from_checkpoint(str(tmp_path / "model"), held_out, return_logits=True)
    truth = list(load_from_disk(held_out)["label"])
    (tmp_path / "cm_pred_dict.pkl").write_bytes(
        pickle.dumps({"pred_ids": ids, "label_ids": truth, "predictions": logits.tolist()})
    )
    (tmp_path / "geneformer_id_class_dict.pkl").write_bytes(pickle.dumps(dict(enumerate(STATES))))
    classifier.plot_predictions(
        predictions_file=str(tmp_path / "cm_pred_dict.pkl"),
        id_class_dict_file=str(tmp_path / "geneformer_id_class_dict.pkl"),
        title="disease",
        output_directory=str(tmp_path),
        output_prefix="cm",
        class_order=["nf", "hcm", "dcm"],
    )
    assert (tmp_path / "cm_predictions.png").stat().st_size


def test_the_saved_model_stands_alone(files: Files, tmp_path: Path) -> None:
    classifier = classifier_of_states(files)
    prepared, _ = classifier.prepare_data(files.cells, str(tmp_path), "x")
    classifier.train(files.model, prepared, str(tmp_path / "model"))
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert model.config.vocab_size == files.generation.entries
    assert max(tokenizer.get_vocab().values()) == files.generation.entries - 1
    assert tokenizer.pad_token_id == 0
    for gene, number in list(files.dictionary.items())[::5000]:
        assert tokenizer.convert_tokens_to_ids(gene) == number


def test_a_model_without_a_dictionary_trains_as_well(files: Files, tmp_path: Path) -> None:
    classifier = GenericClassifier("disease", training_args={"max_steps": 1}, nproc=1)
    prepared, _ = classifier.prepare_data(files.cells, str(tmp_path), "x")
    trainer = classifier.train(files.model, prepared, str(tmp_path / "model"))
    assert trainer.model.config.vocab_size == files.generation.entries


def test_dosage_sensitive_genes(files: Files, tmp_path: Path) -> None:
    classifier = GenericClassifier(
        None,
        "gene",
        transcription_factors(),
        token_dictionary_file=files.token_dictionary,
        max_examples=10_000,
        freeze_layers=2,
        forward_batch_size=200,
        nproc=16,
        training_args={  # get_default_train_args of six layers, with the floats of NumPy that it makes
            "learning_rate": 5e-5,
            "do_train": True,
            "do_eval": True,
            "evaluation_strategy": "no",
            "save_strategy": "epoch",
            "logging_steps": np.floor(90 / 12 / 2),
            "group_by_length": False,
            "length_column_name": "length",
            "disable_tqdm": False,
            "lr_scheduler_type": "linear",
            "warmup_steps": 500,
            "weight_decay": 0.001,
            "per_device_train_batch_size": 12,
            "per_device_eval_batch_size": 12,
            "num_train_epochs": 1,
            "load_best_model_at_end": False,
            "output_dir": str(tmp_path / "elsewhere"),
        },
    )
    prepared, map_file = classifier.prepare_data(files.cells, str(tmp_path), "tf_dosage_sens_test")
    classes = {"Dosage-insensitive TFs": 0, "Dosage-sensitive TFs": 1}
    assert pickle.loads(Path(map_file).read_bytes()) == classes
    labels = load_from_disk(prepared).to_pandas()[["input_ids", "labels"]].explode(["input_ids", "labels"])
    sensitive = {files.dictionary[gene] for gene in transcription_factors()["Dosage-sensitive TFs"]}
    assert set(labels[labels["labels"] == 1]["input_ids"]) == sensitive & set(labels["input_ids"])
    trainer = classifier.train(files.model, prepared, str(tmp_path / "model"), split={"strategy": "token"})
    assert trainer.model.config.label2id == classes
    assert not (tmp_path / "elsewhere").exists()
    assert AutoModelForTokenClassification.from_pretrained(tmp_path / "model").config.label2id == classes


def test_a_dataset_that_geneformer_labelled(files: Files, tmp_path: Path) -> None:
    """Its map goes from id to name, in the order of a set, and lies beside both parts of a split."""
    cells = load_from_disk(files.cells)
    names = {0: "nf", 1: "dcm", 2: "hcm"}
    ids = {name: number for number, name in names.items()}
    labelled = cells.add_column("label", [ids[name] for name in cells["disease"]]).remove_columns("disease")
    sides = labelled.train_test_split(test_size=0.2, seed=42)
    for side in ("train", "test"):
        sides[side].save_to_disk(tmp_path / f"cm_labeled_{side}.dataset")
    (tmp_path / "cm_id_class_dict.pkl").write_bytes(pickle.dumps(names))
    classifier = GenericClassifier("label", training_args={"max_steps": 2}, nproc=1)
    trainer = classifier.train(
        files.model,
        str(tmp_path / "cm_labeled_train.dataset"),
        str(tmp_path / "model"),
        eval_dataset=str(tmp_path / "cm_labeled_test.dataset"),
    )
    assert trainer.model.config.label2id == ids
    metrics = classifier.evaluate(
        str(tmp_path / "model"),
        str(tmp_path / "cm_labeled_test.dataset"),
        str(tmp_path / "cm_id_class_dict.pkl"),
        str(tmp_path / "scored"),
    )
    assert 0 <= metrics["eval_accuracy"] <= 1
