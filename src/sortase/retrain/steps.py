"""One retraining, from new data to a champion: every step finds what an earlier call has done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from .. import __version__, storage
from ..cluster.executor import executor_for
from ..config.run import Config
from ..drift.drift import check, drift
from ..drift.profile import profile
from ..errors import CancelledError, ConflictError, GateError
from ..gate.promotion import promote
from ..gate.verdict import words_of
from ..pipeline.executor import Executor
from ..pipeline.run import run
from ..registry.mirror import mirror, require
from ..registry.moves import last, move, table
from ..registry.names import CHALLENGER, CHAMPION
from ..registry.versions import Version
from ..runs.attempts import attempted, refuse_again, submission_name
from ..runs.folder import RunFolder
from ..runs.stop import listening
from ..stopping import heeding
from ..types import Log
from . import summary
from .generation import data_fingerprint
from .judging import judge_version
from .outcome import Outcome
from .plan import RetrainPlan, folder_of, held_back, keep_pins, new_labels, nothing_words, plan_of, run_of, without
from .preflight import foresee, foresee_rows
from .register import register
from .requester import asked_by

Stop = Callable[[], bool]
ROUNDS = 5  # of judging again because the champion moved meanwhile


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A generation that is worked on: ``due``, in its own run, whose ``config`` and ``folder`` these are. ``asked``: by
    whom."""

    due: RetrainPlan
    config: Config
    folder: RunFolder
    asked: dict[str, str]
    outcome: Outcome
    executor: Executor
    log: Log
    should_stop: Stop


def retrain(
    config: Config,
    outcome: Outcome,
    *,
    generation: str | None = None,
    who: str | None = None,
    log: Log,
    should_stop: Stop,
) -> None:
    """Do what is still to do, and tell it in ``outcome``, also when an error ends it. ``generation``: the one that was
    submitted, whose job this is.

    Raises:
        GateError: the gate was not passed.
        InputError, ConfigError: new labels or drift beyond the limits, an unfair comparison, or a wrong setting.
        ConflictError: data or champion changed meanwhile.
        CancelledError: stopped on request; the same command continues.
    """
    due = plan_of(config, outcome)
    wanted, champion = due.generation, due.generation.champion
    if champion is not None and outcome.news is None:
        _nothing(due, champion, outcome, generation is not None, log)
        return
    if held_back(due, outcome, log):
        return
    if generation is not None and generation != wanted.name:
        raise ConflictError(
            f"data, settings or champion changed since this was submitted (generation {generation}, by now "
            f"{wanted.name}), or another sortase than {__version__} of this image did; submit it again"
        )
    log(f"retrain: {outcome.news}; this is generation {wanted.name}")
    require(config.registry.mlflow)
    own = run_of(due.config, wanted)
    foresee(own, due.rules, due.model, champion)
    if champion is not None:
        champion.verify()
    folder = folder_of(own)
    asked = asked_by(folder, who)
    with storage.impatiently():
        refuse_again(folder.url)
    outcome.run, outcome.submission = folder.url, submission_name()
    wish = threading.Event()

    def stops() -> bool:
        return wish.is_set() or should_stop()

    with (
        attempted(folder.url, own.storage) as attempt,
        executor_for(own.compute, always=own.tune is not None) as executor,
        listening(attempt.folder, wish, log),
        summary.kept(outcome, attempt.folder, log),
        heeding(stops, f"stopped in generation {wanted.name}; the same command continues it"),
    ):
        current = Retraining(
            due=due,
            config=own,
            folder=attempt.folder,
            asked=asked,
            outcome=outcome,
            executor=executor,
            log=log,
            should_stop=stops,
        )
        _decide(current, _made(current))


def _nothing(due: RetrainPlan, champion: Version, outcome: Outcome, in_job: bool, log: Log) -> None:
    """The champion was made from these data. In the job that was submitted to make it, that is its success: it died
    before it could say so."""
    mirror(due.config.registry.mlflow, due.model, champion, alias=CHAMPION, log=log)
    folder = folder_of(due.config)
    outcome.state, outcome.words = "nothing", nothing_words(champion)
    if in_job and champion.record["run"] == folder.url:
        moved = last(due.model.url, CHAMPION) or {}
        outcome.state, outcome.words = "promoted", f"{champion.name} is the champion"
        outcome.version, outcome.baseline = champion.name, champion.record["baseline"]
        outcome.moved, outcome.champion = moved, moved.get("before")
        outcome.drift, outcome.verdict_url = folder.read("drift.json"), moved.get("gate")
        outcome.verdict = storage.read_json(outcome.verdict_url) if outcome.verdict_url else None
    if in_job:
        outcome.run, outcome.submission = folder.url, submission_name()
        summary.keep(outcome, folder)
    log(f"retrain: {outcome.words}")


