"""A run: its stages in order, each skipped when it is finished and unchanged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

from .. import storage
from ..config.run import Config
from ..config.train import EARLY_STOPPING, check_arguments
from ..errors import CancelledError, ConfigError, StorageError
from ..registry.models import resolve
from ..registry.names import is_reference
from ..runs import logs
from ..runs.attempts import Attempt, attempted
from ..runs.folder import FITTING, changes, code, identity, versions
from ..runs.stop import listening
from ..stopping import heeding, listening_itself
from ..train.deepspeed import zero_settings
from ..types import Log
from .executor import Executor, LocalExecutor
from .paths import absolute, travelling
from .preflight import preflight
from .stages import STAGES, Run, Stage, W


def run(
    config: Config,
    *,
    only: str | None = None,
    replace: bool = False,
    log: Log = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
    executor: Executor | None = None,
    after: Callable[[str], None] = lambda stage: None,
    retraining: dict[str, Any] | None = None,
) -> str:
    """Do all stages, or only the one named; returns what to look at: the report, or the run folder.

    ``executor`` computes them; by default this process. ``after`` is called with the name of each that is finished,
    also of one that was before; what it raises ends the run. ``retraining``: what run.json says of the generation.

    Raises:
        ConfigError: a setting is wrong, or (with ``only``) an earlier stage is not finished.
        ExistingOutputError: a finished stage was made from other inputs or settings, and ``replace`` is not set.
    """
    url = storage.join(config.run.output, config.run.name)
    with attempted(url, config.storage) as attempt:
        config = resolved(absolute(config))
        return _run(config, attempt, only, replace, log, should_stop, executor or LocalExecutor(), after, retraining)


def check_settings(config: Config) -> None:
    """ConfigError where settings contradict each other, whatever the data, before anything is started for them."""
    check_arguments(config.train.arguments)
    zero_settings(config.compute)
    split, train = config.split, config.train
    chooses = (split.validation_size > 0 or split.strategy == "column") and train.arguments["eval_strategy"] != "no"
    if train.early_stopping_patience is not None and not (chooses and train.keep_best):
        raise ConfigError(EARLY_STOPPING)


def resolved(config: Config) -> Config:
    """With the version that ``model.checkpoint: registry://name@alias`` means now in its place, and with what
    ``model.preset`` fills in."""
    checkpoint = config.model.checkpoint
    if checkpoint is not None and is_reference(checkpoint):
        found = resolve(checkpoint, config.registry.url).model
        config = config.model_copy(update={"model": config.model.model_copy(update={"checkpoint": found})})
    if config.model.preset is None:
        return config
    from ..prepare.presets import filled

    return filled(config)


def _run(
    config: Config,
    attempt: Attempt,
    only: str | None,
    replace: bool,
    log: Log,
    should_stop: Callable[[], bool],
    executor: Executor,
    after: Callable[[str], None],
    retraining: dict[str, Any] | None,
) -> str:
    storage.configure(config.storage)
    check_settings(config)
    folder = attempt.folder
    asked = threading.Event()

    def stops() -> bool:
        return asked.is_set() or should_stop()

    current = Run(config=config, folder=folder, log=log, replace=replace, should_stop=stops, executor=executor)
    stages = [stage for stage in STAGES if stage.wanted(config)]
    if only is not None:
        stages = [stage for stage in stages if stage.name == only]
        if not stages:
            instead = f"; its model is made by stage '{config.fitting}'" if only in FITTING else ""
            raise ConfigError(f"this run has no stage '{only}': {only} is not in its configuration{instead}")
    with storage.impatiently():
        lines = preflight(config, folder, only=only, replace=replace)
    for line in [*lines, *executor.check(config)]:
        log(line)
    for line in executor.check_paths(travelling(config), folder.url):
        log(line)
    with attempt.at_work():
        return _work(current, stages, after, retraining, asked, only)


def _work(
    current: Run,
    stages: list[Stage[Run]],
    after: Callable[[str], None],
    retraining: dict[str, Any] | None,
    asked: threading.Event,
    only: str | None,
) -> str:
    config, folder = current.config, current.folder
    told = {"name": config.run.name, "config": config.model_dump(mode="json"), "retrain": retraining}
    do_all(stages, current, asked, told, after)
    done = folder.mark("report")
    return str(done["result"]["report"]) if done and only in (None, "report") else folder.url


def do_all(
    stages: Sequence[Stage[W]],
    work: W,
    asked: threading.Event,
    told: dict[str, Any],
    after: Callable[[str], None] = lambda stage: None,
) -> None:
    """These stages, in a folder that this attempt has taken over. ``asked`` is set when another process wishes that it
    stops; ``told`` goes into run.json."""
    work.folder.describe(**told, versions=versions(), **code())
    with listening(work.folder, asked, work.log):
        for stage in stages:
            with heeding(work.should_stop, f"stopped in stage '{stage.name}'; the same command does it again"):
                do(stage, work)
            after(stage.name)
        work.folder.check_made(stages[-1].name)


def _check_unchanged(stage: Stage[W], before: dict[str, Any], run: W) -> None:
    """StorageError where the files that a stage reads were replaced since it was found out what they hold."""
    after = stage.inputs(run)
    if identity(after) != identity(before):
        raise StorageError(
            f"what stage '{stage.name}' reads was replaced while it was at work ({changes(before, after)}); give the "
            "same command again"
        )


def do(stage: Stage[W], run: W) -> None:
    """One stage: skipped when it is finished with the same inputs, refused when with others."""
    run.folder.fence()
    inputs = stage.inputs(run)
    if run.folder.is_done(stage.name, inputs, run.replace):
        run.log(f"{stage.name}: finished earlier with the same inputs, skipped")
        return
    if (mark := run.folder.mark(stage.name)) is not None and (damaged := run.folder.damage(mark)) is not None:
        run.log(f"{stage.name}: {damaged} is not what this stage made; it is made again")
    if run.should_stop():
        raise CancelledError(f"stopped before stage '{stage.name}'; the same command continues there")
    stage.check(run)
    run.log(f"{stage.name}: starting")
    run.events.write(stage.name, "start")
    run.events.flush()
    keeps_checkpoint = listening_itself() if stage.name in FITTING else nullcontext()
    with keeps_checkpoint, logs.doing(stage.name), run.folder.stage(stage.name, inputs) as result:
        result.update(stage.work(run))
        if stage.reads_outside:
            _check_unchanged(stage, inputs, run)
    run.events.write(stage.name, "end")
    run.events.flush()
    mark = run.folder.mark(stage.name)
    run.folder.describe()
    outcome, *notes = stage.in_words(mark["result"]) or [""]
    for note in notes:
        run.log(f"{stage.name}: {note}")
    run.log(f"{stage.name}: done in {mark['seconds']:.1f} s{outcome and '; '}{outcome}")
