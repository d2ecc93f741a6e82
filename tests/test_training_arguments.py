"""Training arguments: one table for every name, what each becomes, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from argument_sources import DICTIONARIES, OLDER_DEFAULTS, STFORMER_SEARCH
from sortase import GenericClassifier
from sortase.config.load import check
from sortase.config.model import ModelSpec
from sortase.config.run import Config
from sortase.config.train import TrainSpec, check_arguments
from sortase.config.training_arguments import OLDER_OPTIMIZERS, OPTIMIZERS, SCHEDULERS, TABLE
from sortase.errors import ConfigError, SortaseError
from sortase.train.trials import trial_seed, trial_settings

ROOT = Path(__file__).resolve().parents[1]


def classifier(arguments: Any = None, **settings: Any) -> GenericClassifier:
    return GenericClassifier("cell_type", training_args=arguments, **settings)


def run_yaml(train: dict[str, Any], **sections: Any) -> Config:
    base: dict[str, Any] = {
        "run": {"name": "blood"},
        "data": {"dataset": "cells.dataset"},
        "labels": {"column": "cell_type"},
        "model": {"checkpoint": "geneformer"},
    }
    return check({**base, "train": train, **sections}, "run.yaml")


def installed() -> dict[str, Any]:
    from transformers import TrainingArguments

    missing = dataclasses.MISSING
    return {
        field.name: field.default if field.default_factory is missing else field.default_factory()
        for field in dataclasses.fields(TrainingArguments)
    }


def test_the_table_has_every_field_of_the_installed_version_and_no_others() -> None:
    assert {name for name, row in TABLE.items() if not row.older} == installed().keys()
    assert {name for name, row in TABLE.items() if row.older} == OLDER_DEFAULTS.keys()


def test_the_tables_choices_are_those_of_the_installed_version() -> None:
    from transformers.trainer_utils import IntervalStrategy, SaveStrategy, SchedulerType
    from transformers.training_args import OptimizerNames

    def values(kind: type[Enum]) -> set[str]:
        return {item.value for item in kind}

    assert values(OptimizerNames) == set(OPTIMIZERS)
    assert not values(OptimizerNames) & OLDER_OPTIMIZERS.keys()
    assert values(SchedulerType) == set(SCHEDULERS)
    assert values(IntervalStrategy) == set(TABLE["eval_strategy"].takes.choices)
    assert values(SaveStrategy) == set(TABLE["save_strategy"].takes.choices)


def test_every_default_is_accepted_without_a_word() -> None:
    for name, value in (installed() | OLDER_DEFAULTS).items():
        found = classifier({name: value})
        assert found.training.notes == [], name
        assert found.compute == classifier().compute, name
        assert found.seed == 42, name


SAYS_NOTHING = {"average_tokens_across_devices", "do_train", "do_eval", "do_predict"}  # whatever it is


@pytest.mark.parametrize(
    "name", [name for name, row in TABLE.items() if row.verdict != "honoured" and name not in SAYS_NOTHING]
)
def test_nothing_is_accepted_without_a_word(name: str) -> None:
    """Where a value asks for something, there is a note or an error that says why."""
    candidates = ("something", 3, True, False, ["something"], {"a": 1}, *TABLE[name].takes.choices)
    asked = [value for value in candidates if not TABLE[name].is_silent(value) and not TABLE[name].takes.check(value)]
    assert asked
    for value in asked:
        try:
            (note,) = classifier({name: value}).training.notes
        except ConfigError as error:
            note = str(error)
        assert name in note


def test_the_table_is_read_without_transformers() -> None:
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from sortase import GenericClassifier
from sortase.config.load import check
GenericClassifier("a", training_args={{"fp16": True, "seed": 3}}, ray_config={{"seed": [0, 100]}})
check({{"run": {{"name": "a"}}, "data": {{"dataset": "d"}}, "labels": {{"column": "c"}}, "model": {{"checkpoint": "m"}},
       "train": {{"evaluation_strategy": "steps"}}, "tune": {{"trials": 2, "space": {{"seed": [0, 9]}}}}}})
print(sorted(set(sys.modules) & {{"torch", "transformers", "ray"}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


@pytest.mark.parametrize("name", DICTIONARIES)
def test_what_the_field_passes_goes_through_whole(name: str) -> None:
    given = DICTIONARIES[name]
    python, yaml = classifier(given), run_yaml({key: getattr(v, "item", lambda v=v: v)() for key, v in given.items()})
    for training, batch_size, compute in (
        (python.training, python.evaluation.batch_size, python.compute),
        (yaml.train, yaml.evaluate.batch_size, yaml.compute),
    ):
        arguments = training.arguments
        check_arguments(arguments)
        assert arguments["num_train_epochs"] == given.get("num_train_epochs", 3)
        assert arguments["learning_rate"] == given.get("learning_rate", 5e-5)
        assert arguments["eval_strategy"] == given.get("evaluation_strategy", given.get("eval_strategy", "epoch"))
        assert training.keep_best is given.get("load_best_model_at_end", True)
        assert batch_size == given.get("per_device_eval_batch_size", 48)
        assert compute.precision == ("fp16" if given.get("fp16") else "auto")
    assert python.training.model_dump() == yaml.train.model_dump()


def test_stformers_defaults_mean_what_they_mean_there() -> None:
    found = classifier(DICTIONARIES["stformer"], ray_config=STFORMER_SEARCH)
    arguments = found.training.arguments
    assert (found.training.metric, found.compute.precision) == ("loss", "fp16")
    assert (arguments["save_strategy"], arguments["save_steps"], arguments["warmup_steps"]) == ("steps", 100, 0.1)
    assert found.training.global_batch(1) == {"batch_size": 8 * 2}
    assert found.training.notes == []


def test_geneformers_arguments_get_one_line() -> None:
    idle, best = classifier(DICTIONARIES["geneformer_notebook"]).training.notes
    assert idle == (
        "these training arguments have no effect here: group_by_length (the batch plan groups sequences by length), "
        "output_dir (files go to the folder given to train())"
    )
    assert best.startswith("the best model is the one with the best macro_f1; Trainer chooses by the loss")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param({"evaluation_strategy": "steps"}, {"eval_strategy": "steps"}, id="older strategy"),
        pytest.param({"eval_steps": 50}, {"eval_strategy": "steps", "eval_steps": 50}, id="interval alone"),
        pytest.param({"save_steps": 500}, {"save_strategy": "steps"}, id="Trainer's own strategy"),
        pytest.param({"save_steps": 500, "save_strategy": "epoch"}, {"save_strategy": "epoch"}, id="strategy counts"),
        pytest.param({"save_steps": -1}, {"save_strategy": "no"}, id="never saved"),
        pytest.param({"logging_steps": np.floor(0.4)}, {"logging_strategy": "no"}, id="never logged"),
        pytest.param({"eval_strategy": False}, {"eval_strategy": "no"}, id="YAML's no"),
        pytest.param({"warmup_ratio": 0.25}, {"warmup_steps": 0.25}, id="share of warm-up"),
        pytest.param({"warmup_ratio": 0.0}, {"warmup_steps": 0.0}, id="no warm-up"),
        pytest.param({"warmup_ratio": 0.25, "warmup_steps": 30}, {"warmup_steps": 30}, id="steps before ratio"),
        pytest.param({"warmup_steps": 0, "warmup_ratio": 0.25}, {"warmup_steps": 0.25}, id="ratio before no steps"),
        pytest.param({"adafactor": True}, {"optim": "adafactor"}, id="adafactor"),
        pytest.param({"optim": "adamw_hf"}, {"optim": "adamw_torch"}, id="older optimizer"),
        pytest.param({"gradient_checkpointing": True}, {"activation_checkpointing": True}, id="renamed"),
        pytest.param({"per_gpu_train_batch_size": 4}, {"per_device_train_batch_size": 4}, id="per GPU"),
        pytest.param({"per_device_train_batch_size": 12.0}, {"per_device_train_batch_size": 12}, id="whole float"),
        pytest.param({"max_grad_norm": None}, {"max_grad_norm": 0.0}, id="no clipping"),
        pytest.param({"torchdynamo": "inductor"}, {"torch_compile_backend": "inductor"}, id="dynamo"),
    ],
)
def test_arguments_become_those_of_the_installed_version(given: dict[str, Any], expected: dict[str, Any]) -> None:
    arguments = classifier(given).training.arguments
    assert {name: arguments.get(name) for name in expected} == expected
    assert {type(arguments[name]) for name in expected} <= {str, int, float, bool}


def test_enumerations_count_by_their_values() -> None:
    from transformers.trainer_utils import IntervalStrategy, SchedulerType

    arguments = classifier({"eval_strategy": IntervalStrategy.STEPS, "lr_scheduler_type": SchedulerType.COSINE})
    assert arguments.training == TrainSpec(eval_strategy="steps", lr_scheduler_type="cosine")


@pytest.mark.parametrize(
    ("given", "metric"),
    [
        pytest.param({"metric_for_best_model": "eval_accuracy"}, "accuracy", id="prefixed"),
        pytest.param({"metric_for_best_model": "f1"}, "macro_f1", id="f1"),
        pytest.param({"metric_for_best_model": "eval_loss", "greater_is_better": False}, "loss", id="loss"),
        pytest.param({"metric_for_best_model": "eval_macro_f1", "metric": "macro_f1"}, "macro_f1", id="said twice"),
        pytest.param({"metric_for_best_model": "matthews_correlation"}, "mcc", id="as scikit-learn calls it"),
        pytest.param({"metric": "ece", "greater_is_better": None}, "ece", id="ours"),
    ],
)
def test_the_metric_of_the_best_model(given: dict[str, Any], metric: str) -> None:
    assert classifier(given).training.metric == run_yaml(given).train.metric == metric


SETTINGS = [
    pytest.param({"seed": 7}, "run.seed", 7, id="seed"),
    pytest.param({"data_seed": 7}, "run.seed", 7, id="data_seed"),
    pytest.param({"seed": 7, "data_seed": 7}, "run.seed", 7, id="one seed twice"),
    pytest.param({"bf16": True, "fp16": False}, "compute.precision", "bf16", id="bf16"),
    pytest.param({"fp16": True, "fp16_full_eval": True}, "compute.precision", "fp16", id="fp16"),
    pytest.param({"no_cuda": True}, "compute.device", "cpu", id="no_cuda"),
    pytest.param({"use_cpu": True}, "compute.device", "cpu", id="use_cpu"),
    pytest.param({"use_cpu": False}, "compute.device", "auto", id="a GPU is fine"),
    pytest.param({"per_device_eval_batch_size": 200}, "evaluate.batch_size", 200, id="batch of evaluation"),
    pytest.param({"per_gpu_eval_batch_size": 200}, "evaluate.batch_size", 200, id="older batch of evaluation"),
]


@pytest.mark.parametrize(("given", "setting", "value"), SETTINGS)
def test_settings_of_other_sections_go_there(given: dict[str, Any], setting: str, value: Any) -> None:
    python, config = classifier(given), run_yaml(given)
    section, key = setting.split(".")
    assert getattr(getattr(config, section), key) == value
    assert {
        "run": python.seed,
        "compute": getattr(python.compute, key, None),
        "evaluate": python.evaluation.batch_size,
    }[section] == value
    assert Config.model_validate(config.model_dump(mode="json")) == config
    assert python.training == TrainSpec()


def test_deepspeed_goes_to_compute() -> None:
    settings = {"zero_optimization": {"stage": 2}}
    assert run_yaml({"deepspeed": settings}, compute={"workers": 1}).compute.deepspeed == settings
    assert classifier({"deepspeed": "ds.json"}, compute={"workers": 2}).compute.deepspeed == "ds.json"
    with pytest.raises(ConfigError, match=r"workers.*at least 1"):
        classifier({"deepspeed": settings})


@pytest.mark.parametrize(
    ("given", "told", "note"),
    [
        pytest.param("wandb", ["wandb"], "", id="one"),
        pytest.param(["tensorboard", "mlflow"], ["mlflow", "tensorboard"], "", id="two"),
        pytest.param("none", [], "", id="none"),
        pytest.param("all", [], "", id="all"),
        pytest.param([], [], "", id="empty"),
        pytest.param(
            ["wandb", "comet_ml"], ["wandb"], "report_to (trackers are tensorboard, mlflow, wandb)", id="other"
        ),
    ],
)
def test_trackers(given: Any, told: list[str], note: str) -> None:
    config, made = run_yaml({"report_to": given}), classifier({"report_to": given})
    for tracking, training in ((config.tracking, config.train), (made.tracking, made.training)):
        assert (tracking.to, note in "".join(training.notes)) == (told, True)
        assert bool(training.notes) is bool(note)


def test_a_batch_size_of_evaluation_that_is_given_itself_counts() -> None:
    """Geneformer's users give both: 12 in their training arguments, and forward_batch_size=200."""
    found = classifier({"per_device_eval_batch_size": 12}, forward_batch_size=200)
    assert found.evaluation.batch_size == 200
    assert "per_device_eval_batch_size (forward_batch_size= decides it)" in found.training.notes[0]
    config = run_yaml({"per_device_eval_batch_size": 12}, evaluate={"batch_size": 200})
    assert "per_device_eval_batch_size (evaluate.batch_size decides it)" in config.train.notes[0]


