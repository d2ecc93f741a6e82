"""Before a run starts: whether its model can be built, and fits the memory it is trained in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import storage
from ..arguments import naming
from ..config.compute import ComputeSpec
from ..config.run import Config
from ..data.gene_classes import read_gene_classes
from ..errors import ConfigError, InfrastructureError, InputError, MissingInputError
from ..model.device import device_precision, has_gpu
from ..model.foreign import without_code
from ..model.load import describe, has_weights, load_config, positions
from ..model.memory import Memory, Shape, estimate, gpu_memory, machine_memory, shape_of, size
from ..model.task import task_of
from ..train.deepspeed import zero_settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig

ASSUMED_TOKENS = 2048  # of a sequence where nothing says how long they are
KINDS_OF_TOKENS = ("pad", "cls", "sep", "bos", "eos", "mask", "unk")


def check_model(config: Config, device_memory: int | None, elsewhere: bool = False) -> str:
    """A line about the model's size. ``elsewhere``: it is trained on machines of which nothing is known.

    Raises:
        ConfigError, InputError: the model cannot be built, a file of it is missing or cannot be read.
        InfrastructureError: there is no such device, or its memory is less than parameters and optimizer alone need.
    """
    device = None if elsewhere else _device(config.compute, device_memory)
    found = architecture(config)
    _check_files(config)
    if found is not None:
        _check_weights(config, found.config)
    return _check_memory(config, device, found)


def check_memory(config: Config) -> str:
    """The same of a model whose files are looked at elsewhere."""
    with naming("model.checkpoint"):
        found = architecture(config)
    return _check_memory(config, _device(config.compute, None), found)


def _check_memory(config: Config, device: _Device | None, found: Architecture | None) -> str:
    if found is None:
        return f"preflight: {config.model.checkpoint} lies on a hub; its memory is not estimated"
    shape = shape_of(found.config, task_of(config.labels.task), _classes(config), config.model.freeze_layers)
    needed = _needed(config, shape, positions(found.config))
    workers = max(1, config.compute.min_workers)
    if device is not None and needed.least > device.memory:
        raise InfrastructureError(
            f"the model cannot be trained here: {shape.parameters:,} parameters and their optimizer alone need "
            f"{size(needed.least)} in each of {workers} training processes, and {device.name} has "
            f"{size(device.memory)} for each. Take a smaller model, freeze layers (model.freeze_layers), or divide it "
            "among workers (compute.deepspeed)"
        )
    of = f" of the {size(device.memory)} of {device.name}" if device is not None else ""
    without = "" if found.whole else "; its token embeddings are not counted, the vocabulary is not made yet"
    return f"preflight: {shape.parameters:,} parameters; estimated memory of a training process: {needed}{of}{without}"


def _check_files(config: Config) -> None:
    """The tokenizer can be read, and the headers of the weights, where they are on this machine."""
    from safetensors import SafetensorError, safe_open

    from ..model.tokenizer import load_tokenizer
    from ..model.weights import files

    checkpoint, tokenizer = config.model.checkpoint, config.model.tokenizer
    if tokenizer is not None and storage.is_located(tokenizer):
        load_tokenizer(tokenizer)
    if checkpoint is None or storage.is_remote(checkpoint) or not storage.is_located(checkpoint):
        return
    for path in files(storage.local_path(checkpoint)):
        try:
            with safe_open(path, "np"):
                pass
        except (SafetensorError, OSError) as error:
            raise InputError(f"the weights in {path} are damaged: {error}") from error


def _check_weights(config: Config, architecture: PretrainedConfig) -> None:
    """Weights on this machine fit the architecture: only the head and the pooler are new."""
    spec = config.model
    if spec.checkpoint is not None and storage.is_located(spec.checkpoint) and not storage.is_remote(spec.checkpoint):
        classes = {str(index): index for index in range(_classes(config))}
        describe(task_of(config.labels.task), classes, spec.checkpoint, architecture, 0, spec.config)


def _needed(config: Config, shape: Shape, longest: int) -> Memory:
    compute, settings = config.compute, config.train.arguments
    length = min(config.model.max_length or ASSUMED_TOKENS, longest)
    tokens = settings["per_device_train_batch_size"] * length
    zero = zero_settings(compute)
    return estimate(
        shape,
        tokens=min(tokens, config.train.max_tokens_per_device or tokens),
        precision=compute.precision if compute.workers else device_precision(compute),
        workers=max(1, compute.min_workers),
        zero=zero["zero_optimization"] if zero else None,
        optimizer=settings.get("optim", "adamw_torch"),
        gradient_checkpointing=bool(settings.get("activation_checkpointing", False)),
        length=length,
    )


@dataclass(frozen=True)
class Architecture:
    """``whole``: the vocabulary's size is known."""

    config: PretrainedConfig
    whole: bool


