"""A search space as plain data: what is drawn for each hyperparameter.

Two numbers are a range, other lists are choices, and ``{"low", "high", "log", "step"}`` or ``{"choices"}`` say it
explicitly. Objects of Ray Tune pass through as they are; whoever runs the search knows how to draw from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from random import Random
from typing import Any

from ..errors import ConfigError
from .argument_translation import checked
from .check import validate
from .train import TrainSpec
from .training_arguments import TABLE
from .worlds import in_words

LOG_FROM = 10  # a positive range whose ends differ by this factor is drawn evenly in its logarithm
FREEZE = "freeze_layers"
_EXPLICIT = ("low", "high", "log", "step")


@dataclass(frozen=True)
class Range:
    """Both ends are included. Integers stay integers; ``step`` counts from ``low``."""

    low: float
    high: float
    log: bool
    step: float | None = None

    @property
    def whole(self) -> bool:
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 0))

    def draw(self, random: Random) -> float:
        if self.whole and not self.log:
            return random.randrange(int(self.low), int(self.high) + 1, int(self.step or 1))
        if not self.log:
            return self.fitted(random.uniform(self.low, self.high + (self.step or 0)), down=True)
        margin = 0.5 if self.whole else 0.0
        low, high = math.log(self.low - margin), math.log(self.high + margin)
        return self.fitted(math.exp(random.uniform(low, high)))

    def fitted(self, value: float, down: bool = False) -> float:
        """The nearest value (or the one below) that the range holds."""
        if step := self.step or (1 if self.whole else None):
            last = math.floor((self.high - self.low) / step + 1e-9)
            count = (value - self.low) / step
            count = min(max(0, math.floor(count) if down else round(count)), last)
            value = self.low + count * step
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else float(value)

    def plain(self) -> dict[str, Any]:
        found = {"low": self.low, "high": self.high, "log": self.log}
        return found if self.step is None else {**found, "step": self.step}


@dataclass(frozen=True)
class Choices:
    """``in_turn``: trial after trial takes the next one, instead of a random one."""

    values: tuple[Any, ...]
    in_turn: bool = False

    def draw(self, random: Random) -> Any:
        return random.choice(self.values)

    def plain(self) -> dict[str, Any]:
        return {"grid_search" if self.in_turn else "choices": list(self.values)}


def parse_space(space: Mapping[str, Any]) -> dict[str, Any]:
    """``Range`` or ``Choices`` by name; objects of Ray Tune as they are.

    Raises:
        ConfigError: something is neither, or its numbers do not make a range.
    """
    if not space:
        raise ConfigError("the search space is empty; name at least one hyperparameter")
    parsed = {str(name): _parse(str(name), value) for name, value in space.items()}
    for name, found in parsed.items():
        parsed[name] = _tried(name, found)
    return parsed


def is_foreign(value: Any) -> bool:
    """Whether this is an object of Ray Tune, told without importing Ray."""
    return type(value).__module__.split(".")[0] == "ray"


def _parse(name: str, value: Any) -> Any:
    if is_foreign(value):
        return value
    if isinstance(value, Mapping):
        return _explicit(name, value)
    if not isinstance(value, list | tuple):
        raise ConfigError(
            f"{name}: {value!r} is one value, not a list or range to search; a value that stays belongs among the "
            "training arguments"
        )
    if len(value) == 2 and all(_is_number(item) for item in value):
        return _range(name, *value)
    return _choices(name, value)


def _explicit(name: str, value: Mapping[str, Any]) -> Any:
    for key in ("choices", "grid_search"):
        if set(value) == {key}:
            if not isinstance(value[key], list | tuple):
                raise ConfigError(f"{name}: {key} must be a list, got {value[key]!r}")
            return _choices(name, value[key], in_turn=key == "grid_search")
    unknown = [key for key in value if key not in _EXPLICIT]
    if unknown:
        near = get_close_matches(str(unknown[0]), [*_EXPLICIT, "choices"], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{name}: unknown key {unknown[0]!r}, a range has {', '.join(_EXPLICIT)}{hint}")
    if not {"low", "high"} <= set(value):
        raise ConfigError(f"{name}: {dict(value)!r} must hold low and high, or choices")
    for key in ("low", "high", "step"):
        if not _is_number(value.get(key, 1)) and not (key == "step" and value[key] is None):
            raise ConfigError(f"{name}: {key} must be a number, got {value[key]!r}")
    if not isinstance(value.get("log", False), bool):
        raise ConfigError(f"{name}: log must be true or false, got {value['log']!r}")
    return _range(name, value["low"], value["high"], value.get("log"), value.get("step"))


def _range(name: str, low: float, high: float, log: bool | None = None, step: float | None = None) -> Range:
    """Without a word on it, a step makes the range even, and else its ends decide."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"{name}: a range from {low!r} to {high!r} has no end")
    if low >= high:
        raise ConfigError(f"{name}: the range must go up, {low!r} is not below {high!r}; one value is not a search")
    if log and low <= 0:
        raise ConfigError(f"{name}: a logarithmic range must begin above 0, got {low!r}")
    if step is not None and not 0 < step <= high - low:
        raise ConfigError(f"{name}: step must be above 0 and fit between {low!r} and {high!r}, got {step!r}")
    if log is None:
        log = step is None and low > 0 and high >= LOG_FROM * low
    if not all(isinstance(value, int) for value in (low, high, step or 0)):
        low, high = float(low), float(high)
    return Range(low, high, log, step)