@pytest.mark.parametrize(
    ("given", "settings", "words"),
    [
        pytest.param({"seed": 1, "data_seed": 2}, {}, "data_seed and seed contradict each other: 2 and 1", id="seeds"),
        pytest.param({"seed": 1}, {"seed": 2}, "seed and seed= contradict each other: 1 and 2", id="seed="),
        pytest.param({"fp16": True, "bf16": True}, {}, "bf16 and fp16 contradict", id="precisions"),
        pytest.param(
            {"fp16": True},
            {"compute": {"precision": "fp32"}},
            r"fp16 and compute=\{'precision': ...\} contradict each other: True and 'fp32'",
            id="precision of compute",
        ),
        pytest.param({"no_cuda": True}, {"compute": {"device": "cuda"}}, "no_cuda and compute=", id="device"),
        pytest.param(
            {"eval_strategy": "no", "evaluation_strategy": "epoch"},
            {},
            "evaluation_strategy and eval_strategy",
            id="old",
        ),
        pytest.param(
            {"metric": "mcc", "metric_for_best_model": "f1"}, {}, "metric_for_best_model and metric", id="metric"
        ),
        pytest.param({"keep_best": False, "load_best_model_at_end": True}, {}, "contradict", id="best"),
        pytest.param({"adafactor": True, "optim": "sgd"}, {}, "optim and adafactor contradict", id="optimizer"),
        pytest.param({"metric": "loss", "greater_is_better": True}, {}, "better when it is lower", id="direction"),
        pytest.param({"greater_is_better": False}, {}, "give metric_for_best_model beside it", id="direction alone"),
    ],
)
def test_contradictions(given: dict[str, Any], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"training_args: .*{words}"):
        classifier(given, **settings)


