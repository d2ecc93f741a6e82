"""Ray Tune's interfaces for a search and for news of trials, handed on to the sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from ray import cloudpickle
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
        self.sweep.fail(trial.trial_id, _error_of(trial))


def _error_of(trial: Any) -> Exception:
    """From the driver's own disk: Ray copies it to its storage only later."""
    path = trial.pickled_error_file
    if path is not None and Path(path).exists():
        error = cloudpickle.loads(Path(path).read_bytes())
        if isinstance(error, Exception):
            return error
    return RuntimeError("it ended without a word")
