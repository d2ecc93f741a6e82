"""Fast: tokens a second and MFU beside the stock Trainer, scoring, a frozen prefix, and where the time goes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from sortase.config.compute import ComputeSpec
from sortase.config.evaluate import PredictSpec
from sortase.data.collators import DataCollatorForCellClassification
from sortase.data.sequences import Sequences
from sortase.model.device import device_precision
from sortase.model.inference import stream
from sortase.model.load import Trained, build_model, load_config
from sortase.model.task import TASKS
from sortase.score.predict import predict
from sortase.train.job import TrainJob, _fit_job
from sortase.train.kernel import build_trainer
from sortase.train.ranks import Ranks

from .checks import Report
from .flops import card, peak, step_flops
from .work import CLASSES, Scale, architecture, device, job_of, real_lengths, rows_of, synchronize

TASK = TASKS["sequence"]
MFU = {"106M": 0.45, "10M": 0.25}  # targets on an H100 or H200
FASTER = {"stock, longest": 3.0, "stock, grouped": 1.5}
WARM_UP = 3  # steps


class Clock(TrainerCallback):
    """Times the steps after the first ones for about ``seconds``, then ends the training.

    ``counts`` are read at both ends: of ours the tokens trained on, of the stock Trainer those collated.
    """

    def __init__(self, seconds: float, counts: Callable[[], dict[str, float]], profiler: Any = None):
        self.seconds, self.counts, self.profiler = seconds, counts, profiler
        self.steps, self.elapsed, self.first = 0, 0.0, 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.profiler is not None:
            self.profiler.step()
        if state.global_step == WARM_UP:
            synchronize()
            self.begun, self.before = time.perf_counter(), self.counts()
        elif state.global_step > WARM_UP and time.perf_counter() - self.begun >= self.seconds:
            control.should_training_stop = True
            synchronize()
            self.elapsed = time.perf_counter() - self.begun
            self.steps = state.global_step - WARM_UP
            after = self.counts()
            self.found = {name: after[name] - self.before[name] for name in after}


class CountingCollator(DataCollatorForCellClassification):
    """The library's collator; says how many tokens and operations each batch holds."""

    def __init__(self, flops: Callable[[np.ndarray], float]):
        super().__init__(type("Pad", (), {"pad_token_id": 0})(), padding="longest", max_length=4096)
        self.flops, self.tokens, self.operations, self.padded = flops, [], [], []

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        lengths = np.array([len(feature["input_ids"]) for feature in features])
        self.tokens.append(int(lengths.sum()))
        self.operations.append(self.flops(lengths))
        batch = super().__call__(features)
        self.padded.append(batch["input_ids"].numel())
        return batch


def arguments(scale: Scale, folder: str) -> dict[str, Any]:
    return {
        "output_dir": folder,
        "num_train_epochs": 1000,
        "learning_rate": 1e-4,
        "per_device_train_batch_size": scale.micro_rows,
        "logging_steps": 10,
        "save_strategy": "no",
    }


@contextmanager
def measured_memory() -> Iterator[Callable[[], float]]:
    """GiB at most allocated since the beginning; 0 without a GPU."""
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield lambda: torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0