def test_contradictions_in_run_yaml() -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: train: seed and run\.seed contradict each other: 1 and 2"):
        run_yaml({"seed": 1}, run={"name": "blood", "seed": 2})
    with pytest.raises(ConfigError, match=r"report_to and tracking\.to contradict"):
        run_yaml({"report_to": "wandb"}, tracking={"to": ["mlflow"]})
    run_yaml({"seed": 2, "report_to": "wandb"}, run={"name": "blood", "seed": 2}, tracking={"to": ["wandb"]})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        pytest.param({"learning_rate": "high"}, "learning_rate must be a number of 0 or more, got 'high'", id="text"),
        pytest.param({"learning_rate": "5e-5"}, "learning_rate must be a number", id="a number as text"),
        pytest.param({"learning_rate": True}, "learning_rate must be a number", id="a truth"),
        pytest.param({"learning_rate": float("nan")}, "learning_rate must be a number", id="not a number"),
        pytest.param({"num_train_epochs": None}, "num_train_epochs must be a number above 0, got None", id="none"),
        pytest.param({"num_train_epochs": 0}, "above 0, got 0", id="no epochs"),
        pytest.param({"save_steps": "often"}, "save_steps must be a whole number of steps", id="words"),
        pytest.param({"save_steps": 1.5}, "save_steps must be", id="half a step"),
        pytest.param({"per_device_train_batch_size": 1.5}, "a whole number of 1 or more, got 1.5", id="half a row"),
        pytest.param({"gradient_accumulation_steps": 0}, "a whole number of 1 or more", id="no steps"),
        pytest.param({"seed": "x"}, "seed must be a whole number", id="seed"),
        pytest.param({"fp16": "yes"}, "fp16 must be True or False, got 'yes'", id="truth as text"),
        pytest.param({"eval_strategy": "step"}, "got 'step'; did you mean 'steps'", id="strategy"),
        pytest.param({"optim": "adamw"}, "optim must be one of", id="optimizer"),
        pytest.param({"lr_scheduler_type": ["cosine"]}, "lr_scheduler_type must be one of", id="list"),
        pytest.param({"lr_scheduler_kwargs": 3}, "lr_scheduler_kwargs must be a dictionary", id="kwargs"),
        pytest.param({"dataloader_num_workers": "many"}, "dataloader_num_workers must be", id="without effect"),
        pytest.param({"output_dir": 3}, "output_dir must be text", id="folder"),
        pytest.param({"report_to": 3}, "report_to must be a name or a list of names", id="tracker"),
        pytest.param({"warmup_ratio": 3}, "warmup_ratio must be a share", id="ratio"),
        pytest.param({"metric_for_best_model": "precision"}, "must be one of macro_f1, .*got 'precision'", id="metric"),
        pytest.param(
            {"load_best_model_at_end": True, "eval_strategy": "no"}, "contradict each other", id="best of none"
        ),
        pytest.param({"train_sampling_strategy": "sequential"}, "rows are always shuffled", id="order"),
        pytest.param({"split_batches": True}, r"give .*global_batch_size", id="other batch"),
        pytest.param({"accelerator_config": {"split_batches": True}}, "global_batch_size", id="other batch, deep"),
        pytest.param(
            {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 4}}},
            "gradient_accumulation_steps",
            id="steps, deep",
        ),
        pytest.param(
            {"lerning_rate": 1}, "unknown training argument 'lerning_rate'; did you mean learning_rate", id="name"
        ),
        pytest.param({"seed": 2**32}, "seed must be a whole number from 0 to 4294967295", id="seed beyond NumPy's"),
    ],
)
def test_refused_in_both_worlds(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"training_args: .*{words}"):
        classifier(given)
    with pytest.raises(ConfigError, match=rf"(?s)run\.yaml: train: .*{words}"):
        run_yaml(given)