def _choices(name: str, values: Any, in_turn: bool = False) -> Choices:
    if not values:
        raise ConfigError(f"{name}: there is nothing to choose from")
    return Choices(tuple(values), in_turn)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tried(name: str, found: Any) -> Any:
    """The same, with whole numbers where the hyperparameter takes them; each value that can be drawn is tried."""
    from .model import ModelSpec

    argument = TABLE.get(name)
    if argument is not None and argument.takes.whole:
        found = _whole(name, found)
    for value in _values(found):
        if name == FREEZE:
            validate(ModelSpec, {"config": {}, FREEZE: value}, "the search space")
        elif name in TrainSpec.model_fields:
            validate(TrainSpec, {name: value}, "the search space")
        elif argument is not None:
            try:
                checked(argument, int(value) if argument.takes.whole and _of_ray(found, value) else value, False)
            except ValueError as error:
                raise ConfigError(f"the search space: {error}") from error
    return found


def _whole(name: str, found: Any) -> Any:
    """A range of 1.0 to 4.0 is one of whole numbers; one of 1.5 to 4 has others in it."""
    if not isinstance(found, Range) or found.whole:
        return found
    ends = (found.low, found.high, found.step or 1)
    if any(end != int(end) for end in ends):
        raise ConfigError(f"{name}: takes whole numbers, and {found.plain()} holds others")
    return replace(
        found, low=int(found.low), high=int(found.high), step=None if found.step is None else int(found.step)
    )


def _values(found: Any) -> tuple[Any, ...]:
    """The ends of a range, and all choices; of Ray's objects the choices, and where they begin."""
    if isinstance(found, Range):
        return found.low, found.high
    if isinstance(found, Choices):
        return found.values
    low = getattr(found, "lower", None)
    begins = (low,) if isinstance(low, int | float) and math.isfinite(low) else ()
    return tuple(getattr(found, "categories", None) or begins)


def _of_ray(found: Any, value: Any) -> bool:
    """Whether a number is drawn by Ray, and made whole for the trial as Trainer does."""
    return not isinstance(found, Range | Choices) and _is_number(value)


def check_names(names: Any, python: bool = False) -> None:
    """Hyperparameters are training arguments with an effect, our training settings, ``seed``, and ``freeze_layers``.

    Raises:
        ConfigError: a name is unknown (with the nearest), or cannot be searched.
    """
    own = [name for name in TrainSpec.model_fields if name != "metric"]
    for name in names:
        if name == FREEZE or name in own:
            continue
        if name in ("metric", "metric_for_best_model", "greater_is_better"):
            compared = in_words("{tune.metric}", python)
            raise ConfigError(f"{name} cannot be searched: it is what trials are compared by ({compared})")
        argument = TABLE.get(name)
        if argument is None:
            near = get_close_matches(str(name), [*own, *TABLE, FREEZE], n=3)
            hint = f"did you mean {', '.join(near)}?" if near else "a training argument or freeze_layers is expected"
            raise ConfigError(f"{name!r} is not a hyperparameter that can be searched; {hint}")
        if argument.verdict != "honoured":
            raise ConfigError(f"{name} cannot be searched, it has no effect here: {in_words(argument.reason, python)}")
        setting = argument.setting or "train."
        if not setting.startswith("train.") and setting != "run.seed":
            raise ConfigError(f"{name} cannot be searched: it is {in_words(f'{{{setting}}}', python)} of all trials")
    if {"seed", "data_seed"} <= set(names):
        raise ConfigError("seed and data_seed are one seed here; search one of them")
