"""Ray Tune's interfaces for a search and for news of trials, handed on to the sweep."""

from __future__ import annotations

from typing import Any, Protocol

from ray.tune import Callback
from ray.tune.search import Searcher


class Told(Protocol):
    def next(self, trial_id: str) -> dict[str, Any] | None: ...

    def complete(self, trial_id: str, result: dict[str, Any]) -> None: ...

    def fail(self, trial_id: str, error: Exception) -> None: ...


class Search(Searcher):
    """Ray saves searches beside its experiment; ours has its state in the run folder."""

    def __init__(self, sweep: Told):
        super().__init__()
        self.sweep = sweep

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        try:
            return self.sweep.next(trial_id)
        except StopIteration:
            return str(Searcher.FINISHED)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None: ...

    def save(self, checkpoint_path: str) -> None: ...

    def restore(self, checkpoint_path: str) -> None: ...

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None: ...


class Listener(Callback):
    def __init__(self, sweep: Told):
        self.sweep = sweep

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.sweep.complete(trial.trial_id, trial.last_result)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        error = trial.get_pickled_error() or trial.get_error() or RuntimeError("it ended without a word")
        self.sweep.fail(trial.trial_id, error)
