"""Hard: what does not fit or cannot work ends in words, and nothing stays on the GPU."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from sortase.config.compute import ComputeSpec
from sortase.data.sequences import Sequences
from sortase.errors import ConfigError, DeviceMemoryError
from sortase.model.device import model_on_device
from sortase.model.device_memory import release_cache
from sortase.model.inference import stream
from sortase.model.load import Trained, build_model, load_config
from sortase.model.task import TASKS

from .checks import Report
from .work import CLASSES, Scale, device, job_of, rows_of, small_config, small_rows, train_in


def exhausted(*arguments: Any, **options: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def too_large(report: Report, scale: Scale) -> None:
    """A batch that does not fit: words that name the settings. Without a GPU its error is faked."""
    on_gpu = torch.cuda.is_available()
    length, batch = (4096, 4096) if on_gpu else (scale.longest, 8)
    data = rows_of("sequence", np.full(batch * 5 // 4, length), scale.vocabulary)
    config = small_config("bert", scale)
    settings = {"per_device_train_batch_size": batch, "max_steps": 1, "eval_strategy": "no", "save_strategy": "no"}
    job = job_of("sequence", data, config, ComputeSpec(), **settings)
    if on_gpu:
        torch.cuda.set_per_process_memory_fraction(0.1)
    faked = mock.patch("sortase.train.trainer.summed_loss", exhausted)
    try:
        words = "it fitted"
        with tempfile.TemporaryDirectory() as folder:
            try:
                if on_gpu:
                    train_in(Path(folder), job)
                else:
                    with faked:
                        train_in(Path(folder), job)
            except DeviceMemoryError as error:
                words = str(error)
        named = [name for name in ("max_tokens_per_device", "per_device_train_batch_size") if name in words]
        report.equal("settings named for training", len(named), 2)
        report.tell("words", words[:200])
        words = "it fitted"
        model = build_model(TASKS["token"], CLASSES, None, load_config(None, config), 0).to(device())
        trained = Trained(model, None, TASKS["token"], CLASSES, length, 0)
        if not on_gpu:
            model.forward = exhausted
        try:
            list(stream(trained, Sequences.open(data), batch_size=batch))
        except DeviceMemoryError as error:
            words = str(error)
        report.equal("setting named for evaluation", "evaluate.batch_size" in words, True)
    finally:
        if on_gpu:
            torch.cuda.set_per_process_memory_fraction(1.0)


def join(rank: int, port: int, answers: Any) -> None:
    """One of two processes that find themselves on the same GPU."""
    import torch.distributed as dist

    from sortase.train.ranks import JoinedRanks

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    dist.init_process_group("nccl", rank=rank, world_size=2)
    try:
        JoinedRanks()
        answers.put("joined")
    except ConfigError as error:
        answers.put(str(error))


def shared_gpu(report: Report, scale: Scale) -> None:
    """Two processes with NCCL on one GPU."""
    if torch.cuda.device_count() != 1:
        report.skip("two processes with NCCL", "it needs a machine with one GPU")
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    processes = [context.Process(target=join, args=(rank, port, answers), daemon=True) for rank in range(2)]
    for process in processes:
        process.start()
    words = [answers.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(10)
        process.kill()
    report.equal("both are refused in words", all("compute.gpus_per_worker" in each for each in words), True)
    report.tell("words", words[0][:200])


def freed(report: Report, scale: Scale) -> None:
    """Memory of the GPU before and after training and scoring."""
    if not torch.cuda.is_available():
        report.skip("memory that stays allocated", "it needs a GPU")
        return
    release_cache()
    before = torch.cuda.memory_allocated()
    job = job_of("sequence", small_rows("sequence", scale), small_config("bert", scale), ComputeSpec(), max_steps=4)
    with tempfile.TemporaryDirectory() as folder:
        fitted, trained = train_in(Path(folder), job)
    del fitted
    with model_on_device(trained.model, ComputeSpec()) as precision:
        list(stream(trained, job.train, batch_size=32, precision=precision))
    report.equal("the model lies on", str(next(trained.model.parameters()).device), "cpu")
    del trained
    release_cache()
    report.at_most("MiB that stay allocated", (torch.cuda.memory_allocated() - before) / 2**20, 1)


PARTS = {"too large a batch": (40, too_large), "one GPU for two": (60, shared_gpu), "freed": (20, freed)}
