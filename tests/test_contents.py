"""Files that lie beside a dataset or a model and are no part of it change nothing."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset, load_from_disk
from transformers import AutoConfig, AutoModelForSequenceClassification

from makers import architecture, rows
from sortase import GenericClassifier, storage

LITTER = ("cache-0123456789abcdef.arrow", ".DS_Store", "._state.json", "dataset_info.json~", "#state.json#")
LITTER += ("__pycache__/make.cpython-311.pyc", ".ipynb_checkpoints/x.json", "tmpv1x0a2", "Thumbs.db")
BESIDE_A_MODEL = (".gitattributes", "README.md", "config.json~", "._model.safetensors", "training_args.bin")
BESIDE_A_MODEL += ("checkpoint-500/model.safetensors", "runs/events.out.tfevents.1", "optimizer.pt", "attempt.json")


def put(folder: str, *names: str) -> None:
    for name in names:
        storage.write_bytes(storage.join(folder, *name.split("/")), name.encode())


def saved_dataset(root: str, tmp_path: Path) -> str:
    Dataset.from_dict({"input_ids": rows(20), "label": [0, 1] * 10}).save_to_disk(tmp_path / "made")
    storage.upload(tmp_path / "made", storage.join(root, "cells.dataset"))
    return storage.join(root, "cells.dataset")


def saved_model(folder: Path) -> None:
    AutoModelForSequenceClassification.from_config(AutoConfig.for_model(**architecture())).save_pretrained(folder)


def test_a_dataset_is_what_its_state_names(root: str, tmp_path: Path) -> None:
    url = saved_dataset(root, tmp_path)
    first = storage.fingerprint(url)
    fetched = storage.fetch(url)
    put(url, *LITTER)
    assert storage.fingerprint(url) == first
    assert storage.fetch(url) == fetched
    if storage.is_remote(url):
        assert {path.name for path in fetched.iterdir()} == {path.name for path in (tmp_path / "made").iterdir()}
    put(url, "data-00001-of-00002.arrow", "notes.txt")  # neither does state.json name
    assert storage.fingerprint(url) == first
    storage.write_bytes(storage.join(url, "data-00000-of-00001.arrow"), b"other")
    assert storage.fingerprint(url) != first


def test_a_model_is_what_transformers_loads(root: str, tmp_path: Path) -> None:
    saved_model(tmp_path / "made")
    url = storage.join(root, "model")
    storage.upload(tmp_path / "made", url)
    put(url, "tokenizer.json")
    first = storage.fingerprint(url)
    put(url, *BESIDE_A_MODEL)
    assert storage.fingerprint(url) == first
    if storage.is_remote(url):
        copied = {path.name for path in storage.fetch(url).iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= copied
        assert not copied & {"checkpoint-500", "runs", ".gitattributes", "config.json~"}
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        before = storage.fingerprint(url)
        storage.write_bytes(storage.join(url, name), b"{}")
        assert storage.fingerprint(url) != before


def test_any_other_folder_is_all_but_litter(root: str) -> None:
    folder = storage.join(root, "counts")
    put(folder, "a.csv", "b/c.csv")
    first = storage.fingerprint(folder)
    put(folder, ".DS_Store", "a.csv~", "b/.nfs0001")
    assert storage.fingerprint(folder) == first
    put(folder, "b/.zattrs")  # zarr describes its groups in files that are hidden
    described = storage.fingerprint(folder)
    assert described != first
    assert not storage.is_remote(folder) or (storage.fetch(folder) / "b" / ".zattrs").is_file()
    put(folder, "d.csv")
    assert storage.fingerprint(folder) not in (first, described)


def test_a_finished_training_stays_finished_when_somebody_looks_at_its_data(tmp_path: Path) -> None:
    """`datasets` leaves cache-*.arrow where it filtered; an editor and a desktop leave more."""
    saved_model(tmp_path / "pretrained")
    arguments = {"max_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
    classifier = GenericClassifier("cell_type", nproc=1, training_args=arguments)
    cells = Dataset.from_dict({"input_ids": rows(40), "cell_type": ["B", "T"] * 20})
    prepared, _ = classifier.prepare_data(cells, str(tmp_path / "data"), "x")
    classifier.train(str(tmp_path / "pretrained"), prepared, str(tmp_path / "out"))
    stamp = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    load_from_disk(prepared).filter(lambda row: row["label"] == 0)
    assert list(Path(prepared).glob("cache-*.arrow"))
    put(prepared, ".DS_Store", "state.json~")
    put(str(tmp_path / "pretrained"), *BESIDE_A_MODEL)
    classifier.train(str(tmp_path / "pretrained"), prepared, str(tmp_path / "out"))
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == stamp

    assert classifier.prepare_data(cells, str(tmp_path / "data"), "x")[0] == prepared
    anew = GenericClassifier("cell_type", nproc=1, rare_threshold=0.1, replace=True)
    anew.prepare_data(cells.select(range(30)), str(tmp_path / "data"), "x")
    assert len(load_from_disk(prepared)) == 30
