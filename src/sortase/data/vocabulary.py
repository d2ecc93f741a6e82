"""Token vocabularies: which id a token has, from pickles and JSON in either direction."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from .. import storage
from ..errors import InputError
from ..storage import pickles

SPECIAL = ("<pad>", "<mask>", "<unk>", "<cls>", "<sep>")
_AROUND = frozenset({*SPECIAL, "<eos>"})
_DESCRIPTION = "sortase vocabulary: "
_ALWAYS, _MULTIPLE = 1_000_000, 100  # ids number the rows of tables, so one huge id would make them fill the memory


def read(url: str) -> dict[str, int]:
    """Token -> id from a pickle or JSON of token -> id or id -> token, with Python or NumPy integers.

    Raises InputError for anything else, for two tokens with one id, one token with two ids, negative ids, and ids far
    beyond the number of tokens.
    """
    content = storage.read_json(url, any_encoding=True) if url.endswith(".json") else pickles.load(url)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{url} holds {type(content).__name__}; a vocabulary is a dictionary of tokens and ids")
    return _checked(_pairs(content, url), url)


def _pairs(content: dict[Any, Any], url: str) -> list[tuple[str, int]]:
    """(token, id) of either direction; JSON has ids as text where they are keys."""
    if all(_is_id(value) for value in content.values()) and all(isinstance(key, str) for key in content):
        return [(token, int(index)) for token, index in content.items()]
    for index, token in content.items():
        if not isinstance(token, str) or not (_is_id(index) or (isinstance(index, str) and index.isdecimal())):
            raise InputError(f"{url} maps neither tokens to ids nor ids to tokens: it has {index!r}: {token!r}")
    return [(token, int(index)) for index, token in content.items()]


def _is_id(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _checked(pairs: list[tuple[str, int]], url: str) -> dict[str, int]:
    tokens: dict[str, int] = {}
    ids: dict[int, str] = {}
    last = min(2**31 - 1, max(_ALWAYS, _MULTIPLE * len(pairs)))
    for token, index in pairs:
        if index > last:
            count = f"{len(pairs)} token{'s' if len(pairs) > 1 else ''}"
            raise InputError(f"{url} gives token {token!r} the id {index}; ids of {count} are at most {last}")
        if index < 0:
            raise InputError(f"{url} gives token {token!r} the id {index}; ids start at 0")
        if index in ids:
            raise InputError(f"{url} gives the id {index} to both {ids[index]!r} and {token!r}")
        if token in tokens:
            raise InputError(f"{url} gives token {token!r} two ids, {tokens[token]} and {index}")
        tokens[token], ids[index] = index, token
    return tokens


def with_special_tokens(vocabulary: dict[str, int], special: tuple[str, ...] = SPECIAL) -> dict[str, int]:
    """The vocabulary with special tokens; those it lacks get ids after the last, the others keep theirs."""
    complete = dict(vocabulary)
    for token in special:
        if token not in complete:
            complete[token] = max(complete.values(), default=-1) + 1
    return complete


def build(tokens: list[str]) -> dict[str, int]:
    """A new vocabulary: special tokens first, then the tokens in sorted order."""
    return {token: index for index, token in enumerate([*SPECIAL, *sorted(set(tokens) - set(SPECIAL))])}


def write(url: str, vocabulary: dict[str, int]) -> None:
    """A pickle, and its JSON twin beside it."""
    pickles.dump(url, vocabulary)
    storage.write_bytes(url.removesuffix(".pkl") + ".json", json.dumps(vocabulary).encode())


def digest(tokens: Mapping[str, int]) -> str:
    """SHA-256 (hex) of token -> id."""
    pairs = sorted((str(token), int(index)) for token, index in tokens.items())
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def plain_digest(tokens: Mapping[str, int]) -> str:
    """``digest`` without the special tokens, which a tokenizer may add behind the others."""
    return digest({token: index for token, index in tokens.items() if token not in _AROUND})


def describe(tokens: Mapping[str, int]) -> str:
    """The words of a dataset's description in which its vocabulary travels, also with a selection of its rows."""
    return _DESCRIPTION + plain_digest(tokens)


def of_dataset(url: str) -> str | None:
    """``plain_digest`` of the vocabulary that a saved dataset was tokenised with: by its description, or by the
    dictionary that lies beside it; None where neither tells."""
    info = storage.join(url, "dataset_info.json")
    folder = url.rstrip("/").rpartition("/")[0]
    beside = storage.join(folder, "vocabulary.json") if folder else "vocabulary.json"
    described = storage.read_json(info).get("description") if storage.exists(info) else None
    for line in (described or "").splitlines():
        if line.startswith(_DESCRIPTION):
            return line.removeprefix(_DESCRIPTION)
    return plain_digest(read(beside)) if storage.exists(beside) else None
