"""Checkpoints as they lie about: wrapped models, other sizes, heads of other tasks, leftovers of a former life."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForMaskedLM, BertForSequenceClassification

from makers import CLASSES, assert_same_weights, dataset, run_training, train_job, weights
from model_families import FAMILIES, config_of, pretrained
from sortase import predict_from_checkpoint
from sortase.config.load import check
from sortase.config.model import ModelSpec
from sortase.errors import InputError
from sortase.model.load import load_trained
from sortase.model.weights import plain_name
from sortase.pipeline.preflight_model import check_model

ONE_STEP = {
    "max_steps": 1,
    "learning_rate": 1e-9,
    "eval_strategy": "no",
    "keep_best": False,
    "save_strategy": "no",
}
QUERY = "bert.encoder.layer.0.attention.self.query.weight"


def trained_from(checkpoint: str, folder: Path, kind: str = "sequence", **spec: Any) -> tuple[Any, list[str]]:
    """One step of a training, and what it said."""
    from sortase.runs.events import Events
    from sortase.runs.folder import RunFolder
    from sortase.train.job import train

    job = train_job(kind, model=ModelSpec(checkpoint=checkpoint, **spec), **ONE_STEP)
    run = RunFolder(str(folder))
    run.begin()
    said: list[str] = []
    fitted, _ = train(job, run, Events(run), said.append)
    return fitted, said


def rename(folder: Path, name_of: Any) -> None:
    for path in folder.glob("*.safetensors"):
        save_file({name_of(name): value for name, value in load_file(path).items()}, path, metadata={"format": "pt"})
    index = folder / "model.safetensors.index.json"
    if index.exists():
        content = json.loads(index.read_text())
        content["weight_map"] = {name_of(name): file for name, file in content["weight_map"].items()}
        index.write_text(json.dumps(content))


def inside(name: str) -> str:
    """As torch.compile of each layer by itself names them."""
    return name.replace(".attention.", "._orig_mod.attention.")


# huggingface/transformers 25205, pytorch/pytorch 101107, karpathy/nanoGPT 325: nothing matched, and all began anew.
@pytest.mark.parametrize("shards", [pytest.param("50GB", id="one file"), pytest.param("10KB", id="shards")])
@pytest.mark.parametrize(
    "name_of",
    [
        pytest.param(lambda name: f"_orig_mod.{name}", id="torch.compile"),
        pytest.param(lambda name: f"module.{name}", id="DataParallel"),
        pytest.param(lambda name: f"module._orig_mod.{name}", id="both"),
        pytest.param(inside, id="compiled layers"),
        pytest.param(lambda name: f"_fsdp_wrapped_module.{name}", id="FSDP"),
    ],
)
def test_names_of_wrapped_models_are_understood(tmp_path: Path, name_of: Any, shards: str) -> None:
    torch.manual_seed(0)
    model = BertForMaskedLM(config_of("bert"))
    model.save_pretrained(tmp_path / "pretrained", max_shard_size=shards)
    rename(tmp_path / "pretrained", name_of)
    assert len(list((tmp_path / "pretrained").glob("*.safetensors"))) == 1 or shards == "10KB"
    fitted, said = trained_from(str(tmp_path / "pretrained"), tmp_path / "run")
    assert any("is read as" in line for line in said)
    np.testing.assert_allclose(weights(tmp_path / "run")[QUERY], model.state_dict()[QUERY].numpy(), atol=1e-6)
    assert fitted.summary["new_tensors"] == [
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "classifier.bias",
        "classifier.weight",
    ]
    assert set(weights(tmp_path / "run")) == set(BertForSequenceClassification(model.config).state_dict())


def test_only_wrappers_are_taken_out_of_names() -> None:
    assert plain_name("encoder.module.weight") == "encoder.module.weight"
    assert plain_name("module.weight") == "weight"


def test_two_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM")
    path = tmp_path / "p" / "model.safetensors"
    found = load_file(path)
    save_file({**found, f"module.{QUERY}": found[QUERY] + 1}, path, metadata={"format": "pt"})
    with pytest.raises(InputError, match=rf"{QUERY} twice"):
        trained_from(str(tmp_path / "p"), tmp_path / "run")


@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "opt"])
def test_only_head_and_pooler_are_new(tmp_path: Path, family: str, kind: str) -> None:
    auto = "AutoModelForCausalLM" if family == "gpt2" else "AutoModelForMaskedLM"
    checkpoint = pretrained(tmp_path / "p", family, auto)
    fitted, said = trained_from(checkpoint, tmp_path / "run", kind)
    summary = fitted.summary
    total = sum(parameter.numel() for parameter in fitted.trainer.model.parameters())
    assert summary["from_checkpoint"] + summary["new"] == summary["parameters"] == total
    assert 0 < summary["new"] <= 16 * 16 + 16 + 3 * 16 + 3
    assert all("classifier" in name or "pooler" in name or name == "score.weight" for name in summary["new_tensors"])
    line = next(line for line in said if "come from" in line)
    assert line.startswith(
        f"train: {summary['from_checkpoint']:,} of {total:,} parameters come from {checkpoint}; new: "
    )
    assert sum(line.count(name) for name in summary["new_tensors"]) >= len(summary["new_tensors"])


def test_a_classifier_of_other_classes_gets_a_new_head(tmp_path: Path) -> None:
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForSequenceClassification", num_labels=7)
    fitted, _ = trained_from(checkpoint, tmp_path / "run")
    assert fitted.summary["new_tensors"] == ["classifier.bias", "classifier.weight"]
    assert fitted.summary["new"] == 3 * 16 + 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param(
            {"hidden_size": 32}, r"embeddings\.LayerNorm\.bias is \[16\] in the checkpoint and \[32\] in", id="width"
        ),
        pytest.param(
            {"num_hidden_layers": 5}, r"lack bert\.encoder\.layer\.3\..* and \d+ more; only the head", id="deeper"
        ),
        pytest.param({"num_hidden_layers": 2}, r"hold \S*encoder\.layer\.2\..* has no part for", id="shallower"),
        pytest.param(
            {"vocab_size": 70}, r"word_embeddings\.weight is \[60, 16\] in .* and \[70, 16\]", id="vocabulary"
        ),
        pytest.param({"max_position_embeddings": 99}, r"position_embeddings\.weight is \[64, 16\]", id="positions"),
        pytest.param({"model_type": "gpt2"}, r"lack transformer\..*another kind of model than gpt2", id="family"),
    ],
)
@pytest.mark.parametrize("auto", ["AutoModel", "AutoModelForMaskedLM"])
def test_weights_of_another_size_are_refused(tmp_path: Path, changes: dict[str, Any], words: str, auto: str) -> None:
    pretrained(tmp_path / "p", "bert", auto)
    path = tmp_path / "p" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=words):
        trained_from(str(tmp_path / "p"), tmp_path / "run")
    settings = {"run": {"name": "r"}, "data": {"dataset": "d"}, "labels": {"column": "c"}}
    with pytest.raises(InputError, match=words):
        check_model(check({**settings, "model": {"checkpoint": str(tmp_path / "p")}}), None)


@pytest.mark.parametrize("name_of", [None, inside], ids=["plain", "wrapped"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "deberta-v2"])
def test_a_good_checkpoint_passes_preflight(tmp_path: Path, family: str, name_of: Any) -> None:
    auto = "AutoModelForCausalLM" if family == "gpt2" else "AutoModelForMaskedLM"
    checkpoint = pretrained(tmp_path / "p", family, auto)
    if name_of:
        rename(tmp_path / "p", name_of)
    settings = {"run": {"name": "r"}, "data": {"dataset": "d"}, "labels": {"column": "c"}}
    line = check_model(check({**settings, "model": {"checkpoint": checkpoint, "freeze_layers": 1}}), None)
    assert line.startswith("preflight: ")


def test_fewer_layers_on_request(tmp_path: Path) -> None:
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM")
    fitted, _ = trained_from(checkpoint, tmp_path / "run", config={"num_hidden_layers": 2})
    assert fitted.trainer.model.config.num_hidden_layers == 2


def test_the_table_of_the_library_is_not_shown(tmp_path: Path, caplog: Any) -> None:
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM")
    from transformers.utils import logging

    logging.enable_propagation()
    try:
        trained_from(checkpoint, tmp_path / "run")
        shown = [record.message for record in caplog.records if "REPORT" in record.message]
        BertForSequenceClassification.from_pretrained(checkpoint)  # by itself it goes on as before
    finally:
        logging.disable_propagation()
    assert shown == []
    assert any("LOAD REPORT" in record.message for record in caplog.records)


FORMER = {
    "problem_type": "multi_label_classification",
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "torchscript": True,
    "num_labels": 9,
    "id2label": {"0": "x", "4": "y"},
    "label2id": {"z": 3},
}


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2"])
def test_leftovers_change_nothing(tmp_path: Path, family: str) -> None:
    made = []
    for name, leftovers in (("plain", {}), ("former", FORMER)):
        pretrained(tmp_path / name, family)
        path = tmp_path / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | leftovers))
        job = train_job(model=ModelSpec(checkpoint=str(tmp_path / name)), max_steps=3)
        run_training(tmp_path / f"run-{name}", job)
        made.append(weights(tmp_path / f"run-{name}"))
    assert_same_weights(*made)
    path = tmp_path / "run-former" / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"return_dict": False, "output_hidden_states": True}))
    dataset(n=9).save_to_disk(tmp_path / "rows")
    found = [
        predict_from_checkpoint(str(tmp_path / f"run-{name}" / "model"), str(tmp_path / "rows"), return_logits=True)
        for name in ("plain", "former")
    ]
    assert np.array_equal(found[0][1], found[1][1])
    trained = load_trained(str(tmp_path / "run-former" / "model"))
    assert trained.class_map == CLASSES
    config = trained.model.config
    assert (config.problem_type, config.return_dict, config.output_hidden_states) == (None, True, False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"id2label": {"0": "a", "1": "b", "3": "c"}}, r"ids \[0, 1, 3\]; they must be 0 to 2", id="gap"),
        pytest.param({"id2label": {"0": "a", "1": "b", "2": "a"}}, "'a' to more than one id", id="double"),
        pytest.param(
            {"label2id": {"a": 1, "b": 0, "c": 2}}, "'a' is 0 in the one and 1 in the other", id="contradiction"
        ),
        pytest.param({"num_hidden_layers": 2}, r"hold bert\.encoder\.layer\.2\..* has no part for", id="fewer layers"),
        pytest.param(
            {"id2label": {"0": "a", "1": "b"}, "label2id": None},
            r"classifier\.\w+ is \[3\S* in the checkpoint and \[2",
            id="fewer than the head has",
        ),
    ],
)
def test_a_trained_model_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    config = config_of("bert", id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2})
    BertForSequenceClassification(config).save_pretrained(tmp_path)
    assert load_trained(str(tmp_path)).class_map == {"a": 0, "b": 1, "c": 2}
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=words):
        load_trained(str(tmp_path))
