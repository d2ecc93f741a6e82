"""Names of arguments under which the field's notebooks pass them (stFormer's and Geneformer's ``input_data_file``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

from ..errors import ConfigError, SortaseError

P = ParamSpec("P")
R = TypeVar("R")


def accepts_former_names(**former: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a function take keyword arguments by other names too; ``former`` maps these to its own names.

    Calls raise ConfigError when an argument comes under both names. Other errors name it as the caller did.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        positions = list(signature(function).parameters)

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            used = {old: new for old, new in former.items() if old in kwargs}
            for old, new in used.items():
                if new in kwargs or positions.index(new) < len(args):
                    raise ConfigError(f"{new} and {old} are two names of one argument; give one of them")
                kwargs[new] = kwargs.pop(old)
            try:
                return function(*args, **kwargs)
            except SortaseError as error:
                for old, new in used.items():
                    error.args = tuple(re.sub(rf"\b{new}\b", old, str(part)) for part in error.args)
                raise

        return call

    return decorate
