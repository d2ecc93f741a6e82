"""Paths of a configuration, made absolute before another process hears of them: Ray's work in folders of their own."""

from __future__ import annotations

from typing import Any

from .. import storage
from ..config.run import Config

PATHS: dict[str, tuple[str, ...]] = {
    "run": ("output",),
    "data": ("dataset",),
    "tokenize": ("input", "vocabulary", "medians", "gene_names"),
    "labels": ("vocabulary", "gene_class_dict"),
    "model": ("files",),
    "compute": ("deepspeed",),
    "predict": ("dataset",),
    "storage": ("credentials_file",),
    "gate": ("dataset",),
    "registry": ("url",),
}
NAMES: dict[str, tuple[str, ...]] = {"model": ("checkpoint", "tokenizer")}  # which may also be on a hub


def absolute(config: Config) -> Config:
    """The same with absolute paths; relative ones are meant from the current folder, ``~`` is the user's home."""
    sections: dict[str, Any] = {}
    for table, make in ((PATHS, storage.absolute), (NAMES, storage.located)):
        for section, names in table.items():
            spec = sections.get(section) or getattr(config, section)
            given = {name: getattr(spec, name, None) for name in names}
            changed = {name: make(value) for name, value in given.items() if isinstance(value, str)}
            if changed:
                sections[section] = spec.model_copy(update=changed)
    return config.model_copy(update=sections)


def travelling(config: Config) -> dict[str, str]:
    """The paths that processes elsewhere read, by their settings; the run folder apart."""
    compute, sections = config.compute, []
    if compute.prepare.workers:
        sections += ["tokenize", "data", "labels"]
    if compute.max_workers or config.tune is not None:
        sections += ["model", "labels", "compute"]
    if compute.score.workers:
        sections += ["predict"]
    named = {f"{section}.{name}": section for section in sections for name in _names(section)}
    found = {full: getattr(getattr(config, section), full.partition(".")[2], None) for full, section in named.items()}
    return {name: value for name, value in found.items() if isinstance(value, str) and _is_local(name, value)}


def _names(section: str) -> tuple[str, ...]:
    return PATHS.get(section, ()) + NAMES.get(section, ())


def _is_local(name: str, value: str) -> bool:
    """A hub's name is not."""
    section, _, setting = name.partition(".")
    return not storage.is_remote(value) and (setting not in NAMES.get(section, ()) or storage.is_located(value))
