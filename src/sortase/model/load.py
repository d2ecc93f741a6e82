"""Models with the right head: from a checkpoint, or freshly initialised from a configuration.

No code from a checkpoint is run and no pickled weights are read: safetensors only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import storage
from ..errors import ConfigError, InputError, SortaseError
from ..registry import models, names
from . import weights
from .foreign import check_folder, without_code
from .hub import asked_for
from .leftovers import COUNTED_FROM_PAD, OUTPUTS, class_map_of, clean, end_rows_by_mask, settle_pad
from .task import TASKS, Task

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


MODEL_SETTINGS = "sortase.json"
FORMER_LIFE = ("num_labels", "id2label", "label2id", "problem_type", *OUTPUTS)
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


def resolve(checkpoint: str) -> str:
    """A local path for a folder, URL or ``registry://name@champion``; the name itself for a model of the Hugging Face
    hub.

    InputError where a version of a registry is not what was registered.
    """
    version = models.resolve(checkpoint) if names.is_reference(checkpoint) else None
    if version is not None:
        checkpoint = version.model
    elif not storage.is_located(checkpoint):
        return checkpoint
    path = storage.fetch(checkpoint)
    version = version or models.version_at(checkpoint)
    if version is not None:
        version.verify_copy(path)
    return str(path)


def load_config(
    checkpoint: str | None, changes: dict[str, Any] | None, follows: dict[str, Any] | None = None
) -> PretrainedConfig:
    """The architecture: a checkpoint's own configuration, or a family's (``model_type``), with these changes.

    ``follows``: settings of a new model that follow from tokenizer and data; those that its family does not have are
    left out.
    """
    from transformers import CONFIG_MAPPING

    settings = dict(changes or {})
    if checkpoint is not None:
        settings.pop("model_type", None)
        saved = saved_settings(checkpoint)
        _check_settings(_as_config(saved, checkpoint), settings)
        return _as_config(saved, checkpoint, settings)
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


def saved_settings(checkpoint: str) -> dict[str, Any]:
    """A checkpoint's ``config.json`` as it lies there."""
    from transformers import PretrainedConfig

    try:
        path = resolve(checkpoint)
        settings = asked_for(path, lambda: PretrainedConfig.get_config_dict(path)[0])
    except (OSError, ValueError) as error:
        if isinstance(error, SortaseError):
            raise
        raise storage.unreadable("model configuration", checkpoint, error) from error
    if settings is None:
        raise InputError(f"no model configuration can be read from {checkpoint}")
    return dict(settings)


def _as_config(saved: dict[str, Any], checkpoint: str, changes: dict[str, Any] | None = None) -> PretrainedConfig:
    """The configuration without what a former life left in it."""
    from transformers import CONFIG_MAPPING, AutoConfig

    settings = {name: value for name, value in saved.items() if name not in FORMER_LIFE}
    kind = str(settings.get("model_type"))
    try:
        if kind in CONFIG_MAPPING:
            config = CONFIG_MAPPING[kind].from_dict(settings, **(changes or {}))
        else:
            path = resolve(checkpoint)
            config = asked_for(
                path, lambda: AutoConfig.from_pretrained(path, trust_remote_code=False, **(changes or {}))
            )
        return without_code(config, checkpoint, changes)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, SortaseError):
            raise
        raise storage.unreadable("model configuration", checkpoint, error) from error


def _check_settings(config: PretrainedConfig, settings: dict[str, Any]) -> None:
    for key in settings:
        if not hasattr(config, key):
            near = get_close_matches(key, list(config.to_dict()), n=3)
            raise ConfigError(f"model.config: {type(config).__name__} has no setting {key!r}; near: {near}")


def has_weights(checkpoint: str) -> bool:
    """Whether a local checkpoint holds weights; one of the hub always does. Pickled weights are refused."""
    path = Path(resolve(checkpoint))
    check_folder(str(path) if path.is_dir() else checkpoint, checkpoint)
    if not path.is_dir() or weights.files(path):
        return True
    pickled = sorted(item.name for item in path.iterdir() if weights.is_pickled(item.name))
    if pickled:
        raise InputError(
            f"{checkpoint} holds its weights in {pickled[0]}, a pickle that could run code; `sortase convert "
            f"{checkpoint} NEW_FOLDER` reads it safely and writes safetensors"
        )
    return False


@dataclass(frozen=True)
class Built:
    """A model for training, and where its weights come from."""

    model: PreTrainedModel
    origin: weights.Origin
    notes: list[str]


def build_model(
    task: Task, class_map: dict[str, int], checkpoint: str | None, config: PretrainedConfig, seed: int
) -> PreTrainedModel:
    """The model of ``build``."""
    return build(task, class_map, checkpoint, config, seed).model