def test_a_refusal_speaks_the_users_language() -> None:
    given = {"resume_from_checkpoint": "out/checkpoint-500"}
    with pytest.raises(ConfigError, match=r"give it as model_checkpoint=$"):
        classifier(given)
    with pytest.raises(ConfigError, match=r"give it as model\.checkpoint$"):
        run_yaml(given)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        pytest.param({"learning_rate": ["high", "low"]}, "learning_rate must be a number of 0 or more", id="text"),
        pytest.param({"learning_rate": [-1e-3, 1e-3]}, "learning_rate must be a number of 0 or more", id="negative"),
        pytest.param({"per_device_train_batch_size": [1.5, 4]}, "takes whole numbers", id="fractions"),
        pytest.param({"per_device_train_batch_size": [0, 4]}, "whole number of 1 or more, got 0", id="no rows"),
        pytest.param({"lr_scheduler_type": ["cosine", "cosin"]}, "did you mean 'cosine'", id="choice"),
        pytest.param({"group_by_length": [True, False]}, "cannot be searched, it has no effect here", id="no effect"),
        pytest.param({"fp16": [True, False]}, r"cannot be searched: it is compute=\{'precision'", id="precision"),
        pytest.param({"metric_for_best_model": ["f1", "loss"]}, r"training_args\['metric'\]", id="metric"),
        pytest.param({"seed": [0, 9], "data_seed": [0, 9]}, "one seed here", id="two seeds"),
        pytest.param({"sed": [0, 9]}, "did you mean seed", id="misspelt"),
    ],
)
def test_search_spaces_are_checked_at_once(space: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s)ray_config: .*{words}"):
        classifier(ray_config=space)


