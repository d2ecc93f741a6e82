"""What is found out before a run starts, and that a refusal leaves nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from makers import architecture, rows
from sortase import storage
from sortase.config.load import check
from sortase.config.run import Config
from sortase.errors import ConfigError, InfrastructureError, InputError, MissingInputError, StorageError
from sortase.model import memory
from sortase.model.load import build_model, load_config
from sortase.model.memory import Shape, estimate, machine_memory, shape_of, size
from sortase.model.task import TASKS
from sortase.pipeline import preflight_model
from sortase.pipeline.preflight import preflight
from sortase.runs.folder import RunFolder

Make = Callable[..., Config]


@pytest.fixture
def make(tmp_path: Path, root: str) -> Make:
    """A run over 120 rows in ``root``; keywords are changed sections."""
    ids = rows(120)
    columns = {"cell_type": ["BNT"[row[0] - 5] for row in ids], "donor": [f"d{i % 6}" for i in range(120)]}
    Dataset.from_dict({"input_ids": ids, **columns}).save_to_disk(str(tmp_path / "cells.dataset"))
    storage.upload(tmp_path / "cells.dataset", storage.join(root, "input", "cells.dataset"))
    (tmp_path / "classes.json").write_text(json.dumps({"up": ["g1", "g2"], "down": ["g3"]}))
    (tmp_path / "vocabulary.json").write_text(json.dumps({"<pad>": 0, "g1": 1, "g2": 2, "g3": 3}))

    def configure(**sections: dict[str, Any]) -> Config:
        settings: dict[str, Any] = {
            "run": {"name": "small", "output": storage.join(root, "runs")},
            "data": {"dataset": storage.join(root, "input", "cells.dataset")},
            "labels": {"column": "cell_type"},
            "model": {"config": architecture()},
            "compute": {"device": "cpu"},
        }
        for name, section in sections.items():
            values = {key: _placed(value, tmp_path) for key, value in section.items()}
            settings[name] = {**settings.get(name, {}), **values}
        return check({name: section for name, section in settings.items() if section})

    return configure


def _placed(value: Any, folder: Path) -> Any:
    return value.replace("HERE", str(folder)) if isinstance(value, str) else value


def folder_of(config: Config) -> RunFolder:
    return RunFolder(storage.join(config.run.output, config.run.name))


def go(config: Config, **options: Any) -> list[str]:
    return preflight(config, folder_of(config), **options)


def written(config: Config) -> bool:
    return storage.exists(config.run.output)


local = pytest.mark.parametrize("root", ["local"], indirect=True)


def test_a_good_run_is_told_its_memory_steps_and_storage(make: Make) -> None:
    config = make(predict={"dataset": make().data.dataset}, split={"strategy": "group", "column": "donor"})
    model, steps, place = go(config)
    count = sum(p.numel() for p in build_model(TASKS["sequence"], {"a": 0, "b": 1}, None, _bert(), 0).parameters())
    assert f"{count:,} parameters" in model
    assert "weights" in model and "activations" in model
    assert "3 epochs" in steps and "batches of 8 examples" in steps
    assert folder_of(config).url in place
    assert not storage.list_files(config.run.output)


def _bert() -> Any:
    return load_config(None, architecture())


@local
def test_steps_follow_from_rows_split_and_batches(make: Make) -> None:
    sizes = {"test_size": 0.2, "validation_size": 0.1}
    assert "at most 84 rows, 3 epochs of 11 steps" in go(make(split=sizes))[1]
    assert (
        "at most 35 rows, 2 epochs of 18 steps"
        in go(make(split=sizes, data={"max_examples": 50}, train={"num_train_epochs": 2, "global_batch_size": 2}))[1]
    )
    assert "5 steps in batches of 8" in go(make(train={"max_steps": 5}))[1]
    assert "batches of 4,000 tokens; steps and duration are known" in go(make(train={"global_batch_tokens": 4000}))[1]
    assert "batches of 32 examples" in go(make(compute={"workers": 4}))[1]


@local
def test_what_prepare_counted_and_an_earlier_attempt_measured_is_used(make: Make) -> None:
    config = make(train={"num_train_epochs": 1})
    folder = folder_of(config)
    with folder.stage("prepare", {}):
        pass
    storage.write_json(folder.path("data", "prepare.json"), {"split": {"sides": {"train": {"rows": 80}}}})
    training = {"steps": 7, "resumed_from": 2, "seconds": 100.0, "workers": 1}
    storage.write_json(folder.path("run.json"), {"training": training})
    assert "80 rows, 1 epoch of 10 steps in batches of 8 examples; about 3 min at the 20 s a step" in go(config)[1]
    assert "at most" not in go(config)[1]
    assert "measured after" in go(make(train={"num_train_epochs": 1}, compute={"workers": 2}))[1]


@pytest.mark.parametrize(
    ("sections", "error", "words"),
    [
        pytest.param({"labels": {"column": "celltype"}}, InputError, "did you mean 'cell_type'", id="label-column"),
        pytest.param({"split": {"strategy": "group", "column": "doner"}}, InputError, "'donor'", id="split-column"),
        pytest.param({"data": {"filter": {"tissue": "lung"}}}, InputError, "unknown column 'tissue'", id="filter"),
        pytest.param({"data": {"filter": {"donor": 3}}}, InputError, "does not fit", id="filter-type"),
        pytest.param({"split": {"strategy": "token"}}, ConfigError, "labels.task sequence", id="split-kind"),
        pytest.param({"labels": {"mapping": {"B": 1, "N": 2}}}, InputError, "0 to 1", id="mapping"),
        pytest.param({"predict": {"dataset": "HERE/none"}}, MissingInputError, "none does not exist", id="predict"),
        pytest.param({"model": {"config": architecture(model_type="brt")}}, ConfigError, "unknown", id="family"),
        pytest.param({"model": {"config": architecture(hiden_size=3)}}, ConfigError, "hidden_size", id="setting"),
        pytest.param({"model": {"config": architecture(hidden_size=15)}}, ConfigError, "multiple", id="heads"),
        pytest.param({"model": {"config": {"num_hidden_layers": 2}}}, ConfigError, "vocab_size", id="no-vocabulary"),
        pytest.param({"model": {"freeze_layers": 3}}, ConfigError, "has 2 layers", id="freeze"),
        pytest.param({"model": {"checkpoint": "./none"}}, MissingInputError, "./none does not exist", id="checkpoint"),
        pytest.param({"model": {"tokenizer": "./none.pkl"}}, MissingInputError, "none.pkl", id="tokenizer"),
        pytest.param({"compute": {"workers": 1, "deepspeed": "HERE/z.json"}}, MissingInputError, "z.json", id="zero"),
        pytest.param(
            {"train": {"global_batch_tokens": 9, "global_batch_size": 9}}, ConfigError, "not both", id="batch"
        ),
    ],
)
def test_a_bad_run_is_refused_before_anything_is_written(
    make: Make, sections: dict[str, Any], error: type[Exception], words: str
) -> None:
    config = make(**sections)
    with pytest.raises(error, match=words):
        go(config)
    assert not written(config)


@pytest.mark.parametrize(
    ("sections", "error", "words"),
    [
        pytest.param({"labels": {"gene_class_dict": "HERE/class.json"}}, MissingInputError, "classes.json", id="none"),
        pytest.param({"labels": {"vocabulary": "HERE/v.json"}}, MissingInputError, "v.json", id="vocabulary"),
        pytest.param({"labels": {"gene_class_dict": {"a": ["x"], "b": ["y"]}}}, InputError, "class", id="unknown"),
        pytest.param({"labels": {"gene_class_dict": {"a": ["g1"]}}}, InputError, "at least two", id="one-class"),
    ],
)
def test_bad_gene_classes_are_refused(make: Make, sections: dict[str, Any], error: type[Exception], words: str) -> None:
    labels = {"task": "token", "gene_class_dict": "HERE/classes.json", "vocabulary": "HERE/vocabulary.json"}
    assert len(go(make(labels=labels), only="prepare")) == 1
    config = make(run={"name": "bad", "output": "HERE/bad"}, labels={**labels, **sections["labels"]})
    with pytest.raises(error, match=words):
        go(config)
    assert not written(config)


def test_a_missing_dataset_is_told_what_is_near(make: Make) -> None:
    url = make().data.dataset
    assert url is not None
    config = make(data={"dataset": url.replace("cells", "cell")})
    with pytest.raises(MissingInputError, match=r"near it are \['cells\.dataset'\]"):
        go(config)
    no_dataset = make(data={"dataset": storage.join(url, "..").removesuffix("/..").rpartition("/")[0]})
    with pytest.raises(InputError, match="is not a dataset"):
        go(no_dataset)
    assert not written(config)


@local
def test_counts_that_are_missing_and_columns_that_are_not_carried_along(make: Make, tmp_path: Path) -> None:
    (tmp_path / "counts.csv").write_text("cell,g1,donor,cell_type\nc1,3,d1,B\n")
    (tmp_path / "genes.csv").write_text("cell,g1\nc1,3\n")

    def tokenised(**changes: Any) -> Config:
        return make(data={"dataset": None}, tokenize={"input": "HERE/counts.csv", **changes})

    with pytest.raises(MissingInputError, match=r"count\.csv does not exist; near it are \['counts\.csv'\]"):
        go(tokenised(input="HERE/count.csv"))
    with pytest.raises(MissingInputError, match="medians"):
        go(tokenised(medians="HERE/medians.json"))
    with pytest.raises(InputError, match=r"unknown column 'cell_type' for labels\.column"):
        go(tokenised(columns=["donor"]))
    with pytest.raises(InputError, match=r"unknown column 'donor' in tokenize\.columns"):
        go(tokenised(input="HERE/genes.csv", columns=["donor"]))
    with pytest.raises(InputError, match="unknown column 'cell_type' for labels"):
        go(tokenised(input="HERE/genes.csv"))
    assert not written(tokenised())
    model, _, _ = go(tokenised(columns=["donor", "cell_type"]))
    assert "embeddings are not counted" not in model  # model.config gives the size of the vocabulary
    config = tokenised()
    bare = config.model_copy(update={"model": make(model={"config": {"model_type": "modernbert"}}).model})
    assert "its token embeddings are not counted" in go(bare)[0]


@local
def test_checkpoints_are_looked_at_where_they_lie(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(TASKS["sequence"], {"a": 0, "b": 1}, None, _bert(), 0)
    model.save_pretrained(tmp_path / "model")
    assert f"{model.num_parameters():,} parameters" in go(make(model={"config": None, "checkpoint": "HERE/model"}))[0]
    hub = make(model={"config": None, "checkpoint": "someone/of-the-hub"})
    assert go(hub)[0] == "preflight: someone/of-the-hub lies on a hub; its memory is not estimated"
    (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(InputError, match="a pickle that could run code"):
        go(make(model={"config": None, "checkpoint": "HERE/model"}))


def test_a_remote_checkpoint_is_described_without_its_weights(make: Make, s3_url: str, tmp_path: Path) -> None:
    _bert().save_pretrained(tmp_path / "model")
    storage.upload(tmp_path / "model", f"{s3_url}/model")
    storage.write_bytes(f"{s3_url}/model/model.safetensors", b"never read here")
    assert "parameters" in go(make(model={"config": None, "checkpoint": f"{s3_url}/model"}))[0]
    with pytest.raises(MissingInputError, match="modle does not exist; near it are"):
        go(make(model={"config": None, "checkpoint": f"{s3_url}/modle"}))
    storage.remove(f"{s3_url}/model/config.json")
    with pytest.raises(MissingInputError, match=r"no config\.json"):
        go(make(model={"config": None, "checkpoint": f"{s3_url}/model"}))


@pytest.mark.parametrize("root", ["s3"], indirect=True)
def test_a_remote_dataset_is_not_copied(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(url: str) -> Path:
        raise AssertionError(f"{url} was copied")

    monkeypatch.setattr(storage, "fetch", fetched)
    assert "3 epochs in batches" in go(make())[1]


@local
def test_a_model_that_cannot_fit_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfrastructureError, match=r"parameters and their optimizer alone need .* has 10 KiB") as error:
        go(make(), device_memory=10 * 1024)
    assert error.value.exit_code == 3
    assert not written(make())
    assert "of this machine" in go(make())[0]
    monkeypatch.setattr(preflight_model, "machine_memory", lambda: 140_000)
    assert "of this machine" in go(make())[0]
    with pytest.raises(InfrastructureError, match="in each of 2 training processes"):
        go(make(compute={"workers": 2}))
    assert "of this machine" not in go(make(compute={"workers": 2, "address": "10.0.0.1:6379"}))[0]


@local
def test_a_gpu_of_this_machine_has_its_own_memory(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight_model, "has_gpu", lambda compute: compute.device != "cpu")
    monkeypatch.setattr(preflight_model, "gpu_memory", lambda: 80 * 2**30)
    gpu = make(compute={"device": "auto"})
    assert "of the 80 GiB of this machine's GPU" in go(gpu)[0]
    assert "of this machine's GPU" in go(make(compute={"device": "auto", "workers": 2}))[0]
    assert "GPU" not in go(make(compute={"device": "auto", "workers": 2, "address": "10.0.0.1:6379"}))[0]
    monkeypatch.setattr(preflight_model, "gpu_memory", lambda: 10 * 1024)
    with pytest.raises(InfrastructureError, match="this machine's GPU has 10 KiB"):
        go(gpu)


@local
def test_only_the_stage_that_is_asked_for_is_looked_at(make: Make) -> None:
    bad = make(model={"checkpoint": "./none"}, predict={"dataset": "HERE/none"})
    assert len(go(bad, only="prepare")) == 1
    assert len(go(make(labels={"column": "nothing"}), only="train")) == 3
    with pytest.raises(MissingInputError):
        go(bad, only="train")
    with pytest.raises(MissingInputError):
        go(bad, only="predict")


@local
def test_a_finished_stage_is_looked_at_again_only_to_be_replaced(make: Make) -> None:
    config = make(labels={"column": "nothing"})
    with folder_of(config).stage("prepare", {}):
        pass
    assert len(go(config)) == 3
    with pytest.raises(InputError):
        go(config, replace=True)


@local
def test_an_output_that_cannot_be_written_is_refused(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((StorageError, OSError), match="file"):
        go(make(run={"name": "small", "output": "HERE/file"}))


@local
def test_preparing_needs_no_torch(make: Make, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(make().model_dump_json())
    code = (
        "import sys, json\nfrom sortase.config.load import check\nfrom sortase.pipeline.preflight import preflight\n"
        "from sortase.runs.folder import RunFolder\n"
        f"config = check(json.load(open({str(tmp_path / 'config.json')!r})))\n"
        f"preflight(config, RunFolder({str(tmp_path / 'out')!r}), only='prepare')\n"
        "assert 'torch' not in sys.modules and 'ray' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


SHAPE = Shape(parameters=1000, trainable=600, layers=2, hidden=8, intermediate=32)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({}, (4000, 2400, 4800), id="adamw"),
        pytest.param({"precision": "bf16"}, (4000, 2400, 4800), id="autocast"),
        pytest.param({"optimizer": "sgd"}, (4000, 2400, 0), id="no-moments"),
        pytest.param({"workers": 4}, (4000, 2400, 4800), id="ddp-divides-nothing"),
        pytest.param({"workers": 4, "zero": {"stage": 1}}, (4000, 2400, 1800), id="zero-1"),
        pytest.param({"workers": 4, "zero": {"stage": 2}}, (4000, 600, 1800), id="zero-2"),
        pytest.param({"workers": 4, "zero": {"stage": 3}}, (1000, 600, 1800), id="zero-3"),
        pytest.param({"zero": {"stage": 2}, "precision": "bf16"}, (2000, 1200, 7200), id="zero-bf16"),
        pytest.param({"zero": {"stage": 1, "offload_optimizer": {"device": "cpu"}}}, (4000, 2400, 0), id="offloaded"),
        pytest.param({"zero": {"stage": 1, "offload_optimizer": {"device": "none"}}}, (4000, 2400, 7200), id="kept"),
    ],
)
def test_memory_is_divided_as_zero_divides_it(options: dict[str, Any], expected: tuple[int, int, int]) -> None:
    found = estimate(SHAPE, **{"tokens": 0, "precision": "fp32", **options})
    assert (found.weights, found.gradients, found.optimizer) == expected
    assert found.least == found.weights + found.optimizer
    assert found.activations == 0


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        pytest.param("bert", {}, id="bert"),
        pytest.param("bert", {"hidden_dropout_prob": 0.1}, id="bert with dropout"),
        pytest.param("bert", {"intermediate_size": 128}, id="narrow bert"),
        pytest.param("esm", {}, id="esm"),
        pytest.param("distilbert", {}, id="distilbert"),
        pytest.param("modernbert", {"local_attention": 32}, id="modernbert with windows"),
    ],
)
def test_activations_are_of_the_size_that_the_backward_pass_keeps(
    model_type: str, changes: dict[str, Any], kind: str, precision: str
) -> None:
    """Storages that autograd keeps, parameters apart, against the formula: within a factor of 1.5."""
    if model_type == "distilbert":
        sizes: dict[str, Any] = {"dim": 128, "n_layers": 4, "n_heads": 4, "hidden_dim": 512}
    else:
        sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 512}
        sizes |= {} if model_type == "modernbert" else {"hidden_dropout_prob": 0.0}
    config = load_config(None, architecture(model_type, **{**sizes, **changes}))
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    model = build_model(TASKS[kind], {"a": 0, "b": 1}, None, config, 0).train()
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}
    held = []  # what is alive keeps its address

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage_of = tensor.untyped_storage()
        if storage_of.data_ptr() not in own:
            kept[storage_of.data_ptr()] = storage_of.nbytes()
            held.append(tensor)
        return tensor

    ids = torch.randint(8, 60, (16, 60))
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        model(input_ids=ids)
    shape = shape_of(config, TASKS[kind], 2, 0)
    estimated = estimate(shape, tokens=ids.numel(), precision=precision, length=60).activations
    assert 1 / 1.5 < estimated / sum(kept.values()) < 1.5


def test_a_frozen_prefix_needs_no_gradients_and_no_activations() -> None:
    config = _bert()
    whole, half = (shape_of(config, TASKS["sequence"], 3, layers) for layers in (0, 1))
    assert half.parameters == whole.parameters == whole.trainable
    assert half.trainable < whole.trainable
    assert (half.layers, whole.layers) == (1, 2)


def test_a_container_has_its_own_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "CGROUP_LIMITS", (str(limit), str(tmp_path / "none")))
    limit.write_text("max\n")
    whole = machine_memory()
    assert whole is not None
    limit.write_text("1048576\n")
    assert machine_memory() == 1048576
    assert size(1048576) == "1 MiB"
    assert size(whole * 2**20) != size(whole)