def ours(job: TrainJob, seconds: float, flops: Callable[[np.ndarray], float], profiler: Any = None) -> dict[str, float]:
    """The product's trainer, as `fit` makes it."""
    model = build_model(TASK, CLASSES, None, load_config(None, job.model.config), 0)
    trained = Trained(model, None, TASK, CLASSES, 4096, 0)
    with tempfile.TemporaryDirectory() as folder, measured_memory() as memory:
        trainer = build_trainer(_fit_job(job, trained, Ranks()), Path(folder))
        clock = Clock(
            seconds,
            lambda: {
                "tokens": trainer.batches.useful_tokens,
                "padded": trainer.batches.padded_tokens,
                "waited": trainer.data_wait_seconds,
            },
            profiler,
        )
        trainer.add_callback(clock)
        trainer.train()
        trainer.release()
        taken = range(WARM_UP, WARM_UP + clock.steps)
        rows = [trainer.plan.epoch(step // len(trainer.plan))[step % len(trainer.plan)] for step in taken]
        operations = sum(flops(trainer.plan.lengths[batch]) for batch in rows)
        return {**clock.found, "operations": operations, "seconds": clock.elapsed, "memory": memory()}


def stock(job: TrainJob, data: Dataset, scale: Scale, grouped: bool, seconds: float, flops: Any) -> dict[str, float]:
    """The library's Trainer with the same model, precision and global batch."""
    model = build_model(TASK, CLASSES, None, load_config(None, job.model.config), 0)
    with tempfile.TemporaryDirectory() as folder, measured_memory() as memory:
        settings = TrainingArguments(
            **arguments(scale, folder),
            gradient_accumulation_steps=scale.batch // scale.micro_rows,
            train_sampling_strategy="group_by_length" if grouped else "random",
            length_column_name="length",
            bf16=device_precision(ComputeSpec()) == "bf16",
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            report_to=[],
            disable_tqdm=True,
        )
        collator = CountingCollator(flops)
        trainer = Trainer(model=model, args=settings, train_dataset=data, data_collator=collator)
        trainer.remove_callback(PrinterCallback)
        accumulated = settings.gradient_accumulation_steps

        def counts() -> dict[str, float]:
            taken = trainer.state.global_step * accumulated
            return {
                "tokens": sum(collator.tokens[:taken]),
                "padded": sum(collator.padded[:taken]),
                "operations": sum(collator.operations[:taken]),
            }

        clock = Clock(seconds, counts)
        trainer.add_callback(clock)
        trainer.train()
        return {**clock.found, "seconds": clock.elapsed, "memory": memory()}


def data_of(scale: Scale, limit: int, vocabulary: int) -> Dataset:
    lengths = real_lengths(scale.batch * 40, limit)
    data = rows_of("sequence", lengths, vocabulary)
    return data.add_column("length", lengths.tolist())


def config_of(scale: Scale, name: str, vocabulary: int) -> dict[str, Any]:
    layers, hidden, heads = scale.models[name]
    dropout = {"hidden_dropout_prob": 0.02, "attention_probs_dropout_prob": 0.02}
    return architecture("bert", layers, hidden, heads, vocabulary, **dropout)


def speed_job(scale: Scale, data: Dataset, name: str, limit: int, **settings: Any) -> TrainJob:
    chosen = arguments(scale, "") | {"global_batch_size": scale.batch, "eval_strategy": "no"}
    chosen |= {"per_device_train_batch_size": scale.batch, "max_tokens_per_device": scale.micro_rows * limit}
    del chosen["output_dir"]
    vocabulary = max(max(row) for row in data[:50]["input_ids"]) + 50
    return job_of("sequence", data, config_of(scale, name, vocabulary), ComputeSpec(), **chosen, **settings)


def against_stock(report: Report, scale: Scale, name: str, limit: int) -> None:
    """One model and one limit of lengths: ours, and the stock Trainer padded and grouped."""
    data = data_of(scale, limit, 20_000 if scale.batch > 8 else 60)
    job = speed_job(scale, data, name, limit)
    layers, hidden, _ = scale.models[name]
    with torch.device("meta"):
        shape = build_model(TASK, CLASSES, None, load_config(None, job.model.config), 0)
    flops = partial(step_flops, parameters=shape.num_parameters(exclude_embeddings=True), layers=layers, hidden=hidden)
    most, source = peak()
    report.tell(f"{name} to {limit}: peak, TFLOP/s ({source})", most / 1e12)
    runs = {
        "ours": lambda: ours(job, scale.speed_seconds, flops),
        "stock, longest": lambda: stock(job, data, scale, False, scale.speed_seconds, flops),
        "stock, grouped": lambda: stock(job, data, scale, True, scale.speed_seconds, flops),
    }
    rates = {}
    for variant, run in runs.items():
        found = run()
        rates[variant] = found["tokens"] / found["seconds"]
        title = f"{name} to {limit}, {variant}"
        report.tell(f"{title}: useful tokens/s", rates[variant])
        report.tell(f"{title}: padding, share", 1 - found["tokens"] / found["padded"])
        report.tell(f"{title}: memory, GiB", found["memory"])
        mfu = found["operations"] / found["seconds"] / most
        if variant == "ours" and name in MFU and any(known in card() for known in ("H100", "H200")):
            report.at_least(f"{title}: MFU", mfu, MFU[name])
        else:
            report.tell(f"{title}: MFU", mfu)
        if "waited" in found:
            report.tell(f"{title}: waited for data, share", found["waited"] / found["seconds"])
    for variant, least in FASTER.items():
        title, ratio = f"{name} to {limit}: ours / {variant}", rates["ours"] / rates[variant]
        if torch.cuda.is_available():
            report.at_least(title, ratio, least)
        else:
            report.tell(title, ratio)


def frozen(report: Report, scale: Scale) -> None:
    """All but the last two layers frozen, as a fraction of training all."""
    name, limit = list(scale.models)[-1], scale.limits[0]
    data, layers = data_of(scale, limit, 20_000 if scale.batch > 8 else 60), scale.models[name][0]
    rates = []
    for depth in (0, max(1, layers - 2)):
        found = ours(speed_job(scale, data, name, limit, freeze_layers=depth), scale.speed_seconds / 2, np.sum)
        rates.append(found["tokens"] / found["seconds"])
    report.tell(f"{name} to {limit}: useful tokens/s with a frozen prefix", rates[1])
    report.tell(f"{name} to {limit}: frozen prefix / all free", rates[1] / rates[0])


def scoring(report: Report, scale: Scale) -> None:
    """Cells a second of evaluation and of prediction into a file."""
    precision = device_precision(ComputeSpec())
    for name in scale.models:
        data = rows_of("sequence", real_lengths(scale.scored_rows, scale.limits[0]), 60)
        config = load_config(None, config_of(scale, name, 20_000))
        model = build_model(TASK, CLASSES, None, config, 0).to(device())
        trained = Trained(model, None, TASK, CLASSES, 4096, 0)
        sequences = Sequences.open(data, "label")
        for _ in stream(trained, sequences.view(np.arange(min(200, len(data)))), batch_size=48, precision=precision):
            pass
        synchronize()
        started = time.perf_counter()
        for _ in stream(trained, sequences, batch_size=48, precision=precision):
            pass
        report.tell(f"{name}: evaluated cells/s", len(data) / (time.perf_counter() - started))
        with tempfile.TemporaryDirectory() as folder:
            data.remove_columns("label").save_to_disk(f"{folder}/data")
            started = time.perf_counter()
            spec = PredictSpec(dataset=f"{folder}/data", batch_size=48)
            predict(trained, spec, f"{folder}/predictions.parquet", precision)
            report.tell(f"{name}: predicted cells/s", len(data) / (time.perf_counter() - started))


def profile(report: Report, scale: Scale) -> None:
    """The three operations that take most of the device's time in training."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, schedule
    from torch.profiler import profile as profiler

    name, limit = list(scale.models)[-1], scale.limits[0]
    data = data_of(scale, limit, 20_000 if scale.batch > 8 else 60)
    on_gpu = torch.cuda.is_available()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profiler(activities=kinds, schedule=schedule(wait=1, warmup=1, active=2, repeat=1)) as record:
        ours(speed_job(scale, data, name, limit), 0.0, np.sum, record)
    time_of = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    side = DeviceType.CUDA if on_gpu else DeviceType.CPU  # operations of the host count their kernels once more
    marks = ("ProfilerStep", "Optimizer.", "Profiler")
    events = [e for e in record.key_averages() if e.device_type == side and not e.key.startswith(marks)]
    total = sum(getattr(event, time_of) for event in events) or 1
    for place, event in enumerate(sorted(events, key=lambda event: -getattr(event, time_of))[:3], 1):
        report.tell(f"{name}: cost {place}, share: {event.key[:40]}", getattr(event, time_of) / total)


def parts(scale: Scale) -> dict[str, tuple[float, Callable[[Report, Scale], None]]]:
    found: dict[str, tuple[float, Callable[[Report, Scale], None]]] = {}
    for name in reversed(scale.models):
        for limit in scale.limits:
            found[f"{name} to {limit}"] = (75, partial(against_stock, name=name, limit=limit))
    return found | {"scoring": (40, scoring), "frozen prefix": (40, frozen), "profile": (40, profile)}
