"""From run.yaml and --set flags to a checked configuration, with errors in the user's words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ..errors import ConfigError
from .run import Config


class _Loader(yaml.SafeLoader):
    """As YAML 1.2: 5e-5 is a number, and no, yes, on and off are words (a strategy, or the name of a class)."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - declared by the library
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("^([Tt]rue|TRUE|[Ff]alse|FALSE)$"), list("tTfF"))


class _Dumper(yaml.SafeDumper):
    """Quotes the words that ``_Loader`` would take for a number: '1e5', the revision of a model."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


def dump(settings: Mapping[str, Any]) -> str:
    """Plain settings as YAML that ``parse`` reads as the same."""
    return yaml.dump(dict(settings), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse(text: str, overrides: Iterable[str] = (), name: str = "run.yaml") -> Config:
    """Check a YAML text after applying ``section.key=value`` overrides, whose values are YAML too."""
    return check(settings_of(text, overrides, name), name)


def settings_of(text: str, overrides: Iterable[str] = (), name: str = "run.yaml") -> dict[str, Any]:
    """The same, unchecked: plain sections."""
    settings = mapping(text, name)
    for override in overrides:
        _apply(settings, override)
    return settings


def mapping(text: str, name: str) -> dict[str, Any]:
    """What a YAML text holds by name."""
    try:
        found = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name} is not valid YAML: {error}{_hint(error)}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{name} must hold sections such as 'run:' and 'labels:', not {type(found).__name__}")
    return found


def check(settings: dict[str, Any], name: str = "the configuration") -> Config:
    """Validate plain settings; all that is wrong is said at once."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        raise ConfigError(f"{name}: " + "; ".join(_words(item) for item in error.errors())) from error


def validate(section: type[BaseModel], settings: dict[str, Any], name: str) -> Any:
    """Validate one section in the same words."""
    try:
        return section.model_validate(settings)
    except ValidationError as error:
        raise ConfigError("; ".join(f"{name}: {_words(item, section)}" for item in error.errors())) from error


def _apply(settings: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"--set takes section.key=value, got {override!r}")
    target = settings
    for key in keys[:-1]:
        inner = target.setdefault(key, {})
        if inner is None:
            inner = target[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {key!r} is the value {inner!r}, it has no keys below it")
        target = inner
    try:
        target[keys[-1]] = yaml.load(value, _Loader)
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
