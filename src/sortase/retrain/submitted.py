"""A retraining as one job on a cluster: data are listed from here, and read there."""

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
from ..errors import ConfigError, WorkFailedError
from ..registry.moves import last
from ..registry.names import CHAMPION
from ..runs.folder import digest
from ..types import Log
from . import summary
from .outcome import Outcome
from .plan import RetrainPlan, folder_of, held_back, nothing_words, plan_of, run_of
from .preflight import foresee
from .requester import ask

ATTEMPTS = 100
AGAIN = (1, 3, 4, 5)  # exit codes after which another attempt may succeed


def submit(
    config: Config,
    settings: dict[str, Any],
    outcome: Outcome,
    options: argparse.Namespace,
    log: Log,
    should_stop: Callable[[], bool],
) -> None:
    """Look whether there is anything new, from here; then run ``sortase retrain`` there and wait for its end.

    A job of the same generation is attached to while it works; one that was cancelled, or failed for a reason that may
    have passed, is followed by another attempt. A job that ended is asked again only when the champion has moved since,
    or another evaluation set lies where it was.
    """
    if not config.registry.url:
        raise ConfigError("registry.url is not in the configuration; the job on the cluster needs it there")
    due = plan_of(config, outcome)
    config, champion = due.config, due.generation.champion
    if champion is not None and outcome.news is None:
        outcome.state, outcome.words = "nothing", nothing_words(champion)
        log(f"retrain: {outcome.words}")
        return
    if held_back(due, outcome, log):
        return
    own = run_of(config, due.generation)
    foresee(own, due.rules, due.model, champion)
    folder = folder_of(own)
    outcome.run = folder.url
    written = {
        **settings,
        "run": {**settings["run"], "name": own.run.name},
        "model": {**settings["model"], **({"checkpoint": config.model.checkpoint} if config.model.checkpoint else {})},
        "registry": {**(settings.get("registry") or {}), "name": due.model.name},
    }
    arguments = ("--generation", due.generation.name, "--against", _against(due))
    first = Submission(config.model_copy(update={"run": own.run}), written, "retrain", arguments)
    first.require_reachable_paths()
    target = _attempt(first, options)
    if target.backend.state(target.name).phase == "absent":
        ask(folder, options.who)
    made = target.submit()
    log(f"{target.place}: {'submitted' if made else 'was submitted before; attached to it'}")
    try:
        state = follow(target, options, "the same command", should_stop, log)
        if not made and state.is_over and state.exit_code == ConfigError.exit_code:
            log(f"this attempt is over; --attempt {target.submission.attempt + 1} starts another one")
        end_as(state, target)
    finally:
        summary.learn(outcome, folder, target.name, log)
    if outcome.state in ("cancelled", "failed"):
        raise WorkFailedError(f"{target.place} succeeded, but left no word of what it did in {folder.url}")


def _is_followed(submission: Submission, number: int, options: argparse.Namespace) -> bool:
    target = target_for(replace(submission, attempt=number + 1), options)
    return bool(target.backend.state(target.name).phase != "absent")


def _against(due: RetrainPlan) -> str:
    """What a job's verdict depends on beside the generation: that the champion has not moved, and the frozen set."""
    moved = last(due.model.url, CHAMPION)
    frozen = storage.fingerprint(due.rules.dataset) if due.rules.dataset else None
    return digest([moved and moved["number"], frozen])[:8]


def _attempt(submission: Submission, options: argparse.Namespace) -> Target:
    """The first attempt that is not over, or whose end is final and not followed by one that was asked for; or the one
    that is asked for now."""
    if options.attempt:
        return target_for(replace(submission, attempt=options.attempt), options)
    for number in range(1, ATTEMPTS):
        target = target_for(replace(submission, attempt=number), options)
        state = target.backend.state(target.name)
        if not state.is_over or (state.exit_code not in AGAIN and not _is_followed(submission, number, options)):
            return target
    raise ConfigError(
        f"{ATTEMPTS} attempts at {submission.config.run.name} have failed; look at {submission.folder.url}/logs"
    )
