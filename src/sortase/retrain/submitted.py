"""A retraining as one job on a cluster: the data never come to the machine that asks for it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from .. import storage
from ..config.run import Config
from ..deploy.commands import end_as, follow
from ..deploy.submission import Submission
from ..deploy.targets import Target, target_for
from ..errors import ConfigError
from ..pipeline.run_folder import RunFolder
from . import summary
from .asked import ask
from .outcome import Outcome
from .plan import folder_of, generation_of, model_named, rules_of, run_of

Say = Callable[[str], None]
ATTEMPTS = 100
AGAIN = (1, 3, 4, 5)  # exit codes after which another attempt may succeed


def submit(
    config: Config,
    settings: dict[str, Any],
    outcome: Outcome,
    options: argparse.Namespace,
    say: Say,
    should_stop: Callable[[], bool],
) -> None:
    """Look whether there is anything new, from here; then run ``sortase retrain`` there and wait for its end.

    A job of the same generation is attached to while it works; one that was cancelled, or failed for a reason that may
    have passed, is followed by another attempt.
    """
    rules_of(config)
    storage.configure(config.storage)
    model = model_named(config)
    if not config.registry.url:
        raise ConfigError("registry.url is not in the configuration; the job on the cluster needs it there")
    with storage.impatiently():
        champion = model.champion
        generation = generation_of(config, champion)
    outcome.champion, outcome.news = champion.name if champion else None, generation.news()
    if outcome.news is None:
        outcome.state, outcome.words = "nothing", f"nothing to do: {outcome.champion} was made from these data"
        say(f"retrain: {outcome.words}")
        return
    own = run_of(config, generation)
    folder = folder_of(own)
    outcome.run = folder.url
    written = {
        **settings,
        "run": {**settings["run"], "name": own.run.name},
        "registry": {**(settings.get("registry") or {}), "name": model.name},
    }
    named = config.model_copy(update={"run": own.run})
    first = Submission(named, written, "retrain", ("--generation", generation.name))
    target = _attempt(first, options)
    ask(folder, options.who)
    try:
        made = target.submit()
        say(f"{target.place}: {'submitted' if made else 'was submitted before; attached to it'}")
        end_as(follow(target, options, "the same command", should_stop, say), target)
    finally:
        _learn(outcome, folder)


def _attempt(submission: Submission, options: argparse.Namespace) -> Target:
    """The first attempt that is not over, or whose end is final."""
    for number in range(1, ATTEMPTS):
        target = target_for(replace(submission, attempt=number), options)
        state = target.backend.state(target.name)
        if not state.is_over or state.exit_code not in AGAIN:
            return target
    raise ConfigError(
        f"{ATTEMPTS} attempts at {submission.config.run.name} have failed; look at {submission.folder.url}/logs"
    )


def _learn(outcome: Outcome, folder: RunFolder) -> None:
    """What the job wrote down."""
    told = summary.read(folder)
    if told is not None:
        outcome.__dict__.update({**told.__dict__, "model": outcome.model})
