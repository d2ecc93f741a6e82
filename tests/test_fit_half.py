"""fp16: autocast and loss scaling, steps that overflow, and where it is the default."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from makers import architecture, assert_same_weights, dataset, run_training, train_job, weights
from sortase import GenericClassifier
from sortase.config.compute import ComputeSpec
from sortase.config.model import ModelSpec
from sortase.errors import CancelledError, ConfigError, WorkFailedError
from sortase.model.device import device_precision
from sortase.model.memory import Shape, estimate
from sortase.train.deepspeed import check_deepspeed, zero_settings

HALF = ComputeSpec(device="cpu", precision="fp16")
SCALER = torch.amp.GradScaler


def job(**settings: Any) -> Any:
    return replace(train_job(logging_steps=1, **settings), compute=HALF)


def scaled_by(monkeypatch: pytest.MonkeyPatch, scale: float) -> None:
    monkeypatch.setattr(torch.amp, "GradScaler", lambda device: SCALER(device, init_scale=scale))


def logged(fitted: Any, name: str) -> list[Any]:
    return [entry.get(name) for entry in fitted.trainer.state.log_history if "loss" in entry]


def test_the_forward_pass_is_in_16_bits_and_the_weights_are_not(tmp_path: Path) -> None:
    seen = set()
    made = job(max_steps=1)
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, given, out: seen.add(out.dtype) if isinstance(module, torch.nn.Linear) else None
    )
    try:
        fitted, trained = run_training(tmp_path, made)
    finally:
        handle.remove()
    assert seen == {torch.float16}
    assert {p.dtype for p in trained.model.parameters()} == {torch.float32}
    assert fitted.summary["precision"] == "fp16"


@pytest.mark.parametrize("per_device", [pytest.param(8, id="whole"), pytest.param(2, id="micro-batches")])
def test_scaled_training_is_fp32s_to_the_precision_of_fp16(per_device: int, tmp_path: Path) -> None:
    settings = {"max_steps": 6, "per_device_train_batch_size": per_device, "global_batch_size": 8}
    still = ModelSpec(config=architecture(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0))
    half, _ = run_training(tmp_path / "fp16", job(model=still, **settings))
    full, _ = run_training(tmp_path / "fp32", train_job(model=still, logging_steps=1, **settings))
    assert logged(half, "loss") == pytest.approx(logged(full, "loss"), rel=1e-3)
    assert logged(half, "grad_norm") == pytest.approx(logged(full, "grad_norm"), rel=1e-2)
    assert logged(half, "learning_rate") == logged(full, "learning_rate")


@pytest.mark.parametrize(
    ("optimizer", "waits", "clipping"),
    [
        pytest.param("adamw_torch", True, 1.0, id="plain, clipped"),
        pytest.param("adamw_torch", True, 0.0, id="plain, not clipped"),
        pytest.param("adamw_torch_fused", False, 1.0, id="fused"),
    ],
)
def test_a_step_that_overflows_is_skipped_and_training_goes_on(
    optimizer: str, waits: bool, clipping: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Trainer counts: a skipped step is a step. The learning rate waits for the first one that is taken, except
    with a fused optimizer, which skips the step itself so that Accelerate does not hear of it."""
    scaled_by(monkeypatch, 2.0**40)
    settings = {"max_steps": 30, "warmup_steps": 4, "save_steps": 1, "save_total_limit": None, "optim": optimizer}
    fitted, _ = run_training(tmp_path, job(eval_strategy="no", max_grad_norm=clipping, **settings))
    assert fitted.summary["steps"] == 30
    folders = sorted(tmp_path.glob("checkpoints/step-*/*/"))
    scales = [torch.load(folder / "scaler.pt")["scale"] for folder in folders]
    skipped = int(40 - np.log2(scales[-1]))
    assert 0 < skipped < 28
    assert scales == [2.0 ** max(40 - step, 40 - skipped) for step in range(1, 31)]
    states = [torch.load(folder / "optimizer.pt")["state"] for folder in folders]
    taken = [max((int(state["step"]) for state in each.values()), default=0) for each in states]
    assert taken == [max(0, step - skipped) for step in range(1, 31)]
    first, last, after = (load_file(folders[step] / "model.safetensors") for step in (0, skipped - 1, skipped + 1))
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert not all(torch.equal(first[name], after[name]) for name in first)
    late = skipped if waits else 0
    assert logged(fitted, "learning_rate")[: late + 3] == pytest.approx([0.0] * (late + 1) + [0.00025, 0.0005])
    lines = [line for part in sorted(tmp_path.glob("events/*")) for line in part.read_text().splitlines()]
    norms = [json.loads(line, parse_constant=pytest.fail).get("grad_norm") for line in lines]
    assert sum(norm is not None for norm in norms) == 30 - skipped