def architecture(config: Config) -> Architecture | None:
    """The model that training will build, as far as it is known; None for one of a hub that this machine lacks."""
    spec = config.model
    if spec.checkpoint is None:
        follows, whole = _follows(config)
        return Architecture(load_config(None, spec.config, follows), whole)
    if not storage.is_located(spec.checkpoint):
        return _cached(spec.checkpoint, spec.config)
    if not storage.exists(spec.checkpoint):
        raise storage.missing(spec.checkpoint)
    if not storage.is_remote(spec.checkpoint):
        has_weights(spec.checkpoint)
        return Architecture(load_config(spec.checkpoint, spec.config), True)
    description = storage.join(spec.checkpoint, "config.json")  # without its weights
    if not storage.exists(description):
        raise MissingInputError(f"{spec.checkpoint} holds no config.json, so no saved model")
    return Architecture(load_config(description, spec.config), True)


def _cached(name: str, changes: dict[str, Any] | None) -> Architecture | None:
    from transformers import AutoConfig

    settings = {key: value for key, value in (changes or {}).items() if key != "model_type"}
    try:
        found = AutoConfig.from_pretrained(name, local_files_only=True, trust_remote_code=False, **settings)
    except (OSError, ValueError):
        return None
    return Architecture(without_code(found, name, settings), True)


def _follows(config: Config) -> tuple[dict[str, Any], bool]:
    """Settings of a new model that follow from its tokenizer, and whether they are known; without, the smallest."""
    given = config.model.config or {}
    name = config.model.tokenizer or config.labels.vocabulary
    if name is not None and (storage.is_located(name) or config.model.tokenizer is None):
        from ..model.tokenizer import load_tokenizer

        tokenizer = load_tokenizer(name)
        ids = {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in KINDS_OF_TOKENS}
        return {"vocab_size": 1 + max(tokenizer.get_vocab().values()), **ids}, True
    if name is None and config.tokenize is None:
        if "vocab_size" not in given:
            raise ConfigError("a new model needs model.tokenizer, labels.vocabulary or model.config.vocab_size")
        return {}, True
    ids = {f"{kind}_token_id": number for number, kind in enumerate(KINDS_OF_TOKENS)}
    return {"vocab_size": len(ids), **ids}, "vocab_size" in given


def _classes(config: Config) -> int:
    """As many as are named; two where only the data tell."""
    named = config.labels.mapping or config.labels.gene_class_dict
    return len(read_gene_classes(named) if isinstance(named, str) else named or "ab")


@dataclass(frozen=True)
class _Device:
    name: str
    memory: int


def _device(compute: ComputeSpec, device_memory: int | None) -> _Device | None:
    """Where one training process computes; None where that is another machine of which nothing is known."""
    if device_memory is not None:
        return _Device("its device", device_memory)
    if compute.workers and (compute.address or os.environ.get("RAY_ADDRESS")):
        return None
    if has_gpu(compute):
        return _Device("this machine's GPU", gpu_memory())
    memory = machine_memory()
    return _Device("this machine", memory // max(1, compute.min_workers)) if memory is not None else None
