"""Right: the GPU computes what the CPU does, each precision within its bounds, and training keeps its promises."""

from __future__ import annotations

import multiprocessing
import signal
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sortase.config.compute import ComputeSpec
from sortase.data.batches import BatchPlan
from sortase.data.sequences import Sequences
from sortase.model.device import device_precision
from sortase.model.inference import stream
from sortase.model.load import Trained, build_model, load_config
from sortase.model.loss import summed_loss
from sortase.model.memory import estimate, shape_of
from sortase.model.metrics.metrics import Metrics
from sortase.model.task import TASKS
from sortase.train.trainer import Batches

from .checks import Report
from .work import (
    CLASSES,
    FAMILIES,
    FULL,
    KINDS,
    Scale,
    architecture,
    device,
    job_of,
    losses,
    resumable_job,
    rows_of,
    small_config,
    small_rows,
    train_and_die,
    train_in,
)

# Of each figure: how far another device (fp32), and a lower precision on the same device, may be off, relatively.
BOUNDS = {
    "fp32": {"loss": 1e-5, "gradient norm": 1e-4, "largest gradient": 1e-3, "logits": 1e-4, "accuracy": 0.01},
    "bf16": {"loss": 2e-2, "gradient norm": 5e-2, "largest gradient": 1e-1, "logits": 5e-2, "accuracy": 0.05},
    "fp16": {"loss": 3e-3, "gradient norm": 1e-2, "largest gradient": 2e-2, "logits": 1e-2, "accuracy": 0.05},
}
LOSS_SCALE = 1024.0  # keeps small gradients in the range of fp16


@dataclass(frozen=True)
class Pass:
    """What one global batch gives: its loss, all gradients as one vector, the logits of all units, and accuracy."""

    loss: float
    gradient: torch.Tensor
    logits: np.ndarray
    accuracy: float


def compute(kind: str, family: str, scale: Scale, where: torch.device, precision: str) -> Pass:
    """A global batch of 16 rows in micro-batches, with class weights; padded rows and full ones."""
    task, weights = TASKS[kind], np.array([0.5, 1, 2], np.float32)
    sequences = Sequences.open(small_rows(kind, scale), task.label_column)
    model = build_model(task, CLASSES, None, load_config(None, small_config(family, scale)), 5).to(where)
    batches = Batches(sequences, task, weights, scale.longest, 0, 6, None, model=model, pin=where.type == "cuda")
    step = batches(BatchPlan(lengths=sequences.lengths, seed=0, batch_size=16).epoch(0)[0].tolist())
    total = 0.0
    kind_of = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    for micro in step["micro"]:
        there = {name: tensor.to(where, non_blocking=True) for name, tensor in micro.items()}
        labels = there.pop("labels")
        with torch.autocast(where.type, kind_of, enabled=kind_of is not None):
            logits = model(**there).logits
        loss = summed_loss(logits, labels, torch.from_numpy(weights).to(where)) / step["denominator"]
        (loss * LOSS_SCALE).backward()
        total += loss.item()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).cpu() / LOSS_SCALE
    trained = Trained(model, None, task, CLASSES, scale.longest, 0)
    scores = list(stream(trained, sequences, batch_size=7, precision=precision))
    metrics = Metrics(trained.classes, bootstrap=0)
    for part in scores:
        metrics.update(part)
    found = metrics.result()["metrics"]["accuracy"]
    return Pass(total, gradient, np.concatenate([part.logits for part in scores]), float(found))


def differences(found: Pass, expected: Pass) -> dict[str, float]:
    norm = expected.gradient.norm()
    return {
        "loss": abs(found.loss - expected.loss) / abs(expected.loss),
        "gradient norm": float((found.gradient.norm() - norm).abs() / norm),
        "largest gradient": float((found.gradient - expected.gradient).abs().max() / expected.gradient.abs().max()),
        "logits": float(np.abs(found.logits - expected.logits).max() / np.abs(expected.logits).max()),
        "accuracy": abs(found.accuracy - expected.accuracy),
    }


