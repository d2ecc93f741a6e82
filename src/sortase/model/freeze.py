"""Freezing the first layers of an encoder together with its embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ..errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of transformer layers: the longest list of alike modules below the head."""
    depth = getattr(model.config, "num_hidden_layers", None)
    stacks = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not stacks:
        raise ConfigError(f"{type(model).__name__} has no stack of layers that could be frozen")
    return stacks[0]


def embeddings(model: PreTrainedModel) -> nn.Module:
    """The module before the first layer; at least the token embeddings."""
    return getattr(model.base_model, "embeddings", None) or model.get_input_embeddings()


def freeze_prefix(model: PreTrainedModel, layers: int) -> list[nn.Module]:
    """Stop the first ``layers`` layers and the embeddings from learning; 0 leaves all free.

    Returns the frozen modules. They are to stay in evaluation mode during training: a frozen prefix has nothing to
    gain from dropout, which would only blur what the free layers see.
    """
    if layers == 0:
        return []
    stack = encoder_layers(model)
    if not 0 <= layers <= len(stack):
        raise ConfigError(f"freeze_layers={layers}, but the model has {len(stack)} layers; allowed: 0 to {len(stack)}")
    frozen = [embeddings(model), *stack[:layers]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen
