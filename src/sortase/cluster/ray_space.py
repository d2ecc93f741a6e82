"""Objects of Ray Tune's search spaces in our own words, so that every search draws from one kind of thing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from ..config.tune_space import Choices, Range, check_names, parse_space
from ..errors import ConfigError

ROUNDING = 1e-9


@dataclass(frozen=True)
class Sampled:
    """What only Ray can draw: a normal distribution, or a function of the other values (``sample_from``)."""

    domain: Any

    def draw(self, random: Random, others: Mapping[str, Any]) -> Any:
        seed = random.randrange(2**32)
        drawn = self.domain.sample(config=[dict(others)], size=1, random_state=seed)
        value = drawn[0] if isinstance(drawn, list) else drawn
        return value.item() if hasattr(value, "item") else value


Space = dict[str, Range | Choices | Sampled]


def read_space(space: Mapping[str, Any]) -> Space:
    """Plain data and Ray objects alike, names checked."""
    check_names(space)
    return {name: _converted(name, item) for name, item in parse_space(space).items()}


def draw(space: Space, seed: int, number: int) -> dict[str, Any]:
    """Hyperparameters of trial ``number``: the same whenever they are drawn, whatever else is in the space."""
    turns = 1
    drawn: dict[str, Any] = {}
    for name, item in space.items():
        random = Random(f"{seed}/{number}/{name}")
        if isinstance(item, Choices) and item.in_turn:
            drawn[name] = item.values[number // turns % len(item.values)]
            turns *= len(item.values)
        elif not isinstance(item, Sampled):
            drawn[name] = item.draw(random)
    for name, item in space.items():
        if isinstance(item, Sampled):
            drawn[name] = item.draw(Random(f"{seed}/{number}/{name}"), drawn)
    return {name: drawn[name] for name in space}


def _converted(name: str, item: Any) -> Range | Choices | Sampled:
    if isinstance(item, Range | Choices):
        return item
    from ray.tune.search.sample import Categorical, Domain, Float, Integer, LogUniform, Normal, Quantized

    if isinstance(item, Categorical):
        return Choices(tuple(item.categories))
    if not isinstance(item, Domain):
        raise ConfigError(f"{name}: {item!r} is not one of Ray Tune's search spaces")
    sampler = item.get_sampler()
    step = sampler.q if isinstance(sampler, Quantized) else None
    inner = sampler.get_sampler() if isinstance(sampler, Quantized) else sampler
    if not isinstance(item, Float | Integer) or isinstance(inner, Normal):
        return Sampled(item)
    return _range(item.lower, item.upper, isinstance(inner, LogUniform), step, isinstance(item, Integer))


def _range(low: float, high: float, log: bool, step: float | None, whole: bool) -> Range:
    """Ray leaves out the end of integers, but for steps above 1, which are multiples of themselves."""
    if step is not None and (step != 1 or not whole):
        kind = round if whole else float
        low, high = math.ceil(low / step - ROUNDING) * step, math.floor(high / step + ROUNDING) * step
        return Range(kind(low), kind(high), log, kind(step))
    return Range(int(low), int(high) - 1, log) if whole else Range(float(low), float(high), log)
