"""Models with the right head: from a checkpoint, or freshly initialised from a configuration.

No code from a checkpoint is run and no pickled weights are read: safetensors only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import storage
from ..errors import ConfigError, InputError, MissingInputError, SortaseError
from ..registry import models, names
from .task import TASKS, Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


MODEL_SETTINGS = "sortase.json"
ATTENTION_DROPOUT = ("attention_probs_dropout_prob", "attention_dropout")


@dataclass(frozen=True)
class Trained:
    """A saved model with everything needed to use it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    task: Task
    class_map: dict[str, int]
    max_length: int
    pad_id: int

    @property
    def classes(self) -> list[str]:
        return sorted(self.class_map, key=lambda name: self.class_map[name])


@contextmanager
def without_library_bars() -> Iterator[None]:
    """Loading and saving models draws bars of its own into ours."""
    from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled

    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def is_local_name(name: str) -> bool:
    return storage.is_remote(name) or name.startswith((".", "/", "~")) or storage.exists(name)


def resolve(checkpoint: str) -> str:
    """A local path for a folder, URL or ``registry://name@champion``; the name itself for a model of the Hugging Face
    hub."""
    if names.is_reference(checkpoint):
        return str(storage.fetch(models.resolve(checkpoint).model))
    if not is_local_name(checkpoint):
        return checkpoint
    if not storage.exists(checkpoint):
        raise MissingInputError(f"there is no model at {checkpoint}")
    return str(storage.fetch(checkpoint))