def numbers(report: Report, scale: Scale) -> None:
    """The same batch on both devices in fp32, and on this one in 16 bits."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for kind in KINDS:
        for family in FAMILIES:
            expected = compute(kind, family, scale, torch.device("cpu"), "fp32")
            here = compute(kind, family, scale, device(), "fp32")
            pairs = {"fp32": (here, expected)}
            for precision in ("bf16", "fp16"):
                pairs[precision] = (compute(kind, family, scale, device(), precision), here)
            for precision, (found, other) in pairs.items():
                for name, value in differences(found, other).items():
                    report.at_most(f"{kind} {family} {precision}: {name}", value, BOUNDS[precision][name])


def precision(report: Report, scale: Scale) -> None:
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    report.equal("precision: auto", device_precision(ComputeSpec()), "bf16" if has_bf16 else "fp32")


def quality(report: Report, scale: Scale) -> None:
    """The same training here and on the CPU; it learns, and equally well."""
    on_gpu = torch.cuda.is_available()
    for kind in KINDS if scale == FULL else KINDS[:1]:
        ends = []
        specs = [ComputeSpec(), ComputeSpec(device="cpu"), *([ComputeSpec(precision="fp16")] if on_gpu else [])]
        for spec in specs:
            settings = {"max_steps": scale.steps * 2 if kind == "token" else scale.steps, "save_strategy": "no"}
            job = job_of(kind, small_rows(kind, scale), small_config("bert", scale), spec, **settings)
            with tempfile.TemporaryDirectory() as folder:
                fitted, _ = train_in(Path(folder), job)
            last = list(losses(fitted).values())[-3:]
            ends.append((float(np.mean(last)), fitted.trainer.evaluate()["eval_accuracy"], fitted.summary))
        expected_loss, expected_accuracy, _ = ends.pop(1)
        for loss, accuracy, summary in ends:
            title = f"{kind} in {summary['precision']} on {summary['device']}"
            report.at_most(f"{title}: difference of the last losses", abs(loss - expected_loss), 0.05)
            report.at_most(f"{title}: difference of accuracies", abs(accuracy - expected_accuracy), 0.05)
            if scale == FULL:
                report.at_least(f"{title}: accuracy", accuracy, 0.8)


def resume(report: Report, scale: Scale) -> None:
    """A training that is killed with SIGKILL and started again has the losses of one that was not."""
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    with tempfile.TemporaryDirectory() as straight, tempfile.TemporaryDirectory() as broken:
        expected = losses(train_in(Path(straight), resumable_job(scale))[0])
        victim = context.Process(target=train_and_die, args=(broken, scale))
        victim.start()
        victim.join()
        report.equal("killed by", victim.exitcode, -signal.SIGKILL)
        fitted, _ = train_in(Path(broken), resumable_job(scale))
    found = losses(fitted)
    report.at_least("continued from step", float(fitted.summary["resumed_from"] or 0), 2)
    report.equal("steps with a loss", len(found), len(expected))
    worst = max(abs(found[step] - expected[step]) / max(expected[step], 0.1) for step in expected)
    report.at_most("largest difference of a loss", worst, 1e-2 if torch.cuda.is_available() else 0.0)


def choices(report: Report, scale: Scale) -> None:
    """Early stopping, the best checkpoint, frozen layers and class weights."""
    job = partial(job_of, "sequence", small_rows("sequence", scale), small_config("bert", scale), ComputeSpec())
    with tempfile.TemporaryDirectory() as folder:
        never = {"early_stopping_patience": 2, "early_stopping_threshold": 10.0}
        often = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2, "max_steps": 20}
        fitted, trained = train_in(Path(folder), job(freeze_layers=1, class_weights="balanced", **never, **often))
    report.equal("early stopping at step", fitted.summary["steps"], 6)
    history = {e["step"]: e["eval_macro_f1"] for e in fitted.trainer.state.log_history if "eval_macro_f1" in e}
    report.equal("the best checkpoint is kept", history[fitted.summary["best_step"]], max(history.values()))
    report.at_most("its macro F1 again", abs(fitted.trainer.evaluate()["eval_macro_f1"] - max(history.values())), 0.02)
    task = TASKS["sequence"]
    fresh = build_model(task, CLASSES, None, load_config(None, small_config("bert", scale)), 3).state_dict()
    now = {name: tensor.cpu() for name, tensor in trained.model.state_dict().items()}
    moved = {name for name, tensor in now.items() if not torch.equal(tensor, fresh[name])}
    frozen = [name for name in moved if "embeddings." in name or "layer.0." in name]
    report.equal("frozen weights that moved", len(frozen), 0)
    report.at_least("free weights that moved", float(len(moved)), 10)


def order(report: Report, scale: Scale) -> None:
    """Scores of all rows together are those of each row alone, in order."""
    for kind in KINDS:
        sequences = Sequences.open(small_rows(kind, scale), TASKS[kind].label_column)
        model = build_model(TASKS[kind], CLASSES, None, load_config(None, small_config("bert", scale)), 5)
        trained = Trained(model.to(device()), None, TASKS[kind], CLASSES, scale.longest, 0)
        together = np.concatenate([s.logits for s in stream(trained, sequences, batch_size=16)])
        alone = [stream(trained, sequences.view(np.array([row])), batch_size=1) for row in range(len(sequences))]
        one_by_one = np.concatenate([scores.logits for found in alone for scores in found])
        report.at_most(f"{kind}: difference from rows alone", float(np.abs(together - one_by_one).max()), 1e-4)


def memory(report: Report, scale: Scale) -> None:
    """What preflight estimates, against the most that a training had allocated."""
    if not torch.cuda.is_available():
        report.skip("estimated against used", "it needs a GPU")
        return
    for family in FAMILIES:
        config = architecture(family, 8, 512, 8, 20_000)
        data = rows_of("sequence", np.full(40, 1024), 20_000)
        sides: dict[str, Any] = {"eval_strategy": "no", "save_strategy": "no", "per_device_train_batch_size": 8}
        job = job_of("sequence", data, config, ComputeSpec(), max_steps=3, **sides)
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        with tempfile.TemporaryDirectory() as folder:
            train_in(Path(folder), job)
        used = torch.cuda.max_memory_allocated() - before
        shape = shape_of(load_config(None, config), TASKS["sequence"], 3, 0)
        expected = estimate(shape, tokens=8 * 1024, precision=device_precision(ComputeSpec()), length=1024).total
        ratio = max(used / expected, expected / used)
        report.tell(f"{family}: used, GiB", used / 2**30)
        report.tell(f"{family}: estimated, GiB", expected / 2**30)
        report.at_most(f"{family}: factor between them", ratio, 1.5)


PARTS = {
    "numbers": (60, numbers),
    "precision": (5, precision),
    "quality": (60, quality),
    "kill and go on": (60, resume),
    "choices": (30, choices),
    "row order": (15, order),
    "memory": (40, memory),
}
