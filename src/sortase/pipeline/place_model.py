"""Where and how precisely a model computes when it does not train."""

from __future__ import annotations

from typing import Any

import torch

from ..config.compute import ComputeSpec
from ..errors import InfrastructureError


def has_gpu(compute: ComputeSpec) -> bool:
    """Whether this run computes on a GPU; asked for one where there is none, InfrastructureError."""
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise InfrastructureError("compute.device is 'cuda', but this machine has no usable GPU; 'auto' takes the CPU")
    return compute.device != "cpu" and torch.cuda.is_available()


def device_precision(compute: ComputeSpec) -> str:
    """``bf16`` or ``fp32``: what was asked for, or bf16 where a GPU has it."""
    if compute.precision != "auto":
        return compute.precision
    return "bf16" if has_gpu(compute) and torch.cuda.is_bf16_supported() else "fp32"


def place_model(model: Any, compute: ComputeSpec) -> str:
    """Move a model to its device; returns the precision to compute in."""
    model.to("cuda" if has_gpu(compute) else "cpu")
    return device_precision(compute)
