"""Where and how precisely a model computes when it does not train."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..config.compute import ComputeSpec
from ..errors import InfrastructureError
from .device_memory import release_cache


def has_gpu(compute: ComputeSpec) -> bool:
    """Whether this run computes on a GPU; asked for one where there is none, InfrastructureError."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise InfrastructureError("compute.device is 'cuda', but this machine has no usable GPU; 'auto' takes the CPU")
    return compute.device != "cpu" and torch.cuda.is_available()


def device_precision(compute: ComputeSpec) -> str:
    """``bf16``, ``fp16`` or ``fp32``: the one of the settings, or bf16 where a GPU has it in hardware, fp16 on others.

    PyTorch also emulates bf16 (on a T4 or V100), which is slower than fp32.
    """
    if compute.precision != "auto":
        return compute.precision
    if not has_gpu(compute):
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def place_model(model: Any, compute: ComputeSpec) -> str:
    """Move a model to its device; returns the precision to compute in."""
    model.to("cuda" if has_gpu(compute) else "cpu")
    return device_precision(compute)


@contextmanager
def model_on_device(model: Any, compute: ComputeSpec | None) -> Iterator[str]:
    """A model on its device for as long as it is used there; gives the precision to compute in.

    Without ``compute`` other processes do the work: the model stays where it is.
    """
    if compute is None:
        yield "fp32"
        return
    release_cache()  # of whatever was trained before
    try:
        yield place_model(model, compute)
    finally:
        if next(model.parameters()).device.type == "cuda":
            model.to("cpu")
            release_cache()
