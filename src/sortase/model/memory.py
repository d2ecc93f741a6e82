"""How much memory a training process needs, estimated from the model's shape before anything is loaded.

Per parameter: 4 bytes of weight; where it learns 4 of gradient and 8 of AdamW's two moments. 16 bits without DeepSpeed
are autocast: weights, gradients and moments stay fp32. DeepSpeed holds weights and gradients in the training precision
and adds 4 bytes of fp32 copy to the moments; it divides among workers the optimizer's part (ZeRO 1), gradients too
(ZeRO 2), weights too (ZeRO 3).

Activations are what autograd keeps for the backward pass with fused attention. ``KEPT`` holds what it keeps for each
token in a layer of hidden size h and intermediate size i, counted on models of transformers 5 (a test counts again);
Korthikanti et al. 2022 have 18 h + 4 i for pure 16 bits. Dropout keeps a byte for each value more, windowed attention
(ModernBERT) a mask row, autocast a 16-bit copy of the weights, and embeddings about 8 h. A frozen prefix keeps none.
With gradient checkpointing only the inputs of layers are kept, and one layer in full.
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
HALF = ("bf16", "fp16")
# Bytes of activations a token and layer, in multiples of (h, i): in fp32, and under autocast.
KEPT = {
    "bert": ((32, 8), (24, 4)),
    "distilbert": ((32, 8), (24, 4)),
    "electra": ((32, 8), (24, 4)),
    "roberta": ((32, 8), (24, 4)),
    "xlm-roberta": ((32, 8), (24, 4)),
    "esm": ((32, 16), (24, 8)),  # its GELU is written out
    "modernbert": ((40, 16), (24, 8)),  # gated, rotary
}
ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_apex_fused")


@dataclass(frozen=True)
class Shape:
    """``layers`` that learn; a frozen prefix is not counted among them. ``windowed`` ones attend to a window only.

    ``cast``: learning parameters outside of embeddings, of which autocast keeps a copy.
    """

    parameters: int
    trainable: int
    layers: int
    hidden: int
    intermediate: int
    model_type: str = "bert"
    cast: int = 0
    windowed: int = 0
    dropout: bool = False
    frozen: bool = False


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
    embedded = {
        id(p) for module in model.modules() if isinstance(module, torch.nn.Embedding) for p in module.parameters()
    }
    windows = getattr(config, "layer_types", None) or []
    return Shape(
        parameters=sum(p.numel() for p in parameters),
        trainable=sum(p.numel() for p in parameters if p.requires_grad),
        layers=config.num_hidden_layers - freeze_layers,
        hidden=hidden,
        intermediate=getattr(config, "intermediate_size", None) or getattr(config, "hidden_dim", None) or 4 * hidden,
        model_type=config.model_type,
        cast=sum(p.numel() for p in parameters if p.requires_grad and id(p) not in embedded),
        windowed=windows[freeze_layers:].count("sliding_attention"),
        dropout=bool(getattr(config, "hidden_dropout_prob", getattr(config, "dropout", 0.0))),
        frozen=freeze_layers > 0,
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
    length: int = 0,
) -> Memory:
    """Bytes of one of ``workers`` processes whose forward pass holds ``tokens`` padded tokens, in rows of ``length``.

    ``zero``: DeepSpeed's ``zero_optimization``. What it offloads is not counted; nor are moments of other optimizers
    than AdamW, which may have none.
    """
    stage = int(zero["stage"]) if zero else 0
    half = precision in HALF
    width = 2 if zero and half else 4
    moments = (8 if optimizer in ADAMW else 0) + (4 if zero else 0)
    weights = shape.parameters * width / (workers if stage == 3 else 1)
    return Memory(
        weights=0 if _offloaded(zero, "offload_param") else round(weights),
        gradients=round(shape.trainable * width / (workers if stage >= 2 else 1)),
        optimizer=0
        if _offloaded(zero, "offload_optimizer")
        else round(shape.trainable * moments / max(1, workers if stage else 1)),
        activations=_activations(shape, tokens, length, half, autocast=not zero, checkpointing=gradient_checkpointing),
    )


def _activations(shape: Shape, tokens: int, length: int, half: bool, *, autocast: bool, checkpointing: bool) -> int:
    full, cast = KEPT.get(shape.model_type, KEPT["modernbert"])
    hidden, intermediate = cast if half else full
    if half and not autocast:
        hidden, intermediate = full[0] // 2, full[1] // 2
    width = 2 if half else 4
    layer = tokens * (hidden * shape.hidden + intermediate * shape.intermediate + 2 * shape.hidden * shape.dropout)
    layers, inputs = shape.layers, 0
    if checkpointing and layers:
        layers, inputs = 1, shape.layers * tokens * 4 * shape.hidden
    masks = tokens * length * width * (min(1, shape.windowed) if checkpointing else shape.windowed)
    ends = tokens * 8 * shape.hidden * (not shape.frozen)
    copies = 2 * shape.cast if half and autocast else 0
    return int(layers * layer + inputs + masks + ends + copies)


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
