"""The arguments of the public API: each is checked before anything else happens, under the name that the caller wrote.

A check takes the argument's name and value, and gives back the value in the form that the code behind expects: a path
as text, a NumPy integer as an ``int``. What looks wrong but has one clear meaning passes.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import re
from collections.abc import Callable, Iterator, Mapping, ValuesView
from contextlib import ExitStack, contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from functools import wraps
from inspect import signature
from pathlib import Path
from reprlib import Repr
from typing import Any, ParamSpec, TypeVar

import numpy as np

from . import storage
from .caller_state import preserved
from .config.gene_lists import OVERLAPS, Overlap, check_overlap, gene_lists
from .config.train import DEFAULTS, TrainSpec
from .errors import InputError, InputTypeError, SortaseError
from .storage.local import naming_faults

Check = Callable[[str, Any], Any]
P = ParamSpec("P")
R = TypeVar("R")

LARGEST = 2**31 - 1
CAP = 2**63 - 1
SEED = 2**32 - 1
LONGEST_NAME = 255  # bytes, in all file systems
LONGEST_PREFIX = 200  # suffixes follow
MODEL_FOLDERS = ("final_model", "best_model")
_VALUES = (str, bytes, numbers.Number, np.generic, Decimal, date, time, timedelta, type(None))
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80
_SHORT.maxlist = _SHORT.maxtuple = _SHORT.maxset = _SHORT.maxdict = 4

CALLED = {
    **{f"data.{name}": name for name in ("rare_threshold", "max_examples", "max_examples_per_class", "nproc")},
    "data.filter": "filter_data",
    "evaluate.batch_size": "forward_batch_size",
    "labels.column": "metadata_column",
    "labels.gene_class_dict": "gene_class_dict",
    "labels.mapping": "label_mapping",
    "labels.task": "classifier_type",
    "labels.vocabulary": "token_dictionary_file",
    "model.checkpoint": "model_checkpoint",
    "model.config": "model_config",
    "model.freeze_layers": "freeze_layers",
    "model.tokenizer": "tokenizer_name_or_path",
    "run.seed": "seed",
    "split.test_size": "test_size",
    "tune.space": "ray_config",
    "tune.trials": "n_trials",
    **{f"train.{name}": f"training_args.{name}" for name in (*TrainSpec.model_fields, *DEFAULTS)},
}
_SETTING = re.compile(r"(?<![\w./'-])(?:" + "|".join(map(re.escape, sorted(CALLED, reverse=True))) + r")(?![\w/]|\.\w)")


def public(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A function of the public API: its arguments are checked first, and the caller's process stays as it was.
    Where it fails, no empty folder is left behind.

    Errors from further inside name settings as run.yaml has them; they leave with the names of arguments.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        parameters = signature(function)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = parameters.bind(*args, **kwargs)
            with ExitStack() as around:
                around.enter_context(preserved())
                around.enter_context(as_in_python())
                for name, check in checks.items():
                    if name in bound.arguments:
                        bound.arguments[name] = check(name, bound.arguments[name])
                        if check is folder:
                            around.enter_context(storage.without_empty_folders(bound.arguments[name]))
                return function(*bound.args, **bound.kwargs)

        call.checks = checks  # type: ignore[attr-defined]
        return call

    return decorate


@contextmanager
def as_in_python() -> Iterator[None]:
    """Errors inside leave with the names that settings have in Python."""
    try:
        yield
    except SortaseError as error:
        error.args = tuple(as_called(part) if isinstance(part, str) else part for part in error.args)
        raise


def as_called(message: str) -> str:
    """The text with the names that settings have in Python."""
    return _SETTING.sub(lambda found: CALLED[found[0]], message)


@contextmanager
def naming(name: str, *, instead_of: str | None = None) -> Iterator[None]:
    """Errors inside are about this argument, and say so. ``instead_of``: only those that would name another one."""
    try:
        yield
    except SortaseError as error:
        message = str(error.args[0]) if error.args else ""
        if instead_of is not None:
            error.args = (re.sub(rf"\b{re.escape(instead_of)}\b", name, message), *error.args[1:])
        elif not re.search(rf"\b{re.escape(name)}\b", message):
            error.args = (f"{name}: {message}", *error.args[1:])
        raise


def shown(value: Any) -> str:
    """The value in at most a line."""
    try:
        text = " ".join(_SHORT.repr(value).split())
    except ValueError:  # an integer of more digits than Python writes
        return f"an integer of {value.bit_length():,} bits" if isinstance(value, int) else type(value).__name__
    return f"{type(value).__name__} {text[:80]}..." if len(text) > 120 else text


def _wrong_kind(name: str, value: Any, allowed: str) -> InputTypeError:
    return InputTypeError(f"{name} must be {allowed}, got {shown(value)} ({type(value).__name__})")


def _wrong_value(name: str, value: Any, allowed: str) -> InputError:
    return InputError(f"{name} must be {allowed}, got {shown(value)}")


def anything(name: str, value: Any) -> Any:
    """An argument without effect, or one that the function itself checks."""
    return value


def optional(check: Check, *, or_empty: bool = False) -> Check:
    """None stays None; ``or_empty``: empty text becomes None too."""

    def look(name: str, value: Any) -> Any:
        none = value is None or (or_empty and isinstance(value, str) and not value)
        return None if none else check(name, value)

    return look


def text(name: str, value: Any) -> str:
    """Text, also empty."""
    if not isinstance(value, str):
        raise _wrong_kind(name, value, "text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _wrong_value(name, value, "text of whole characters") from error
    return str(value)


def word(name: str, value: Any) -> str:
    """Text that names something: a column, a token."""
    given = text(name, value)
    if not given.strip():
        raise _wrong_value(name, value, "text that is not empty")
    return given


def path(name: str, value: Any) -> str:
    """A local path (also a ``pathlib.Path``), a URL, or the name of something on a hub; what is here comes back as an
    absolute path, which means the same to processes in other folders."""
    allowed = "a path or URL"
    if not isinstance(value, str | os.PathLike) or not isinstance(plain := os.fspath(value), str):
        raise _wrong_kind(name, value, allowed)
    if not plain.strip() or _CONTROL.search(plain):
        raise _wrong_value(name, value, f"{allowed}, not empty and without control characters")
    try:
        longest = max(len(part) for part in os.fsencode(plain).split(b"/"))
    except UnicodeEncodeError as error:
        raise _wrong_value(name, value, f"{allowed} of whole characters") from error
    if longest > LONGEST_NAME:
        raise _wrong_value(name, value, f"{allowed} in which no name is longer than {LONGEST_NAME} bytes")
    with naming(name), naming_faults("look for", Path(plain)):
        return storage.located(plain)


def model(name: str, value: Any) -> str:
    """Where a model is, or its name. stFormer saves a trained model in folders of ``MODEL_FOLDERS`` below the output;
    here it lies in the output itself, which is meant where such a folder is named and does not exist."""
    url = path(name, value)
    parent, _, last = url.rstrip("/").rpartition("/")
    with naming(name):
        if (
            last in MODEL_FOLDERS
            and not storage.exists(url)
            and storage.exists(storage.join(parent or ".", "config.json"))
        ):
            return storage.located(parent or ".")
    return url


def existing(name: str, value: Any) -> str:
    """A path or URL at which there is something."""
    url = path(name, value)
    with naming(name):
        if not storage.exists(url):
            storage.fetch(url)  # raises, and says what is near it
    return url


def folder(name: str, value: Any) -> str:
    """A folder or URL that is there, or can be made."""
    url = storage.absolute(path(name, value))
    if not storage.is_remote(url):
        local = storage.local_path(url)
        with naming(name), naming_faults("look for", local):
            there = next(place for place in (local, *local.parents) if place.exists())
            if not there.is_dir():
                raise _wrong_value(name, value, f"a folder; {there} is a file")
    return url


def prefix(name: str, value: Any) -> str:
    """What file names begin with: one plain name, which leads into no other folder."""
    allowed = "the beginning of a file name: no '/' or '\\', no '.' at its start, no control characters"
    given = word(name, value)
    if _CONTROL.search(given) or re.search(r"[/\\]", given) or given.startswith("."):
        raise _wrong_value(name, value, allowed)
    if len(given.encode(errors="replace")) > LONGEST_PREFIX:
        raise _wrong_value(name, value, f"at most {LONGEST_PREFIX} bytes long")
    return given


def _number(name: str, value: Any, allowed: str) -> int | float:
    """Python's number for any of its kind; a truth value is none."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        raise _wrong_kind(name, value, allowed)
    try:
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    except OverflowError as error:
        raise _wrong_value(name, value, allowed) from error