def test_gradients_that_never_fit_end_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scaled_by(monkeypatch, 2.0**-20)
    with pytest.raises(WorkFailedError, match=r"leave the range of fp16 at step 0.*compute\.precision bf16 or fp32"):
        run_training(tmp_path, job(max_steps=2))


def test_a_continued_training_ends_with_the_same_weights_and_scale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted while the scale is still falling, which a new scaler would begin anew."""
    scaled_by(monkeypatch, 2.0**36)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run_training(straight, job())
    asked = iter([False] * 6 + [True] * 1000)
    with pytest.raises(CancelledError):
        run_training(broken, job(), should_stop=lambda: next(asked))
    fitted, _ = run_training(broken, job())
    assert fitted.summary["resumed_from"] == 7
    assert_same_weights(weights(broken), weights(straight))
    ends = [torch.load(max(folder.glob("checkpoints/step-*/*/")) / "scaler.pt") for folder in (straight, broken)]
    assert ends[0] == ends[1]


class Gpu:
    """What PyTorch says of a GPU: bf16 in hardware, or by emulation as on a T4 and a V100."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, native: bool):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native
        )


@pytest.mark.parametrize(
    ("native", "compute", "precision"),
    [
        pytest.param(True, {}, "bf16", id="an A100"),
        pytest.param(False, {}, "fp16", id="a T4"),
        pytest.param(False, {"precision": "bf16"}, "bf16", id="emulation on request"),
        pytest.param(True, {"precision": "fp16"}, "fp16", id="fp16 on request"),
        pytest.param(True, {"device": "cpu"}, "fp32", id="a CPU beside a GPU"),
    ],
)
def test_the_precision_of_a_gpu(
    native: bool, compute: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Gpu(monkeypatch, native)
    assert device_precision(ComputeSpec(**compute)) == precision


def test_deepspeeds_configuration() -> None:
    """Loss scaling may be set; whether 16 bits are on, compute.precision says."""
    given = {
        "zero_optimization": {"stage": 2},
        "fp16": {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 12},
        "bf16": {"enabled": False},
        "train_batch_size": "auto",
        "gradient_accumulation_steps": "auto",
    }
    made = zero_settings(ComputeSpec(workers=1, precision="fp16", deepspeed=given)) or {}
    assert made["fp16"] == {"enabled": "auto", "loss_scale": 0, "initial_scale_power": 12}
    assert (made["bf16"], made["gradient_accumulation_steps"]) == ({"enabled": "auto"}, 1)
    assert "train_batch_size" not in made
    for wrong in ({"bf16": {"enabled": True}}, {"fp16": {"enabled": True}}, {"train_batch_size": 64}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            zero_settings(ComputeSpec(workers=1, deepspeed={**given, **wrong}))


def test_deepspeed_in_fp16_needs_a_gpu() -> None:
    """On CPUs its engine ends with "Type fp16 is not supported on your device", in each worker."""
    with pytest.raises(ConfigError, match=r"fp16 on GPUs alone.*compute\.precision bf16"):
        check_deepspeed(ComputeSpec(workers=1, device="cpu", precision="fp16", deepspeed=2))


@pytest.mark.parametrize("options", [{}, {"workers": 2, "zero": {"stage": 3}}])
def test_fp16_takes_the_memory_of_16_bits(options: dict[str, Any]) -> None:
    shape = Shape(parameters=1000, trainable=600, layers=2, hidden=8, intermediate=32)
    half, other, full = (estimate(shape, tokens=64, precision=p, **options) for p in ("fp16", "bf16", "fp32"))
    assert half == other
    assert half.activations < full.activations


def test_stformers_defaults_train_and_score_in_fp16(tmp_path: Path) -> None:
    """stFormer's default dictionary, with intervals that a small training reaches."""
    from transformers import BertConfig, BertForSequenceClassification

    from argument_sources import STFORMER

    sizes = {name: value for name, value in architecture().items() if name != "model_type"}
    BertForSequenceClassification(BertConfig(**sizes)).save_pretrained(tmp_path / "pretrained")
    data = dataset(cell_type=["a", "b", "c"] * 40).remove_columns("label")
    arguments = STFORMER | {"eval_steps": 3, "logging_steps": 1, "save_steps": 3, "num_train_epochs": 1, "seed": 5}
    classifier = GenericClassifier("cell_type", training_args=arguments, compute={"device": "cpu"}, nproc=1)
    prepared, _ = classifier.prepare_data(data, str(tmp_path / "data"), "cells")
    trainer = classifier.train(str(tmp_path / "pretrained"), prepared, str(tmp_path / "model"))
    told = json.loads((tmp_path / "model" / "run.json").read_text())["training"]
    assert (told["precision"], told["global_batch"], told["steps"]) == ("fp16", 16, 6)
    evaluated = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
    assert set(evaluated) == {3, 6}
    assert told["best_step"] == min(evaluated, key=lambda step: evaluated[step])
    assert classifier.seed == 5
