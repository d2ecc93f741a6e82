"""From run.yaml and --set flags to a checked configuration, with errors in the user's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError
from .check import words_of
from .run import Config
from .typed_yaml import Dumper, inside, read


def dump(settings: Mapping[str, Any]) -> str:
    """Plain settings as YAML that ``parse`` reads as the same."""
    return yaml.dump(dict(settings), Dumper=Dumper, sort_keys=False, allow_unicode=True)


def parse(text: str, overrides: Iterable[str] = (), name: str = "run.yaml") -> Config:
    """Check a YAML text after applying ``section.key=value`` overrides, whose values are YAML too."""
    return check(settings_of(text, overrides, name), name)


def settings_of(text: str, overrides: Iterable[str] = (), name: str = "run.yaml") -> dict[str, Any]:
    """The same, unchecked: plain sections, with text as it was typed where the schema wants text."""
    settings = mapping(text, name, Config)
    for override in overrides:
        _apply(settings, override)
    return settings


def mapping(text: str, name: str, wanted: Any = None) -> dict[str, Any]:
    """What a YAML text holds by name. ``wanted``: the section, or the types by name."""
    try:
        found = read(text, wanted, name)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {error}{_hint(error)}") from error
    found = {} if found is None else found
    if not isinstance(found, dict):
        raise ConfigError(f"{name} must hold sections such as 'run:' and 'labels:', not {type(found).__name__}")
    return found


def check(settings: dict[str, Any], name: str = "the configuration") -> Config:
    """Validate plain settings; all that is wrong is said at once."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{name}: " + "; ".join(words_of(item, Config) for item in error.errors())) from error


def _apply(settings: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set takes section.key=value, got {override!r}")
    target, wanted = settings, inside(Config, keys[0])
    for key, below in pairwise(keys):
        wanted = inside(wanted, below)
        inner = target.setdefault(key, {})
        if inner is None:
            inner = target[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {key!r} is the value {inner!r}, it has no keys below it")
        target = inner
    try:
        target[keys[-1]] = read(value, wanted, f"--set {override}")
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {error}{_hint(error)}") from error


def _hint(error: yaml.YAMLError) -> str:
    """For YAML a > begins a text of several lines, and in braces nothing at all."""
    if "block scalar" not in str(error) and "character '>'" not in str(error):
        return ""
    return '\nQuote a rule that begins with >, such as macro_f1: ">= champion - 0.005"'