def count(least: int = 0, most: int = LARGEST) -> Check:
    """A whole number; 1e5 is one as well."""

    def look(name: str, value: Any) -> int:
        allowed = f"a whole number from {least} to {most:,}"
        given = _number(name, value, allowed)
        whole = isinstance(given, int) or (math.isfinite(given) and given.is_integer())
        if not whole or not least <= given <= most:
            raise _wrong_value(name, value, allowed)
        return int(given)

    return look


def fraction(most: float = 1.0, *, below: bool = False) -> Check:
    """A number from 0 to ``most``; ``below``: less than it."""

    def look(name: str, value: Any) -> float:
        allowed = f"a number from 0 to {'below ' if below else ''}{most:g}"
        given = _number(name, value, allowed)
        if not 0 <= given <= most or (below and given == most):
            raise _wrong_value(name, value, allowed)
        return float(given)

    return look


def flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _wrong_kind(name, value, "True or False")
    return bool(value)


def choice(*allowed: str) -> Check:
    def look(name: str, value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong_kind(name, value, f"one of {', '.join(map(repr, allowed))}")
        if value not in allowed:
            raise _wrong_value(name, value, f"one of {', '.join(map(repr, allowed))}")
        return str(value)

    return look


def mapping(name: str, value: Any) -> dict[Any, Any]:
    """A dict, or what behaves like one."""
    if not isinstance(value, Mapping):
        raise _wrong_kind(name, value, "a dict")
    return dict(value)


def settings(name: str, value: Any) -> dict[str, Any]:
    """Settings by name."""
    given = mapping(name, value)
    if unnamed := [key for key in given if not isinstance(key, str)]:
        raise InputTypeError(f"{name} must have names as keys, got {shown(unnamed[0])}")
    return given


def plain_settings(name: str, value: Any) -> dict[str, Any]:
    """Settings that can be written down."""
    given = settings(name, value)
    try:
        json.dumps(given)
    except (TypeError, ValueError) as error:
        raise InputTypeError(f"{name} must hold text, numbers, lists and dicts, got {shown(value)}: {error}") from error
    return given


def items(name: str, value: Any) -> list[Any]:
    """What has an order of its own: a list, tuple, array, series or column."""
    ordered = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    if not ordered or isinstance(value, str | bytes | bytearray | Mapping | type):
        raise _wrong_kind(name, value, "a list, a tuple or an array")
    if getattr(value, "ndim", 1) != 1:
        raise _wrong_value(name, value, "a list or an array of one dimension")
    return list(value.tolist() if hasattr(value, "detach") else value)


def nested(name: str, value: Any) -> list[list[Any]]:
    """A list of lists."""
    outer = list(value) if isinstance(value, Iterator | ValuesView) else items(name, value)
    return [items(f"{name}[{number}]", inner) for number, inner in enumerate(outer)]


def names(name: str, value: Any) -> list[str]:
    """Different names, in an order."""
    given = items(name, value)
    if wrong := [entry for entry in given if not isinstance(entry, str | numbers.Integral) or isinstance(entry, bool)]:
        raise InputTypeError(f"{name} must be a list of names, got {shown(wrong[0])} in it")
    listed = [str(entry) for entry in given]
    if not listed or len(set(listed)) != len(listed):
        raise _wrong_value(name, value, "a list that has each class once")
    return listed


def filters(name: str, value: Any) -> dict[str, Any]:
    """Column to a value, or to a collection of values."""
    given = settings(name, value)
    for column, wanted in given.items():
        inner = f"{name}[{column!r}]"
        unordered = isinstance(wanted, set | frozenset | range)
        several = unordered or (hasattr(wanted, "__len__") and not isinstance(wanted, str | bytes | Mapping | type))
        for entry in [wanted] if not several else sorted(wanted, key=repr) if unordered else items(inner, wanted):
            if not isinstance(entry, _VALUES):
                raise _wrong_kind(inner, entry, "a value or a list of values: text, numbers, booleans, dates or None")
        if several and not len(wanted):
            raise _wrong_value(inner, wanted, "a value or a list of values that is not empty")
    return given


def classes(name: str, value: Any) -> dict[str, list[str]]:
    """Class name to its tokens, in any collection."""
    given = mapping(name, value)
    if not given:
        raise _wrong_value(name, value, "a dict of class names and their tokens, with at least one class")
    try:
        return gene_lists(given, name)
    except ValueError as error:
        raise InputTypeError(str(error)) from error


def overlap(name: str, value: Any) -> Overlap:
    """What becomes of a token in several classes."""
    if not isinstance(value, str):
        raise _wrong_kind(name, value, f"one of {', '.join(map(repr, OVERLAPS))}")
    try:
        return check_overlap(value)
    except ValueError as error:
        raise InputError(str(error)) from error


def classes_or_path(name: str, value: Any) -> dict[str, list[str]] | str:
    """Classes, or the file that holds them."""
    if isinstance(value, Mapping):
        return classes(name, value)
    if isinstance(value, str | os.PathLike):
        return path(name, value)
    raise _wrong_kind(name, value, "a dict of class names and their tokens, or the path of a file with them")


def dataset(name: str, value: Any, allowed: str = "a datasets.Dataset") -> Any:
    """A ``datasets.Dataset``, perhaps without rows."""
    from datasets import Dataset, DatasetDict

    if isinstance(value, DatasetDict):
        raise InputTypeError(f"{name} must be {allowed}, got a DatasetDict; give one of its splits {sorted(value)}")
    if not isinstance(value, Dataset):
        raise _wrong_kind(name, value, allowed)
    return value


def dataset_or_path(name: str, value: Any) -> Any:
    """A ``datasets.Dataset`` with rows, or where one is."""
    if isinstance(value, str | os.PathLike):
        return existing(name, value)
    if not len(dataset(name, value, "a path, a URL or a datasets.Dataset")):
        raise InputError(f"{name} must have rows, got a Dataset of none")
    return value
