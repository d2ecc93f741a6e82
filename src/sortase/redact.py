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

_STANDS_FOR = re.compile("(?:<[A-Z_]+>)?")  # nothing, or what TrainingArguments.to_dict() puts in a token's place
_IS_NAME = re.compile(f"(?:{_NAME}|token)", re.IGNORECASE)
_OF_ENVIRONMENT = re.compile("key|token|secret|pass|credential|connection", re.IGNORECASE)
_OF_PATH = re.compile(".*_(?:PATH|FILE|DIR|FOLDER)", re.IGNORECASE)
_IS_FILE = re.compile(r"[~.]?/[\w./-]*\.\w{1,8}")
# With a colon the user-info part of a URL ends at the last @: keys have slashes in them. A port is no user-info.
_IN_URL = re.compile(r"(?<=://)[^/\s?#:@\[\"'<>]*:(?!\d{1,5}(?:[/?#\s\"'<>]|$))[^\s\"'<>]*@")
_IN_WEB_URL = re.compile(r"(https?://)[^/\s?#\"'<>]+@", re.IGNORECASE)
_IN_QUERY = re.compile(rf"([?&;](?:{_SIGNED}|{_NAME})=)[^&\s\"'<>]+", re.IGNORECASE)
_IN_HEADER = re.compile(r"(authorization['\"]?\s*[:=]\s*['\"]?(?:bearer|basic|token)\s+)[^\s'\",]+", re.IGNORECASE)
_ASSIGNED = re.compile(rf"(?<![a-z0-9_.-])({_NAME}['\"]?\s*[:=]\s*['\"]?)[^\s'\",;}}&]+", re.IGNORECASE)


def redacted(value: Any) -> Any:
    """The same text, or plain settings, without the user-info part of URLs, signatures of queries, values of settings
    whose names are a credential's, and values of the environment variables whose names say key, token, secret, pass,
    credential or connection (``AWS_SECRET_ACCESS_KEY``, ``HF_TOKEN``, ``pgpassword``, ...), also line by line."""
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
    text = _IN_WEB_URL.sub(rf"\g<1>{HIDDEN}@", _IN_URL.sub(f"{HIDDEN}@", text))
    for pattern in (_IN_QUERY, _IN_HEADER, _ASSIGNED):
        text = pattern.sub(rf"\g<1>{HIDDEN}", text)
    return text


def _environment() -> list[str]:
    """Longest first: one may be a part of another."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if _OF_ENVIRONMENT.search(name) and not (_OF_PATH.fullmatch(name) or _IS_FILE.fullmatch(value)):
            found |= {value, value.strip(), *(line.strip() for line in value.splitlines())}
    return sorted((text for text in found if len(text) >= SHORTEST), key=len, reverse=True)


def _is_credential(name: Any, value: Any) -> bool:
    """A name alone does not make one: numbers belong to classes and columns that are called so."""
    if not isinstance(name, str) or not isinstance(value, str) or _STANDS_FOR.fullmatch(value):
        return False
    return bool(_IS_NAME.fullmatch(name))


def _shows(url: str) -> bool:
    return any(pattern.search(url) for pattern in (_IN_URL, _IN_WEB_URL, _IN_QUERY))


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
    elif isinstance(settings, str) and "://" in settings and _shows(settings):
        yield f"{path or 'a URL'} has a credential in its URL"
