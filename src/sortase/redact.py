"""Secrets are kept out of what is written down or said, and out of configurations, which are stored with a run."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "***"
SHORTEST = 8  # a shorter value of the environment is no secret, and may be part of any word

_TOKENS = "(?:access|api|auth|bearer|hf|hub|id|personal|refresh|security|session|tracking)[_-]?token"
_KEYS = "(?:access|account|api|private|secret|shared|signing)[_-]?key(?:[_-]id)?"
_NAME = f"(?:(?:[a-z0-9_.-]*[_.-])?(?:secret|password|passwd|credentials?|{_TOKENS}|{_KEYS}))"
_SIGNED = "x-(?:amz|goog)-(?:signature|credential|security-token)|signature|sig|token|auth|code"

_IS_NAME = re.compile(f"(?:{_NAME}|token)", re.IGNORECASE)
_OF_ENVIRONMENT = re.compile("(?:.*_)?(?:SECRET|TOKEN|PASSWORD|PASSWD|SECRET_KEY|ACCESS_KEY|API_KEY|ACCOUNT_KEY)")
_IN_URL = re.compile(r"(?<=://)[^/\s?#:]*:[^/\s?#]*@")
_IN_QUERY = re.compile(rf"([?&;](?:{_SIGNED}|{_NAME})=)[^&\s\"'<>]+", re.IGNORECASE)
_IN_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+)[^\s'\",]+", re.IGNORECASE)
_ASSIGNED = re.compile(rf"(?<![a-z0-9_.-])({_NAME}['\"]?\s*[:=]\s*['\"]?)[^\s'\",;}}&]+", re.IGNORECASE)


def redacted(value: Any) -> Any:
    """The same text, or plain settings, without passwords in URLs, signatures of queries, values of settings whose
    names are a credential's, and values of the environment variables whose names end so (``AWS_SECRET_ACCESS_KEY``,
    ``RAY_AUTH_TOKEN``, ``HF_TOKEN``, ``WANDB_API_KEY``, ``MLFLOW_TRACKING_PASSWORD``, ...)."""
    return _redacted(value, _environment())


def _redacted(value: Any, secrets: list[str]) -> Any:
    if isinstance(value, str):
        return _text(value, secrets)
    if isinstance(value, dict):
        return {
            _redacted(name, secrets): HIDDEN if _is_credential(name, inner) else _redacted(inner, secrets)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redacted(inner, secrets) for inner in value]
    return value


def _text(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    text = _IN_URL.sub(f"{HIDDEN}@", text)
    for pattern in (_IN_QUERY, _IN_HEADER, _ASSIGNED):
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def _environment() -> list[str]:
    """Longest first: one may be a part of another."""
    found = {value for name, value in os.environ.items() if _OF_ENVIRONMENT.fullmatch(name) and len(value) >= SHORTEST}
    return sorted(found, key=len, reverse=True)


def _is_credential(name: Any, value: Any) -> bool:
    """A name alone does not make one: numbers belong to classes and columns that are called so."""
    return isinstance(name, str) and isinstance(value, str) and value != "" and bool(_IS_NAME.fullmatch(name))


def credentials_in(settings: Any, path: str = "") -> Iterator[str]:
    """What in these settings is a credential, in words that do not show it."""
    if isinstance(settings, dict):
        for name, value in settings.items():
            place = f"{path}.{name}" if path else str(name)
            if _is_credential(name, value):
                yield f"{place} is a credential"
            else:
                yield from credentials_in(value, place)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from credentials_in(value, path)
    elif isinstance(settings, str) and "://" in settings and (_IN_URL.search(settings) or _IN_QUERY.search(settings)):
        yield f"{path or 'a URL'} has a credential in its URL"