def load_config(
    checkpoint: str | None, changes: dict[str, Any] | None, follows: dict[str, Any] | None = None
) -> PretrainedConfig:
    """The architecture: a checkpoint's own configuration, or a family's (``model_type``), with these changes.

    ``follows``: settings of a new model that follow from tokenizer and data; those that its family does not have are
    left out.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    settings = dict(changes or {})
    if checkpoint is not None:
        settings.pop("model_type", None)
        try:
            config = AutoConfig.from_pretrained(resolve(checkpoint), trust_remote_code=False)
            _check_settings(config, settings)
            return AutoConfig.from_pretrained(resolve(checkpoint), trust_remote_code=False, **settings)
        except (OSError, ValueError) as error:
            if isinstance(error, SortaseError):
                raise
            raise InputError(f"no model configuration can be read from {checkpoint}: {error}") from error
    kind = settings.pop("model_type", "bert")
    if kind not in CONFIG_MAPPING:
        near = get_close_matches(str(kind), list(CONFIG_MAPPING), n=3)
        raise ConfigError(f"unknown model.config.model_type {kind!r}; near: {near or 'bert, esm, modernbert'}")
    default = CONFIG_MAPPING[kind]()
    _check_settings(default, settings)
    implied = {key: value for key, value in (follows or {}).items() if hasattr(default, key)}
    try:
        return CONFIG_MAPPING[kind](**implied | settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model.config does not describe a {kind} model: {error}") from error


def _check_settings(config: PretrainedConfig, settings: dict[str, Any]) -> None:
    for key in settings:
        if not hasattr(config, key):
            near = get_close_matches(key, list(config.to_dict()), n=3)
            raise ConfigError(f"{type(config).__name__} has no setting {key!r}; near: {near}")


def has_weights(checkpoint: str) -> bool:
    """Whether a local checkpoint holds weights; one of the hub always does. Pickled weights are refused."""
    path = Path(resolve(checkpoint))
    if not path.is_dir():
        return True
    names = {item.name for item in path.iterdir()}
    if {"model.safetensors", "model.safetensors.index.json"} & names:
        return True
    pickled = sorted(name for name in names if name.startswith("pytorch_model") and name.endswith(".bin"))
    if pickled:
        raise InputError(
            f"{checkpoint} holds {pickled[0]}, a pickle that could run code; "
            "save the model again with save_pretrained, which writes safetensors"
        )
    return False


def build_model(
    task: Task, class_map: dict[str, int], checkpoint: str | None, config: PretrainedConfig, seed: int
) -> PreTrainedModel:
    """A model with ``len(class_map)`` outputs. New weights come from ``seed`` alone, whatever ran before."""
    import torch
    import transformers

    auto = getattr(transformers, task.auto_class)
    config.num_labels = len(class_map)
    config.label2id = dict(class_map)
    config.id2label = {index: name for name, index in class_map.items()}
    with torch.random.fork_rng(devices=[]), without_library_bars():
        torch.manual_seed(seed)
        try:
            if checkpoint is not None and has_weights(checkpoint):
                return auto.from_pretrained(
                    resolve(checkpoint),
                    config=config,
                    trust_remote_code=False,
                    use_safetensors=True,
                    ignore_mismatched_sizes=True,
                    dtype=torch.float32,
                )
            return auto.from_config(config, trust_remote_code=False)
        except ValueError as error:
            raise ConfigError(f"{type(config).__name__} has no head for {task.kind} classification: {error}") from error
        except OSError as error:
            raise InputError(f"the model {checkpoint} cannot be loaded: {error}") from error


def attention_dropout(config: PretrainedConfig, value: float | None) -> list[str]:
    """Set the attention dropout when asked; says what was done, or what it costs to leave it."""
    import torch

    names = [name for name in ATTENTION_DROPOUT if isinstance(getattr(config, name, None), int | float)]
    if not names:
        return []
    before = getattr(config, names[0])
    if value is not None:
        setattr(config, names[0], value)
        return [f"attention dropout {before} → {value} by model.attention_dropout; hidden dropout is unchanged"]
    if before > 0 and not torch.cuda.is_available():
        cost = f"attention dropout {before} keeps attention off the fast path of this CPU"
        return [f"{cost}; model.attention_dropout: 0 switches it off"]
    return []


def positions(config: PretrainedConfig) -> int:
    """The longest sequence the model can read, in tokens.

    RoBERTa and ESM number positions from ``pad_token_id + 1``, so they read that many fewer than their table holds.
    """
    limit = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not isinstance(limit, int) or limit <= 0:
        return 2**31 - 1
    if getattr(config, "position_embedding_type", "absolute") == "rotary":
        return limit
    offset_kinds = ("roberta", "xlm-roberta", "camembert", "esm", "longformer", "mpnet", "roberta-prelayernorm")
    return limit - (config.pad_token_id or 0) - 1 if config.model_type in offset_kinds else limit


def task_of_model(config: PretrainedConfig) -> Task:
    """The task a saved model was trained for, from the architecture it names."""
    names = config.architectures or []
    for task in TASKS.values():
        if any(name.endswith(task.architecture_suffix) for name in names):
            return task
    raise InputError(f"the model's architecture {names} is neither a sequence nor a token classifier")


def load_trained(directory: str, task: Task | None = None, tokenizer: str | None = None) -> Trained:
    """A model that training saved, its tokenizer (if it has one) and its own class map."""
    import torch
    import transformers
    from safetensors import SafetensorError
    from transformers import AutoConfig

    from .tokenizer import load_tokenizer

    path = resolve(directory)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{directory} holds no saved model: {error}") from error
    found = task_of_model(config)
    if task is not None and task != found:
        raise InputError(f"{directory} is a {found.kind} classifier, not a {task.kind} classifier")
    if not has_weights(directory):
        raise InputError(f"{directory} has no model.safetensors; training it may not have finished")
    auto = getattr(transformers, found.auto_class)
    try:
        with without_library_bars():
            model, found_there = auto.from_pretrained(
                path, trust_remote_code=False, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
    except SafetensorError as error:
        raise InputError(f"the weights in {directory} are damaged: {error}") from error
    if lacking := sorted(found_there["missing_keys"]):
        raise InputError(f"the weights in {directory} lack {lacking[0]} and with it what training made; train it again")
    model.eval()
    source = tokenizer or (directory if has_tokenizer(path) else None)
    loaded = load_tokenizer(source) if source else None
    class_map = {str(name): int(index) for index, name in config.id2label.items()}
    settings = Path(path) / MODEL_SETTINGS
    limit = storage.read_json(str(settings))["max_length"] if settings.exists() else positions(config)
    return Trained(model, loaded, found, class_map, limit, pad_id(config, loaded))


def has_tokenizer(path: str) -> bool:
    folder = Path(path)
    return not folder.is_dir() or any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json"))


def pad_id(config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None) -> int:
    """The id that fills up short rows. The model's own comes first: RoBERTa and ESM number positions by it."""
    known = getattr(config, "pad_token_id", None)
    if known is None and tokenizer is not None:
        known = tokenizer.pad_token_id
    return int(known or 0)
