"""How much memory a training process needs, estimated from the model's shape before anything is loaded.

Per parameter: 4 bytes of weight; where it learns 4 of gradient and 8 of AdamW's two moments. bf16 without DeepSpeed is
autocast: weights, gradients and moments stay fp32. DeepSpeed holds weights and gradients in the training precision and
adds 4 bytes of fp32 copy to the moments; it divides among workers the optimizer's part (ZeRO 1), gradients too
(ZeRO 2), weights too (ZeRO 3).

Activations, kept for the backward pass, per token and layer of hidden size h and intermediate size i with fused
attention: (18 h + 4 i) bytes in 16 bits, twice that in fp32. It is the formula of Korthikanti et al. 2022 (34 h where
i = 4 h) without its term for unfused attention. Embeddings and head are left out; casts to bf16 and gated layers
(ModernBERT) keep up to twice as much. A frozen prefix keeps none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, SortaseError
from .task import Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_apex_fused")


@dataclass(frozen=True)
class Shape:
    """``layers`` that learn; a frozen prefix is not counted among them."""

    parameters: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int


@dataclass(frozen=True)
class Memory:
    """Bytes of one training process."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def least(self) -> int:
        """What no smaller batch makes smaller: a device with less cannot train this model."""
        return self.weights + self.optimizer

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations

    def __str__(self) -> str:
        parts = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
        }
        return f"{size(self.total)} ({', '.join(f'{name} {size(count)}' for name, count in parts.items())})"


def shape_of(config: PretrainedConfig, task: Task, classes: int, freeze_layers: int) -> Shape:
    """Count a model's parameters without making them.

    Raises ConfigError where no such model can be built.
    """
    import torch

    from .freeze import freeze_prefix
    from .load import build_model

    try:
        with torch.device("meta"):
            model = build_model(task, {str(i): i for i in range(classes)}, None, config, seed=0)
    except SortaseError:
        raise
    except (TypeError, AssertionError, AttributeError, RuntimeError, ArithmeticError, LookupError) as error:
        raise ConfigError(f"model.config does not describe a {config.model_type} model: {error}") from error
    freeze_prefix(model, freeze_layers)
    parameters = list(model.parameters())
    hidden = config.hidden_size
    return Shape(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        layers=config.num_hidden_layers - freeze_layers,
        hidden=hidden,
        intermediate=getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None) or 4 * hidden,
    )


def estimate(
    shape: Shape,
    *,
    tokens: int,
    precision: str,
    workers: int = 1,
    zero: dict[str, Any] | None = None,
    optimizer: str = "adamw_torch",
    gradient_checkpointing: bool = False,
) -> Memory:
    """Bytes of one of ``workers`` processes whose forward pass holds ``tokens`` padded tokens.

    ``zero``: DeepSpeed's ``zero_optimization``. What it offloads is not counted; nor are moments of other optimizers
    than AdamW, which may have none.
    """
    stage = int(zero["stage"]) if zero else 0
    width = 2 if zero and precision == "bf16" else 4
    moments = (8 if optimizer in ADAMW else 0) + (4 if zero else 0)
    weights = shape.parameters * width / (workers if stage == 3 else 1)
    per_layer = 2 * shape.hidden if gradient_checkpointing else 18 * shape.hidden + 4 * shape.intermediate
    return Memory(
        weights=0 if _offloaded(zero, "offload_param") else round(weights),
        gradients=round(shape.trainable * width / (workers if stage >= 2 else 1)),
        optimizer=0
        if _offloaded(zero, "offload_optimizer")
        else round(shape.trainable * moments / max(1, workers if stage else 1)),
        activations=tokens * shape.layers * per_layer * (1 if precision == "bf16" else 2),
    )


def _offloaded(zero: dict[str, Any] | None, name: str) -> bool:
    return ((zero or {}).get(name) or {}).get("device", "none") != "none"


def machine_memory() -> int | None:
    """Bytes that this process may use: the machine's, or its container's where that is less; None where unknown."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (ValueError, OSError, AttributeError):
        return None
    for path in map(Path, CGROUP_LIMITS):
        text = path.read_text().strip() if path.is_file() else "max"
        limits += [int(text)] if text.isdigit() else []
    return min(limits)


def gpu_memory() -> int:
    """Bytes of this machine's first GPU."""
    import torch

    return int(torch.cuda.get_device_properties(0).total_memory)


def size(count: float) -> str:
    """``1.5 GiB``, ``12 MiB``."""
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 2**power:
            return f"{count / 2**power:.3g} {unit}"
    return f"{count:.0f} bytes"
