"""The cells of stFormer's notebook Classification, one by one, on what its own code leaves: only the import is ours."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from datasets import load_from_disk
from sklearn.metrics import confusion_matrix
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import stformer_artefacts
from argument_sources import STFORMER
from sortase import GenericClassifier, load_and_filter
from sortase.errors import SortaseError

CHECKPOINT = "output/spot/models/250422_102707_stFormer_L6_E3/final"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stformer")
    done = subprocess.run(
        [sys.executable, stformer_artefacts.__file__, str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def notebook(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the notebook runs in."""
    shutil.copytree(made, tmp_path / "notebook")
    monkeypatch.chdir(tmp_path / "notebook")
    return tmp_path / "notebook"


def test_sequences(notebook: Path) -> None:
    classifier = GenericClassifier(metadata_column="subtype", nproc=24)
    ds_path, map_path = classifier.prepare_data(
        input_data_file="output/spot/visium_spot.dataset", output_directory="tmp", output_prefix="visium_spot"
    )
    prepared = load_from_disk(ds_path)
    assert prepared["label"] == [sorted(stformer_artefacts.SUBTYPES).index(name) for name in prepared["subtype"]]
    trainer = classifier.train(
        model_checkpoint=CHECKPOINT,
        dataset_path=ds_path,
        output_directory="output/models/classification",
        test_size=0.2,
    )

    eval_ds = load_from_disk(ds_path).shuffle(seed=42).select(range(100))
    preds = trainer.predict(eval_ds)
    y_true = preds.label_ids
    y_pred = preds.predictions.argmax(-1)
    assert y_true.tolist() == eval_ds["label"]
    assert preds.predictions.shape == (100, 3)
    with Path("output/models/classification/predictions.pkl").open("wb") as f:
        pickle.dump({"y_true": y_true, "y_pred": y_pred}, f)
    with Path(map_path).open("rb") as f:
        id_map = pickle.load(f)
    inv_map = {v: k for k, v in id_map.items()}
    class_order = [inv_map[i] for i in range(len(inv_map))]
    assert class_order == ["Basal", "HER2", "LumA"]
    cm = confusion_matrix(y_true, y_pred, labels=list(id_map.values()))

    classifier.plot_predictions(
        predictions_file="output/models/classification/predictions.pkl",
        id_class_dict_file=map_path,
        title="Visium Spot Subtype Predictions",
        output_directory="output/models/classification",
        output_prefix="visium_spot",
        class_order=class_order,
    )
    assert Path("output/models/classification/visium_spot_predictions.png").stat().st_size
    classifier.plot_confusion_matrix(cm, "output/models/classification", "visium_spot", class_order)
    assert Path("output/models/classification/visium_spot_confusion_matrix.png").stat().st_size


def test_the_saved_model_and_its_tokenizer_fit_each_other(notebook: Path) -> None:
    classifier = GenericClassifier("subtype", training_args={"max_steps": 2}, nproc=24)
    ds_path, _ = classifier.prepare_data("output/spot/visium_spot.dataset", "tmp", "visium_spot")
    classifier.train(CHECKPOINT, ds_path, "model")
    model = AutoModelForSequenceClassification.from_pretrained("model")
    tokenizer = AutoTokenizer.from_pretrained("model")
    assert max(tokenizer.get_vocab().values()) < model.config.vocab_size
    assert tokenizer.pad_token_id == model.config.pad_token_id == 0
    assert tokenizer.convert_tokens_to_ids(stformer_artefacts.gene(0)) == 2


def test_the_default_arguments_of_stformer(notebook: Path) -> None:
    classifier = GenericClassifier("subtype", training_args=STFORMER, nproc=1)
    ds_path, map_path = classifier.prepare_data("output/spot/visium_spot.dataset", "tmp", "visium_spot")
    trainer = classifier.train(CHECKPOINT, ds_path, "output/models/classification")
    assert trainer.args.lr_scheduler_type == "cosine"
    metrics = classifier.evaluate(
        model_directory="output/models/classification/final_model",
        eval_dataset_path=ds_path,
        id_class_dict_file=map_path,
        output_directory="output/models/classification",
    )
    assert {"eval_loss", "eval_accuracy"} <= metrics.keys()


