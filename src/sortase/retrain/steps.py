"""One retraining, from new data to a champion: every step finds what an earlier call has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import storage
from ..cluster.place import placed
from ..config.gate import GateSpec
from ..config.run import Config
from ..errors import CancelledError, ConflictError, GateError, InputError
from ..pipeline.attempts import attempted, refuse_again
from ..pipeline.drift import check, drift
from ..pipeline.profile import profile
from ..pipeline.run import run
from ..pipeline.run_folder import RunFolder
from ..pipeline.where import Where
from ..registry.models import Model
from ..registry.moves import move, rolled_back
from ..registry.names import CHALLENGER, CHAMPION
from ..registry.versions import Version
from .asked import asked_by
from .judging import judge_version, words_of
from .mirror import mirror
from .outcome import Outcome
from .plan import (
    Generation,
    folder_of,
    generation_of,
    keep_pins,
    model_named,
    rules_of,
    run_of,
    without_new_labels,
)
from .promotion import promote, undone_words
from .register import register

Say = Callable[[str], None]
Stop = Callable[[], bool]
ROUNDS = 5  # of judging again because the champion moved meanwhile


def retrain(
    config: Config,
    outcome: Outcome,
    *,
    generation: str | None = None,
    who: str | None = None,
    say: Say,
    should_stop: Stop,
) -> None:
    """Do what is still to do, and tell it in ``outcome``, also when an error ends it. ``generation``: the one that was
    submitted.

    Raises:
        GateError: the gate was not passed.
        InputError, ConfigError: new labels or drift beyond the limits, or a wrong setting.
        CancelledError: stopped on request; the same command continues.
    """
    rules = rules_of(config)
    storage.configure(config.storage)
    model = model_named(config)
    with storage.impatiently():
        champion = model.champion
        wanted = generation_of(config, champion)
    outcome.champion, outcome.news = champion.name if champion else None, wanted.news()
    if generation is not None and generation != wanted.name:
        raise InputError(
            f"data, settings or champion changed since this was submitted (generation {generation}, by now "
            f"{wanted.name}); submit it again"
        )
    if outcome.news is None:
        outcome.state, outcome.words = "nothing", f"nothing to do: {outcome.champion} was made from these data"
        say(f"retrain: {outcome.words}")
        return
    say(f"retrain: {outcome.news}; this is generation {wanted.name}")
    own = run_of(config, wanted)
    folder = folder_of(own)
    outcome.run = folder.url
    asked = asked_by(folder, who)
    with storage.impatiently():
        refuse_again(folder.url)
    with attempted(folder.url, own.storage), placed(own.compute, always=own.tune is not None) as where:
        version = _made(own, wanted, folder, model, asked, outcome, where, say, should_stop)
        if should_stop():
            raise CancelledError(f"stopped before {version.name} was judged; the same command continues there")
        _decide(own, rules, model, version, asked, outcome, where, say)


def _made(
    config: Config,
    generation: Generation,
    folder: RunFolder,
    model: Model,
    asked: dict[str, str],
    outcome: Outcome,
    where: Where,
    say: Say,
    should_stop: Stop,
) -> Version:
    """The run, finished and registered."""
    champion = generation.champion
    keep_pins(config, champion)
    told = {
        "generation": generation.name,
        "data": generation.data,
        "settings": generation.settings,
        "champion": champion and champion.name,
        "parent": generation.parent,
    }

    def stages(only: str | None = None) -> None:
        run(config, only=only, say=say, should_stop=should_stop, where=where)
        folder.describe(retrain=told)

    if config.tokenize is not None:
        stages("tokenize")
    dataset = config.data.dataset or folder.path("data", "tokenized.dataset")
    config = without_new_labels(config, dataset, say)
    stages("prepare")
    if champion is not None:
        outcome.drift = _drift(config, champion, folder, say)
    stages()
    version = register(folder, model.url, asked)
    outcome.version = version.name
    say(f"retrain: {folder.url} is version {version.name} of {model.name}")
    mirror(config.registry.mlflow, model, version, say=say)
    return version


def _drift(config: Config, champion: Version, folder: RunFolder, say: Say) -> dict[str, Any]:
    found = drift(storage.read_json(champion.path("profile.json")), profile(folder), config.retrain.drift)
    told: dict[str, Any] = found.as_json()
    storage.write_json(folder.path("drift.json"), told)
    say(found.table())
    check(found, config.retrain.drift)
    return told


def _decide(
    config: Config,
    rules: GateSpec,
    model: Model,
    version: Version,
    asked: dict[str, str],
    outcome: Outcome,
    where: Where,
    say: Say,
) -> None:
    """Judge, and promote what passes; once more where the champion moved in between."""
    for _ in range(ROUNDS):
        champion = model.champion
        if champion is not None and champion.name == version.name:
            outcome.state, outcome.words = "promoted", f"{version.name} is the champion"
            return
        undone = rolled_back(model.url, CHAMPION, version.name)
        if undone is not None:
            outcome.state = "waiting"
            outcome.words = f"nothing to do: {version.name}, made from these data, {undone_words(undone)}"
            say(f"retrain: {outcome.words}")
            return
        move(model.url, CHALLENGER, version.name, kind="set", asked=asked)
        verdict, url = judge_version(model, version, champion, config, rules, where, say)
        outcome.verdict, outcome.verdict_url = verdict, url
        if not verdict["passed"]:
            outcome.state, outcome.words = "refused", f"{version.name} did not pass the gate: {words_of(verdict)}"
            raise GateError(outcome.words)
        if not config.retrain.promote:
            outcome.state = "waiting"
            outcome.words = (
                f"{version.name} passed the gate; promote it with `sortase promote {model.name}@{version.name}`"
            )
            say(f"retrain: {outcome.words}")
            return
        try:
            moved = promote(model, version, asked=asked, expected=champion.name if champion else None)
        except ConflictError as error:
            say(f"retrain: {error}")
            continue
        mirror(config.registry.mlflow, model, version, alias=CHAMPION, say=say)
        outcome.state, outcome.moved = "promoted", moved.record
        outcome.words = (
            f"{version.name} is the champion{' after ' + moved.before if moved.before else ', the first one'}"
        )
        say(f"retrain: {outcome.words}")
        return
    raise ConflictError(f"the champion of {model.url} moved {ROUNDS} times while {version.name} was judged; try again")
