"""Checks of one section of a configuration, with errors in the user's words."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import ConfigError


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
        said = [words_of({**item, "loc": _called(item["loc"], called or {})}, section) for item in error.errors()]
        raise ConfigError("; ".join(f"{name}: {words}" for words in said)) from error


def _called(place: tuple[Any, ...], called: Mapping[str, str]) -> tuple[Any, ...]:
    return (called.get(str(place[0]), place[0]), *place[1:]) if place else place


def words_of(item: Any, root: type[BaseModel]) -> str:
    """One of pydantic's errors about ``root`` in the user's words: which setting, what is wrong, what is allowed."""
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