def test_a_filtered_dataset_by_the_old_name(notebook: Path) -> None:
    cells = load_and_filter({"subtype": ["Basal"]}, nproc=16, input_data_file="output/spot/visium_spot.dataset")
    assert set(cells["subtype"]) == {"Basal"}


def token_classifier(**changes: object) -> GenericClassifier:
    """The arguments of the notebook."""
    return GenericClassifier(
        metadata_column=None,
        gene_class_dict=stformer_artefacts.hallmark(),
        classifier_type="token",
        freeze_layers=2,
        forward_batch_size=64,
        nproc=16,
        token_dictionary_file="output/token_dictionary.pickle",
        **changes,
    )


def prepare_genes(classifier: GenericClassifier) -> tuple[str, str]:
    return classifier.prepare_data(
        input_data_file="output/spot/visium_spot.dataset",
        output_directory="tmp/gene_tokens",
        output_prefix="visium_gene",
    )


def test_gene_sets_that_overlap_are_named_with_the_ways_out(notebook: Path) -> None:
    with pytest.raises(SortaseError) as refused:
        prepare_genes(token_classifier())
    for name in ("HALLMARK_APOPTOSIS", "HALLMARK_HYPOXIA", stformer_artefacts.gene(15), "overlap", "drop", "last"):
        assert name in str(refused.value)
    assert not Path("tmp").exists()


def test_tokens(notebook: Path) -> None:
    gene_classifier = token_classifier(overlap="last")  # stFormer silently does the same
    with pytest.warns(UserWarning, match="5 genes are in several classes and have their last class"):
        ds_path, map_path = prepare_genes(gene_classifier)
    ds = load_from_disk(ds_path)
    assert np.unique(ds["labels"][0]).tolist() == [-100, 0, 1, 2]
    peer = load_from_disk("prepared/visium_gene_labeled.dataset")
    assert dict(zip(ds["barcode"], ds["labels"], strict=True)) == dict(
        zip(peer["barcode"], peer["labels"], strict=True)
    )

    trainer = gene_classifier.train(
        model_checkpoint=CHECKPOINT,
        dataset_path=ds_path,
        output_directory="models/visium_gene_classifier",
    )
    assert trainer.model.config.label2id == {"HALLMARK_ANGIOGENESIS": 0, "HALLMARK_APOPTOSIS": 1, "HALLMARK_HYPOXIA": 2}
    metrics = gene_classifier.evaluate(
        model_directory="models/visium_gene_classifier/final_model",
        eval_dataset_path=ds_path,
        id_class_dict_file=map_path,
        output_directory="models/visium_gene_classifier",
    )
    assert {"eval_loss", "eval_accuracy", "eval_macro_f1"} <= metrics.keys()


@pytest.mark.slow
def test_search(notebook: Path) -> None:
    classifier = GenericClassifier(
        metadata_column="subtype",
        ray_config={
            "learning_rate": [1e-5, 5e-5],
            "num_train_epochs": [2, 3],
            "weight_decay": [0.0, 0.3],
            "lr_scheduler_type": ["linear", "cosine", "polynomial"],
            "seed": [0, 100],
        },
        nproc=24,
    )
    ds_path, map_path = classifier.prepare_data(
        input_data_file="output/spot/visium_spot.dataset", output_directory="tmp", output_prefix="visium_spot"
    )
    best_run = classifier.train(
        model_checkpoint=CHECKPOINT,
        dataset_path=ds_path,
        output_directory="output/models/tuned_classification",
        n_trials=2,
        test_size=0.2,
    )
    trials = pd.read_csv("output/models/tuned_classification/tune/leaderboard.csv")
    assert trials["status"].isin(["done", "pruned"]).all()
    assert trials["seed"].between(0, 100).all()
    preds = best_run.predict(load_from_disk(ds_path))
    assert preds.predictions.shape == (stformer_artefacts.SPOTS, 3)
    metrics = classifier.evaluate(
        "output/models/tuned_classification/best_model", ds_path, map_path, "output/models/tuned_classification"
    )
    assert metrics["eval_accuracy"] == pytest.approx(np.mean(preds.predictions.argmax(-1) == preds.label_ids))
