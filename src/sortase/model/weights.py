"""The weights of a checkpoint: how its files name them, and what of a model came from them.

Only the head, and the pooler, of a model may be new. Heads of other tasks in the checkpoint are left out.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import storage
from ..errors import InputError
from ..storage.members import check_name, member

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# What torch.compile, FSDP and activation checkpointing put into names wherever they wrap a module, and DataParallel and
# DistributedDataParallel at their beginning.
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
OUTER_WRAPPER = "module"
HEADS = ("pooler", "contact_head")  # parts of a body that read out and may be new
DEPTH_SETTINGS = ("num_hidden_layers", "num_layers", "n_layers", "n_layer")
SHOWN = 5


@dataclass(frozen=True)
class Origin:
    """How many parameters came from the checkpoint, and the names of the tensors that are new."""

    pretrained: int
    new: int
    new_tensors: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        return {"from_checkpoint": self.pretrained, "new": self.new, "new_tensors": list(self.new_tensors)}

    def line(self, checkpoint: str) -> str:
        total = self.pretrained + self.new
        line = f"{self.pretrained:,} of {total:,} parameters come from {checkpoint}"
        return f"{line}; new: {listed(self.new_tensors)}" if self.new_tensors else line


def files(folder: Path) -> list[Path]:
    """The safetensors files of a saved model, in order; none where it has no such weights."""
    if (folder / SINGLE).exists():
        return [folder / SINGLE]
    if (folder / INDEX).exists():
        return [folder / name for name in shards(storage.read_json(str(folder / INDEX)), str(folder / INDEX), folder)]
    return []


def shards(index: Any, source: str, folder: Path | None = None) -> list[str]:
    """The names of files in the index of a model, each of safetensors below its folder; InputError for others."""
    names = parts(index, source, folder)
    for name in names:
        if not name.endswith(".safetensors"):
            raise InputError(f"{source} names the weights {name!r}; only .safetensors are read")
    return names


def parts(index: Any, source: str, folder: Path | None = None) -> list[str]:
    """The same of any kind of weights."""
    weights = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weights, dict):
        raise InputError(f"{source} does not say which file holds which weights (weight_map)")
    names = sorted({check_name(name, source) for name in weights.values()})
    if folder is not None:
        for name in names:
            member(str(folder), name, source)
    return names


def is_pickled(name: str) -> bool:
    """Whether a file's name is that of pickled weights, or of a part of them."""
    return name.startswith("pytorch_model") and name.endswith(".bin")


def plain_name(name: str) -> str:
    """A tensor's name without the parts that wrappers of modules put into it."""
    parts = [part for part in name.split(".") if part not in WRAPPERS]
    while len(parts) > 1 and parts[0] == OUTER_WRAPPER:
        parts = parts[1:]
    return ".".join(parts)


def unwrapped(folder: Path) -> tuple[dict[str, torch.Tensor], str] | None:
    """All weights by their plain names, and a line about it; None where the names are plain already.

    Raises InputError where two names become one.
    """
    from safetensors import safe_open

    names = {path: _names(path) for path in files(folder)}
    wrapped = next((name for inside in names.values() for name in inside if plain_name(name) != name), None)
    if wrapped is None:
        return None
    weights: dict[str, torch.Tensor] = {}
    for path, inside in names.items():
        with safe_open(path, framework="pt") as file:
            for name in inside:
                if plain_name(name) in weights:
                    raise InputError(f"{folder} holds {plain_name(name)} twice, once as {name}")
                weights[plain_name(name)] = file.get_tensor(name)
    short = plain_name(wrapped)
    return weights, f"the checkpoint names its weights as a wrapped model does; {wrapped} is read as {short}"


def _names(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (OSError, SafetensorError) as error:
        raise InputError(f"the weights in {path.parent} are damaged: {path.name}: {error}") from error


def _is_no_table(record: logging.LogRecord) -> bool:
    return "LOAD REPORT" not in record.getMessage()


@contextmanager
def without_loading_table() -> Iterator[None]:
    """transformers logs a table of what it found while loading; what matters of it is told in one line of ours."""
    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(_is_no_table)
    try:
        yield
    finally:
        logger.removeFilter(_is_no_table)


def origin_of(
    model: PreTrainedModel, found: dict[str, Any], checkpoint: str, changes: dict[str, Any] | None = None
) -> Origin:
    """What came from the checkpoint, by the loading information ``found`` that transformers gives.

    ``changes``: settings that the user changed in the checkpoint's configuration; fewer layers leave the others out.

    Raises InputError where anything but the head and the pooler is new, of another shape, or left over.
    """
    wrong = [
        f"{name} is {_shape(there)} in the checkpoint and {_shape(here)} in the configuration"
        for name, there, here in sorted(found["mismatched_keys"])
        if _of_body(model, name)
    ]
    if wrong:
        raise InputError(
            f"the weights in {checkpoint} do not fit its configuration: {listed(wrong, '; ')}. Give the configuration "
            "that the weights were saved with"
        )
    missing = sorted(name for name in found["missing_keys"] if _of_body(model, name))
    if missing:
        raise InputError(
            f"the weights in {checkpoint} lack {listed(missing)}; only the head and the pooler may be new. The "
            f"checkpoint is of another kind of model than {model.config.model_type}, or of fewer layers"
        )
    left_over = sorted(name for name in found["unexpected_keys"] if _of_body(model, name))
    if left_over and not set(DEPTH_SETTINGS) & set(changes or {}):
        raise InputError(
            f"the weights in {checkpoint} hold {listed(left_over)}, which its configuration has no part for; set "
            "model.config.num_hidden_layers to use its first layers only"
        )
    new = {*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])}
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    fresh = sorted(name for name in new if name in sizes)
    count = sum(sizes[name] for name in fresh)
    return Origin(sum(sizes.values()) - count, count, tuple(fresh))


def check_whole(model: PreTrainedModel, found: dict[str, Any], directory: str) -> None:
    """Refuse weights that lack a part of a trained model, have more, or another shape than its configuration says."""
    if lacking := sorted(found["missing_keys"]):
        raise InputError(f"the weights in {directory} lack {lacking[0]} and with it what training made; train it again")
    for name, there, here in sorted(found["mismatched_keys"]):
        raise InputError(
            f"the weights in {directory} do not fit its configuration: {name} is {_shape(there)} in the checkpoint and "
            f"{_shape(here)} in the configuration"
        )
    if left_over := sorted(name for name in found["unexpected_keys"] if _of_body(model, name)):
        raise InputError(
            f"the weights in {directory} hold {listed(left_over)}, which its configuration has no part for"
        )


def all_new(model: PreTrainedModel) -> Origin:
    return Origin(0, sum(parameter.numel() for parameter in model.parameters()))


def _of_body(model: PreTrainedModel, name: str) -> bool:
    """Whether a tensor belongs to the encoder; heads and poolers do not."""
    parts = name.removeprefix(f"{model.base_model_prefix}.").split(".")
    inside = {child for child, _ in model.base_model.named_children()}
    inside |= {parameter for parameter, _ in model.base_model.named_parameters(recurse=False)}
    return parts[0] in inside and not set(parts) & set(HEADS)


def _shape(sizes: Any) -> str:
    return "[" + ", ".join(str(size) for size in sizes) + "]"


def listed(names: Any, between: str = ", ") -> str:
    """The first few, and how many more."""
    names = list(names)
    more = len(names) - SHOWN
    return between.join(names[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