def build(
    task: Task,
    class_map: dict[str, int],
    checkpoint: str | None,
    config: PretrainedConfig,
    seed: int,
    changes: dict[str, Any] | None = None,
    *,
    memory: bool = True,
) -> Built:
    """A model with ``len(class_map)`` outputs. New weights come from ``seed`` alone, whatever ran before.

    ``changes``: what the user changed in the checkpoint's configuration. Without ``memory`` its tensors have shapes
    only (``meta`` device).

    Raises:
        InputError: weights of the checkpoint do not fit, or something but its head and pooler is lacking.
        ConfigError: the architecture has no such head.
    """
    import torch
    import transformers

    auto = getattr(transformers, task.auto_class)
    clean(config, class_map)
    with torch.random.fork_rng(devices=[]), without_library_bars():
        torch.manual_seed(seed)
        try:
            if checkpoint is not None and has_weights(checkpoint):
                model, found, notes = _load(auto, checkpoint, config, memory)
                origin = weights.origin_of(model, found, checkpoint, changes)
            else:
                with nullcontext() if memory else torch.device("meta"):
                    model, notes = auto.from_config(config, trust_remote_code=False), []
                origin = weights.all_new(model)
        except ValueError as error:
            if isinstance(error, SortaseError):
                raise
            why = str(error).partition("\n")[0]
            raise ConfigError(f"{type(config).__name__} has no head for {task.kind} classification: {why}") from error
    end_rows_by_mask(model)
    return Built(model, origin, notes)


def describe(
    task: Task,
    class_map: dict[str, int],
    checkpoint: str | None,
    config: PretrainedConfig,
    seed: int,
    changes: dict[str, Any] | None = None,
) -> Built:
    """The same without memory: layers and shapes, held against the weights of a folder, of which only names and shapes
    are read."""
    if checkpoint is not None and not Path(resolve(checkpoint)).is_dir():
        checkpoint = None  # a hub's weights are not downloaded for this
    return build(task, class_map, checkpoint, config, seed, changes, memory=False)


def _load(
    auto: Any, checkpoint: str, config: PretrainedConfig, memory: bool = True
) -> tuple[PreTrainedModel, dict[str, Any], list[str]]:
    """The model, what transformers tells of its loading, and notes."""
    import torch
    from safetensors import SafetensorError

    path = resolve(checkpoint)
    plain = weights.unwrapped(Path(path)) if Path(path).is_dir() else None
    source: dict[str, Any] = {"pretrained_model_name_or_path": path, "trust_remote_code": False}
    if plain is not None:
        with torch.device("meta"):
            auto = type(auto.from_config(config, trust_remote_code=False))
        source = {"pretrained_model_name_or_path": None, "state_dict": plain[0]}
    if not memory:
        source["device_map"] = "meta"
    try:
        with weights.without_loading_table(), without_library_bars():
            read = partial(
                auto.from_pretrained,
                **source,
                config=config,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
            model, found = asked_for(path, read, "hub-download")
    except SafetensorError as error:
        raise InputError(f"the weights in {checkpoint} are damaged: {error}") from error
    except OSError as error:
        raise InputError(f"the model {checkpoint} cannot be loaded: {error}") from error
    return model, found, [] if plain is None else [plain[1]]


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
        return [f"{cost}; {names[0]}: 0 in model.config switches it off"]
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
    return limit - (config.pad_token_id or 0) - 1 if config.model_type in COUNTED_FROM_PAD else limit


def task_of_model(config: PretrainedConfig) -> Task:
    """The task a saved model was trained for, from the architecture it names."""
    names = config.architectures or []
    for task in TASKS.values():
        if any(name.endswith(task.architecture_suffix) for name in names):
            return task
    raise InputError(f"the model's architecture {names} is neither a sequence nor a token classifier")


def load_trained(directory: str, task: Task | None = None, tokenizer: str | None = None) -> Trained:
    """A model that training saved, its tokenizer (if it has one) and its own class map.

    Raises InputError where the weights do not fit the configuration, and where its class names contradict each other.
    """
    import transformers

    from .tokenizer import fitted, load_tokenizer

    path = resolve(directory)
    saved = saved_settings(directory)
    config = _as_config(saved, directory)
    found = task_of_model(config)
    if task is not None and task != found:
        raise InputError(f"{directory} is a {found.kind} classifier, not a {task.kind} classifier")
    if not has_weights(directory):
        raise InputError(f"{directory} has no model.safetensors; training it may not have finished")
    class_map = class_map_of(saved, directory)
    clean(config, class_map)
    source = tokenizer or (directory if has_tokenizer(path) else None)
    loaded = load_tokenizer(source) if source else None
    pad = config.pad_token_id if config.pad_token_id is not None else settle_pad(config, loaded)
    model, info, _ = _load(getattr(transformers, found.auto_class), directory, config)
    weights.check_whole(model, info, directory)
    end_rows_by_mask(model)
    model.eval()
    settings = Path(path) / MODEL_SETTINGS
    limit = storage.read_json(str(settings))["max_length"] if settings.exists() else positions(config)
    fitting = fitted(loaded, config.vocab_size, pad) if loaded is not None else None
    return Trained(model, fitting, found, class_map, limit, int(pad))


def has_tokenizer(path: str) -> bool:
    folder = Path(path)
    return not folder.is_dir() or any((folder / name).exists() for name in ("tokenizer.json", "tokenizer_config.json"))
