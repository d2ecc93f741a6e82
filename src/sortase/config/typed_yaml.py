"""YAML 1.2 as plain values. Where a schema wants text, a scalar is taken as it was typed: commit 12e4567, class 010.

Scalars follow the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema): no, on, 12:30, 1_2 and dates
are text, and 010 is ten.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from ..errors import ConfigError
from .base import LABEL, Section

_TAG = "tag:yaml.org,2002:"
_NUMBERS: dict[str, tuple[type, ...]] = {"bool": (bool,), "int": (int, float), "float": (float, int)}


class Loader(yaml.SafeLoader):
    """Composes nodes whose tags follow YAML 1.2."""

    yaml_implicit_resolvers = {}  # noqa: RUF012 - declared by the library


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["", *"~nN"]),
    ("bool", "true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
    ("merge", "<<", ["<"]),
):
    Loader.add_implicit_resolver(_TAG + _kind, re.compile(f"^(?:{_pattern})$"), _first)


class Dumper(yaml.SafeDumper):
    """Quotes the text that ``Loader`` would take for something else: '1e5', the revision of a model."""

    yaml_implicit_resolvers = Loader.yaml_implicit_resolvers


def read(text: str, wanted: Any, name: str) -> Any:
    """What the text holds, for a field of the type ``wanted``: a section, an annotation, a list of one of these, or a
    mapping of these by key (``*`` for all keys).

    Raises:
        yaml.YAMLError: the text is not YAML.
        ConfigError: a key is given twice, a tag is unknown, or aliases never end.
    """
    loader = Loader(text)
    try:
        node = loader.get_single_node()
        return _nothing("", wanted) if node is None else _Reader(name, len(text)).value(node, wanted)
    except RecursionError as error:
        raise ConfigError(f"{name} nests lists or sections without end") from error
    finally:
        loader.dispose()


def inside(wanted: Any, key: Any) -> Any:
    """The type of what lies under ``key`` of a value of the type ``wanted``; None where it is not known."""
    for option in _options(wanted):
        if isinstance(option, Mapping):
            return option.get(key, option.get("*"))
        if isinstance(option, type) and issubclass(option, Section):
            return option.annotation_of(str(key))
        if get_origin(option) is dict:
            return get_args(option)[1]
    return None


class _Reader:
    def __init__(self, name: str, length: int) -> None:
        self.name = name
        # An alias of a list of aliases, and so on, is small in the file and without end where it is written out.
        self.left = 10_000 + 16 * length
        self.open: set[int] = set()

    def value(self, node: yaml.Node, wanted: Any) -> Any:
        self.left -= 1 + len(node.value)
        if id(node) in self.open or self.left < 0:
            raise ConfigError(
                f"{self._line(node)}: the aliases and merges (&, *, <<) stand for far more than {self.name} holds; "
                "write the values out"
            )
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, wanted)
        self.open.add(id(node))
        made = self._mapping(node, wanted) if isinstance(node, yaml.MappingNode) else self._list(node, wanted)
        self.open.remove(id(node))
        return made

    def _line(self, node: yaml.Node) -> str:
        return f"{self.name}, line {node.start_mark.line + 1}"

    def _list(self, node: yaml.Node, wanted: Any) -> list[Any]:
        self._check_tag(node, "seq")
        inner = next((item for option in _options(wanted) for item in _items(option)), None)
        return [self.value(item, inner) for item in node.value]

    def _mapping(self, node: yaml.MappingNode, wanted: Any) -> dict[Any, Any]:
        self._check_tag(node, "map")
        keys = [get_args(option)[0] for option in _options(wanted) if get_origin(option) is dict]
        found: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged += value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                continue
            key = self.value(key_node, keys[0] if keys else str if _is_section(wanted) else None)
            if not isinstance(key, Hashable):
                raise ConfigError(f"{self._line(key_node)}: a key must be a name or a number, got {key!r}")
            if key in lines:
                raise ConfigError(f"{self._line(key_node)}: the key {key!r} is given twice, first in line {lines[key]}")
            lines[key] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, inside(wanted, key))
        for under in merged:
            if not isinstance(under, yaml.MappingNode):
                raise ConfigError(f"{self._line(under)}: << takes in settings by name, or a list of these")
            found = {**self.value(under, wanted), **found}
        return found

    def _scalar(self, node: yaml.ScalarNode, wanted: Any) -> Any:
        kind = node.tag.removeprefix(_TAG)
        if kind in ("str", "merge"):
            return node.value
        if kind == "null":
            return _nothing(node.value, wanted)
        if kind not in _NUMBERS:
            self._check_tag(node, "str")
        try:
            value = _number(kind, node.value)
        except ValueError as error:
            raise ConfigError(f"{self._line(node)}: {node.value!r} is not of the type {kind}") from error
        if _wants_text(wanted, kind, value):
            return node.value
        return str(value) if _is_label(wanted) else value  # as Python names the truth values of a column

    def _check_tag(self, node: yaml.Node, allowed: str) -> None:
        if node.tag != _TAG + allowed:
            raise ConfigError(f"{self._line(node)}: the tag {node.tag!r} is not supported; leave it out")


def _options(wanted: Any) -> list[Any]:
    """The types of a union, out of whatever they are wrapped in."""
    origin = get_origin(wanted)
    if origin is Annotated:
        return [wanted] if LABEL in wanted.__metadata__ else _options(get_args(wanted)[0])
    if origin in (Union, UnionType):
        return [option for part in get_args(wanted) for option in _options(part)]
    return [wanted]


def _items(option: Any) -> list[Any]:
    """The type of the items of a list."""
    if isinstance(option, list):
        return option
    return [get_args(option)[0]] if get_origin(option) is list else []


def _is_section(wanted: Any) -> bool:
    return any(isinstance(option, Mapping) or _is_model(option) for option in _options(wanted))


def _is_model(option: Any) -> bool:
    return isinstance(option, type) and issubclass(option, BaseModel)


def _is_label(wanted: Any) -> bool:
    return any(get_origin(option) is Annotated for option in _options(wanted))


def _wants_text(wanted: Any, kind: str, value: Any) -> bool:
    options = [inner for option in _options(wanted) for item in _items(option) or [option] for inner in _options(item)]
    literals = [item for option in options if get_origin(option) is Literal for item in get_args(option)]
    if any(option in (None, Any, *_NUMBERS[kind]) for option in options) or any(
        type(item) is type(value) and item == value for item in literals
    ):
        return False
    if any(get_origin(option) is Annotated for option in options):
        return kind != "bool"
    return str in options or any(isinstance(item, str) for item in literals)


def _nothing(text: str, wanted: Any) -> Any:
    """A section with nothing below it is an empty section; ``null`` leaves out what may be left out."""
    options = _options(wanted)
    optional = NoneType in options
    if any(map(_is_model, options)) and not (optional and text):
        return {}
    if not optional and any(get_origin(option) is dict for option in options):
        return {}
    return [] if not optional and any(map(_items, options)) else None


def _number(kind: str, text: str) -> Any:
    if kind == "bool":
        return {"true": True, "false": False}[text.lower()]
    if kind == "float":
        return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