def _made(current: Retraining) -> Version:
    """The run, finished and registered."""
    config, generation, folder, model = current.config, current.due.generation, current.folder, current.due.model
    was_prepared = folder.mark("prepare") is not None
    keep_pins(config, generation.champion)
    do = partial(
        run,
        log=current.log,
        should_stop=current.should_stop,
        executor=current.executor,
        retraining=generation.as_json(),
    )
    if config.tokenize is not None:
        do(config, only="tokenize")
    left_out = new_labels(config, config.data.dataset or folder.data(config.run.prefix).tokenized)
    if left_out:
        names = ", ".join(f"{name} ({rows:,} rows)" for name, rows in left_out.items())
        current.log(f"retrain: left out, as the champion does not know them: {names}")
        config = without(config, left_out)

    def after(stage: str) -> None:
        if stage == "prepare":
            if not was_prepared and data_fingerprint(current.due.config) != generation.data:
                raise ConflictError("the data changed while they were read; call again when they are complete")
            _look(current, config, left_out)

    do(config, after=after)
    folder.fence()
    version = register(folder, model.url, current.asked)
    current.outcome.version, current.outcome.baseline = version.name, version.record["baseline"]
    current.log(f"retrain: {folder.url} is version {version.name} of {model.name}")
    return version


def _look(current: Retraining, config: Config, left_out: dict[str, int]) -> None:
    """Before anything is trained: how far the data drifted, and whether the gate could judge on them."""
    generation, folder = current.due.generation, current.folder
    champion = generation.champion
    notes = storage.read_json(folder.data(config.run.prefix).summary).get("notes", [])
    unknown = tuple(f"label '{name}' (" for name in left_out)  # the drift tells these
    current.outcome.notes = [note for note in notes if not note.startswith(unknown)]
    if champion is not None:
        limits = config.retrain.drift
        found = drift(storage.read_json(champion.path("profile.json")), profile(folder), limits, left_out=left_out)
        current.outcome.drift = found.as_json()
        storage.write_json(folder.path("drift.json"), current.outcome.drift)
        current.log(found.table())
        check(found, limits)
    foresee_rows(current.config, current.due.rules, champion, folder)


def _decide(current: Retraining, version: Version) -> None:
    """Judge, and promote what passes; once more where the champion moved in between."""
    config, model, outcome, log = current.config, current.due.model, current.outcome, current.log
    for _ in range(ROUNDS):
        seen = table(model.url)
        champion = model.meant(seen, CHAMPION)
        if champion is not None and champion.name == version.name:
            mirror(config.registry.mlflow, model, version, alias=CHAMPION, log=log)
            outcome.state, outcome.words = "promoted", f"{version.name} is the champion"
            return
        if held_back(current.due, outcome, log):  # rolled back while this was at work
            return
        outcome.champion = champion.name if champion else None
        _go_on(current, f"before {version.name} was judged")
        move(model.url, CHALLENGER, version.name, kind="set", asked=current.asked)
        mirror(config.registry.mlflow, model, version, alias=CHALLENGER, log=log)
        verdict, url = judge_version(model, version, champion, config, current.due.rules, current.executor, log)
        outcome.verdict, outcome.verdict_url = verdict, url
        if verdict["passed"] is None:
            outcome.state, outcome.words = "waiting", f"{version.name} waits for a person: {words_of(verdict)}"
            log(f"retrain: {outcome.words}")
            return
        if not verdict["passed"]:
            outcome.state, outcome.words = "refused", f"{version.name} did not pass the gate: {words_of(verdict)}"
            raise GateError(outcome.words)
        if not config.retrain.promote:
            outcome.state = "waiting"
            outcome.words = (
                f"{version.name} passed the gate; promote it with: sortase promote {model.name}@{version.name} "
                f"--registry {model.registry}"
            )
            log(f"retrain: {outcome.words}")
            return
        _go_on(current, f"before {version.name}, which passed the gate, was promoted")
        try:
            moved = promote(model, version, asked=current.asked, seen=seen, gate=(verdict, url), by="retrain")
        except ConflictError as error:
            log(f"retrain: {error}")
            continue
        outcome.state, outcome.moved = "promoted", moved.record
        outcome.words = (
            f"{version.name} is the champion{' after ' + moved.before if moved.before else ', the first one'}"
        )
        mirror(config.registry.mlflow, model, version, alias=CHAMPION, log=log)
        log(f"retrain: {outcome.words}")
        return
    raise ConflictError(f"the champion of {model.url} moved {ROUNDS} times while {version.name} was judged; try again")


def _go_on(current: Retraining, when: str) -> None:
    if current.should_stop():
        raise CancelledError(f"stopped {when}; the same command continues there")
