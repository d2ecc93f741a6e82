"""Freezing the first layers of an encoder together with everything that comes before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TRACED_TOKENS = 4


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of transformer layers: the list of as many modules below the head as the configuration has layers.

    Raises ConfigError where there is none, as where all layers share their weights (ALBERT).
    """
    depth = getattr(model.config, "num_hidden_layers", None)
    stacks = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList) and len(m) == depth]
    if not stacks:
        raise ConfigError(
            f"{type(model).__name__} does not have {depth} layers with weights of their own (layers that share their "
            "weights cannot be frozen one by one); allowed for freeze_layers: 0"
        )
    return stacks[0]


def freeze_prefix(model: PreTrainedModel, layers: int) -> list[nn.Module]:
    """Stop the first ``layers`` layers, and all that their input is computed from, from learning; 0 leaves all free.

    What that is follows from the graph of a forward pass, not from names. A model without memory (``meta`` device)
    cannot make one: there it is what is defined before the first free layer.

    Returns the modules that are done before the first free layer begins. They are to stay in evaluation mode during
    training: a frozen prefix has nothing to gain from dropout, which would only blur what the free layers see.

    Raises ConfigError where the model has fewer layers, or no layers that can be frozen one by one.
    """
    if layers == 0:
        return []
    stack = encoder_layers(model)
    if not 0 <= layers <= len(stack):
        raise ConfigError(f"freeze_layers={layers}, but the model has {len(stack)} layers; allowed: 0 to {len(stack)}")
    if any(parameter.is_meta for parameter in model.parameters()):
        modules, before = list(stack[:layers]), _defined_before(model, stack, layers)
    else:
        modules, before = _Trace(model, stack, layers).run()
    for parameter in [*before, *(p for layer in stack[:layers] for p in layer.parameters())]:
        parameter.requires_grad_(False)
    return [*stack[:layers], *(module for module in modules if module not in set(stack[:layers]))]


def _defined_before(model: PreTrainedModel, stack: nn.ModuleList, layers: int) -> list[nn.Parameter]:
    parameters = list(model.base_model.parameters())
    last = list(stack[layers - 1].parameters())[-1]
    return parameters[: 1 + next(place for place, parameter in enumerate(parameters) if parameter is last)]


class _Trace:
    """One forward pass of a few tokens, watched up to the first free layer, or the end of the last layer."""

    def __init__(self, model: PreTrainedModel, stack: nn.ModuleList, layers: int):
        self.body = model.base_model
        self.stack, self.layers = stack, layers
        self.finished: list[nn.Module] = []
        self.again: set[nn.Module] = set()
        self.boundary: list[torch.Tensor] | None = None

    def run(self) -> tuple[list[nn.Module], list[nn.Parameter]]:
        """Modules and parameters that come before the first free layer."""
        hooks = [module.register_forward_hook(self._done) for module in self.body.modules()]
        if self.layers < len(self.stack):
            free = self.stack[self.layers]
            hooks.append(free.register_forward_pre_hook(self._reached, with_kwargs=True))
        modes = [(module, module.training) for module in self.body.modules()]
        learning = [(parameter, parameter.requires_grad) for parameter in self.body.parameters()]
        try:
            self.body.eval()
            self.body.requires_grad_(True)
            with torch.enable_grad():
                output = self.body(input_ids=self._tokens())
            before = _leaves(self.boundary or [])
            used = _leaves(list(_tensors(output)))
        finally:
            for hook in hooks:
                hook.remove()
            for module, mode in modes:
                module.training = mode
            for parameter, learns in learning:
                parameter.requires_grad_(learns)
        done = [module for module in dict.fromkeys(self.finished) if module not in self.again]
        idle = [p for p, _ in learning if id(p) not in used]
        return done, [*(p for p, _ in learning if id(p) in before), *idle]

    def _tokens(self) -> torch.Tensor:
        pad = getattr(self.body.config, "pad_token_id", None)
        device = next(self.body.parameters()).device
        return torch.full((1, TRACED_TOKENS), 1 if pad == 0 else 0, device=device)

    def _done(self, module: nn.Module, args: Any, output: Any) -> None:
        if self.boundary is not None:
            self.again.add(module)
            return
        self.finished.append(module)
        if self.layers == len(self.stack) and module is self.stack[-1]:
            self.boundary = list(_tensors(output))

    def _reached(self, module: nn.Module, args: Any, given: dict[str, Any]) -> None:
        if self.boundary is None:
            self.boundary = [*_tensors(args), *_tensors(given)]


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)


def _leaves(tensors: list[torch.Tensor]) -> set[int]:
    """Identities of the parameters that these were computed from."""
    leaves: set[int] = set()
    seen: set[Any] = set()
    waiting = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    leaves |= {id(tensor) for tensor in tensors if tensor.grad_fn is None and tensor.requires_grad}
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.add(id(node.variable))
        waiting += [inner for inner, _ in node.next_functions if inner is not None]
    return leaves
