"""Which hyperparameters a trial gets: drawn at random, or from what Optuna learnt of the trials before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ..config.tune_space import Choices, Range
from ..errors import ConfigError, MissingExtraError
from .ray_space import Space, draw


class Proposals(Protocol):
    def propose(self, number: int) -> dict[str, Any]:
        """Hyperparameters of a trial that has none yet."""

    def learn(self, number: int, parameters: Mapping[str, Any], metric: float | None) -> None:
        """What became of a trial, of this attempt or an earlier one; None when it failed."""


class AtRandom:
    """Trial by trial the same for the same seed, however often the sweep is interrupted or made longer."""

    def __init__(self, space: Space, seed: int):
        self.space, self.seed = space, seed

    def propose(self, number: int) -> dict[str, Any]:
        return draw(self.space, self.seed, number)

    def learn(self, number: int, parameters: Mapping[str, Any], metric: float | None) -> None: ...


class ByOptuna:
    """Tree-structured Parzen estimators. Steps are left to our ranges, and choices go by their place, since Optuna
    has no logarithmic steps and takes only plain values for choices."""

    def __init__(self, space: Space, seed: int, mode: str, known: int):
        try:
            import optuna
        except ImportError as error:
            raise MissingExtraError(
                "tune.search optuna needs the extra 'ray': pip install 'sortase[ray]', or tune.search: random"
            ) from error
        unknown = [name for name, item in space.items() if not isinstance(item, Range | Choices)]
        if unknown:
            raise ConfigError(
                f"{unknown[0]}: Optuna cannot learn from a normal distribution or a function; "
                "give a range or choices, or use tune.search: random"
            )
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space = space
        self.optuna = optuna
        self.distributions = {name: self._distribution(item) for name, item in space.items()}
        sampler = optuna.samplers.TPESampler(seed=seed + known, n_startup_trials=max(4, min(10, 2 * len(space))))
        directions = optuna.study.StudyDirection
        direction = directions.MINIMIZE if mode == "min" else directions.MAXIMIZE
        self.study = optuna.create_study(sampler=sampler, direction=direction)
        self.asked: dict[int, Any] = {}

    def _distribution(self, item: Any) -> Any:
        kinds = self.optuna.distributions
        if isinstance(item, Choices):
            return kinds.CategoricalDistribution(tuple(range(len(item.values))))
        kind = kinds.IntDistribution if item.whole else kinds.FloatDistribution
        return kind(item.low, item.high, log=item.log)

    def propose(self, number: int) -> dict[str, Any]:
        self.asked[number] = self.study.ask(self.distributions)
        return {name: self._value(name, value) for name, value in self.asked[number].params.items()}

    def _value(self, name: str, value: Any) -> Any:
        item = self.space[name]
        return item.values[value] if isinstance(item, Choices) else item.fitted(value)  # type: ignore[union-attr]

    def learn(self, number: int, parameters: Mapping[str, Any], metric: float | None) -> None:
        states = self.optuna.trial.TrialState
        state = states.FAIL if metric is None else states.COMPLETE
        if number in self.asked:
            self.study.tell(self.asked.pop(number), metric, state)
            return
        plain = {name: self._place(name, parameters[name]) for name in self.space}
        earlier = self.optuna.trial.create_trial(
            state=state, value=metric, params=plain, distributions=self.distributions
        )
        self.study.add_trial(earlier)

    def _place(self, name: str, value: Any) -> Any:
        item = self.space[name]
        return list(item.values).index(value) if isinstance(item, Choices) else value


def proposals(search: str, space: Space, seed: int, mode: str, known: int) -> Proposals:
    """``known``: trials that have their hyperparameters already; Optuna's next draws differ from theirs."""
    return ByOptuna(space, seed, mode, known) if search == "optuna" else AtRandom(space, seed)
