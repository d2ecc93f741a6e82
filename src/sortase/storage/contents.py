"""Which files of a folder belong to it. Others, such as caches, backups and what a desktop leaves, change nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any

STATE = "state.json"
_DATASET = frozenset({STATE, "dataset_info.json"})
_MODEL = ("config.json", "tokenizer.json", "tokenizer_config.json")  # a folder with one of them holds a model
_CACHES = ("cache-*.arrow", "tmp*")  # that `datasets` leaves beside a dataset's own files
_LITTER = ("*~", "#*#", "*.swp", "*.swo", "*.bak", "*.orig", "*.tmp", "*.pyc", "Thumbs.db", "desktop.ini")
_ZARR = (".zgroup", ".zarray", ".zattrs", ".zmetadata")  # descriptions of groups and arrays in its second format
# What transformers loads of a model: configuration, weights, tokenizer; and the settings that are kept beside them.
_LOADED = (
    *("config.json", "sortase.json"),
    *("model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "pytorch_model*.bin*"),
    *("*token*.json", "*vocab*", "merges.txt", "dict.txt", "*.codes", "*.model", "*.spm", "*.tiktoken", "*.jinja"),
)


def is_litter(name: str) -> bool:
    """Whether a file, by its path in a folder, is hidden, a backup, or something that a program left by the way."""
    *parts, own = name.split("/")
    parts += [own] if own not in _ZARR else []
    if any(part == "__pycache__" or (part.startswith(".") and part != "..") for part in parts):
        return True
    return any(fnmatchcase(own, pattern) for pattern in _LITTER)


def is_cache(name: str) -> bool:
    """Whether `datasets` made a file beside a dataset, when somebody mapped or filtered it."""
    return any(fnmatchcase(name, pattern) for pattern in _CACHES)


def needed(names: Iterable[str]) -> set[str]:
    """The files that a copy of a folder needs: a dataset's, a model's without the checkpoints and logs of its
    training, or all that are no litter."""
    kept = {name for name in names if not is_litter(name)}
    if STATE in kept:
        arrow = {name for name in kept if name.endswith(".arrow")}
        return (kept & _DATASET) | ({name for name in arrow if not is_cache(name)} or arrow)
    if kept & set(_MODEL):
        return {name for name in kept if "/" not in name}
    return kept


def identifying(names: Iterable[str], state: Callable[[], Any]) -> set[str]:
    """The files whose content is the folder's: those that ``state``, a dataset's state.json, names; those of a model
    that are loaded; or all that are no litter."""
    kept = needed(names)
    if STATE in kept:
        return kept & (_DATASET | _named(state()) or kept)
    if kept & set(_MODEL):
        return {name for name in kept if any(fnmatchcase(name, pattern) for pattern in _LOADED)}
    return kept


def _named(state: Any) -> set[str]:
    entries = state.get("_data_files") if isinstance(state, dict) else None
    return {str(entry.get("filename")) for entry in entries or [] if isinstance(entry, dict)}
