"""From run.yaml and --set flags to a checked configuration, with errors in the user's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import ConfigError
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
        raise ConfigError(f"{name}: " + "; ".join(_words(item) for item in error.errors())) from error


def validate(
    section: type[BaseModel],
    settings: dict[str, Any],
    name: str,
    called: Mapping[str, str] | None = None,
    *,
    python: bool = False,
) -> Any:
    """Validate one section in the same words.

    ``called``: what the caller named settings of the section. ``python``: they were given there, not in run.yaml.
    """
    try:
        return section.model_validate(settings, context={"python": python})
    except ValidationError as error:
        said = [_words({**item, "loc": _called(item["loc"], called or {})}, section) for item in error.errors()]
        raise ConfigError("; ".join(f"{name}: {words}" for words in said)) from error


def _called(place: tuple[Any, ...], called: Mapping[str, str]) -> tuple[Any, ...]:
    return (called.get(str(place[0]), place[0]), *place[1:]) if place else place


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


def _words(item: Any, root: type[BaseModel] = Config) -> str:
    place = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _keys(root, item["loc"][:-1])
        near = get_close_matches(str(item["loc"][-1]), known, n=1)
        return f"unknown key '{place}'; " + (f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}")
    if item["type"] == "missing":
        return f"'{place}' is required"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "training_argument":
        return f"{place}: {message}" if place else message
    return f"'{place}': {message} (got {item['input']!r})" if place and item["type"] != "value_error" else message


def _keys(section: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    for part in path:
        annotation = section.model_fields[part].annotation if part in section.model_fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        inner = [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]
        if not inner:
            return []
        section = inner[0]
    return sorted(section.model_fields)
