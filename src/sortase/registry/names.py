"""How versions and aliases are named: ``registry://cells@champion``, ``cells@20261124T031500-9f3a2c1b``, ``cells``."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ..config.registry import NAME
from ..errors import ConfigError

SCHEME = "registry://"
CHAMPION, CHALLENGER = "champion", "challenger"
VERSION = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
VARIABLE = "SORTASE_REGISTRY"


@dataclass(frozen=True)
class Reference:
    """A model's name, and the version or alias that is meant: None where only the model is named."""

    name: str
    version: str | None = None


def is_reference(text: str | None) -> bool:
    return text is not None and text.startswith(SCHEME)


def parse(text: str) -> Reference:
    name, at, version = text.removeprefix(SCHEME).partition("@")
    if not NAME.fullmatch(name) or (at and not NAME.fullmatch(version)):
        raise ConfigError(f"{text!r} names no registered model; expected NAME, NAME@ALIAS or NAME@VERSION")
    return Reference(name, version or None)


def check_alias(alias: str) -> str:
    if not NAME.fullmatch(alias) or VERSION.fullmatch(alias) or re.fullmatch(r"[0-9a-f]{8}", alias):
        raise ConfigError(
            f"{alias!r} cannot be an alias: give letters, digits, '-', '_' and '.', but not the form of a version"
        )
    return alias


def registry_url(given: str | None) -> str:
    """The registry that is named, or else the environment's."""
    url = given or os.environ.get(VARIABLE)
    if not url:
        raise ConfigError(f"no registry is named; give registry.url, --registry or {VARIABLE}")
    return url.rstrip("/")