def test_rays_own_objects_are_checked_too() -> None:
    """The space of Geneformer's examples/hyperparam_optimiz_for_disease_classifier.py, and one with text for a rate."""
    tune = pytest.importorskip("ray.tune")
    space = {
        "num_train_epochs": tune.choice([1]),
        "learning_rate": tune.loguniform(1e-6, 1e-3),
        "weight_decay": tune.uniform(0.0, 0.3),
        "lr_scheduler_type": tune.choice(["linear", "cosine", "polynomial"]),
        "warmup_steps": tune.uniform(100, 2000),
        "seed": tune.uniform(0, 100),
        "per_device_train_batch_size": tune.choice([12]),
    }
    classifier(ray_config=space)
    with pytest.raises(ConfigError, match="learning_rate must be a number of 0 or more, got 'high'"):
        classifier(ray_config={**space, "learning_rate": tune.choice([1e-4, "high"])})


def trial(parameters: dict[str, Any], **settings: Any) -> TrainSpec:
    return trial_settings(TrainSpec(**settings), ModelSpec(config={}), parameters, "macro_f1", 1)[0]


def test_hyperparameters_by_older_names_take_the_place_of_the_runs() -> None:
    made = trial({"evaluation_strategy": "steps", "warmup_ratio": 0.2}, eval_strategy="epoch", warmup_steps=100)
    assert (made.arguments["eval_strategy"], made.arguments["warmup_steps"]) == ("steps", 0.2)


def test_a_trial_has_a_seed_of_its_own_and_whole_numbers() -> None:
    parameters = {"seed": 37.28, "per_device_train_batch_size": 12.9, "learning_rate": 1e-4}
    assert trial_seed(parameters, 42) == 37
    assert trial_seed({"learning_rate": 1e-4}, 42) == 42
    assert trial(parameters).global_batch_size == 12


def test_what_a_newer_library_has_is_refused_in_words() -> None:
    check_arguments(["gradient_checkpointing", "learning_rate"])
    with pytest.raises(ConfigError, match=r"transformers [\d.]+, which is installed here, has no .* learning_speed"):
        check_arguments(["learning_speed"])


def test_a_credential_is_never_shown() -> None:
    for given in ({"hub_token": "hunter22"}, {"push_to_hub_token": "hunter22"}):
        with pytest.raises(SortaseError) as caught:
            classifier(given)
        assert "hunter22" not in str(caught.value)


def test_the_page_is_what_the_table_says() -> None:
    path = ROOT / "docs" / "arguments.py"
    spec = importlib.util.spec_from_file_location("arguments_page", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "training-arguments.md").read_text() == module.page(), "run: python docs/arguments.py"
