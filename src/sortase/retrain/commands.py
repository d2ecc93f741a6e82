"""gate, promote, rollback, models and retrain."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from .. import storage
from ..cluster.executor import executor_for
from ..config.load import parse, settings_of
from ..config.run import Config
from ..errors import ConfigError, GateError, MissingInputError, SortaseError
from ..gate.promotion import AliasMove
from ..gate.promotion import promote as promote_version
from ..gate.promotion import rollback as rollback_version
from ..plain import show
from ..registry.context import context
from ..registry.listing import described, listed, told
from ..registry.mirror import mirror, require
from ..registry.models import Model, model_of, names
from ..registry.moves import history, move, table
from ..registry.names import CHALLENGER, registry_url
from ..registry.names import parse as parse_reference
from ..registry.versions import Version, versions
from ..runs.attempts import attempted_from, submission_name
from ..types import Log
from . import summary
from .options import elsewhere
from .outcome import Outcome
from .plan import folder_of, model_named, rules_of
from .register import register

Stop = Callable[[], bool]


def _text(options: argparse.Namespace) -> str:
    with storage.impatiently():
        return storage.read_text(options.config)


def _config(options: argparse.Namespace) -> Config | None:
    """The configuration where one is named; storage is reached as it says."""
    if options.config is None:
        if options.set:
            raise ConfigError("--set overrides a setting of a run; name it with --config")
        return None
    config = parse(_text(options), options.set, options.config)
    storage.configure(config.storage)
    return config


def _model(options: argparse.Namespace, config: Config | None) -> tuple[Model, str | None]:
    """The model that the command names, and the version or alias."""
    reference = parse_reference(options.model)
    return model_of(reference.name, options.registry or (config.registry.url if config else None)), reference.version


def gate(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    from ..gate.verdict import markdown, text, words_of
    from .judging import judge_version

    config = _config(options)
    if config is None:
        raise ConfigError("the rules are in section 'gate' of a run's configuration; name it with --config")
    rules = rules_of(config)
    if options.registry:
        config = config.model_copy(update={"registry": config.registry.model_copy(update={"url": options.registry})})
    require(config.registry.mlflow)
    model, asked = model_named(config), context(options.who)
    if options.version_name:
        version = model.version(options.version_name)
    else:
        version = register(folder_of(config), model.url, asked)
        move(model.url, CHALLENGER, version.name, kind="set", asked=asked)
    mirror(config.registry.mlflow, model, version, alias=None if options.version_name else CHALLENGER, log=log)
    with executor_for(config.compute) as executor:
        verdict, url = judge_version(model, version, model.champion, config, rules, executor, log)
    show(text(verdict))
    log(f"gate: {url}")
    if options.summary:
        summary.append(options.summary, markdown(verdict))
    if options.output_json:
        storage.write_json(options.output_json, verdict)
    if not verdict["passed"]:
        outcome = "was not judged" if verdict["passed"] is None else "did not pass"
        raise GateError(f"{version.name} {outcome}: {words_of(verdict)}")


def promote(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    config = _config(options)
    model, wanted = _model(options, config)
    version = model.version(wanted or CHALLENGER)
    require(_mlflow(options, config))
    moved = promote_version(
        model,
        version,
        alias=options.alias,
        override=options.override,
        why=options.why,
        asked=context(options.who),
        rules=config.gate if config else None,
    )
    _moved(model, moved, options, config, log)


def rollback(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    config = _config(options)
    model, wanted = _model(options, config)
    if wanted is not None:
        raise ConfigError(f"rollback takes the model's name; the version to go back to is --to {wanted}")
    require(_mlflow(options, config))
    moved = rollback_version(model, to=options.to, alias=options.alias, why=options.why, asked=context(options.who))
    _moved(model, moved, options, config, log)


def _mlflow(options: argparse.Namespace, config: Config | None) -> str | None:
    return options.mlflow or (config.registry.mlflow if config else None)


def _moved(model: Model, moved: AliasMove, options: argparse.Namespace, config: Config | None, log: Log) -> None:
    mirror(_mlflow(options, config), model, moved.version, alias=moved.alias, log=log)
    before = f" (before: {moved.before})" if moved.before and moved.record else ""
    done = "is" if moved.record else "is already"
    show(f"{moved.version.name} {done} the {moved.alias} of {model.name}{before}")


def models(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    config = _config(options)
    if options.model is None:
        url = registry_url(options.registry or (config.registry.url if config else None))
        known = {name: table(Model(storage.join(url, name), name).url).aliases for name in names(url)}
        _show(options, known, lambda: listed(known) or f"{url} holds no model")
        return
    model, wanted = _model(options, config)
    if options.history:
        moves = history(model.url)
        _show(options, moves, lambda: told(moves) or f"no alias of {model.name} has moved")
        return
    found: list[Version] = [model.version(wanted)] if wanted else list(versions(model.url))
    if not found:
        others = ", ".join(names(model.registry)) or "none"
        raise MissingInputError(f"{model.url} holds no version; models of this registry: {others}")
    aliases = table(model.url).aliases
    _show(options, [each.record for each in found], lambda: described(found, aliases, whole=wanted is not None))


def _show(options: argparse.Namespace, value: Any, words: Callable[[], str]) -> None:
    show(json.dumps(value, indent=2, ensure_ascii=False) if options.json else words())


def retrain(options: argparse.Namespace, should_stop: Stop, log: Log) -> None:
    outcome = Outcome(model="?")
    try:
        _retrain(options, outcome, should_stop, log)
    except BaseException as error:
        outcome.fail(error)
        try:
            summary.deliver(outcome, options.summary, options.output_json)
        except SortaseError as fault:  # it does not take the place of what happened
            log(f"retrain: what happened is not written down: {fault}")
        raise
    show(outcome.words)
    summary.deliver(outcome, options.summary, options.output_json)


def _retrain(options: argparse.Namespace, outcome: Outcome, should_stop: Stop, log: Log) -> None:
    from .steps import retrain as do
    from .submitted import submit

    text = _text(options)
    overrides = [*options.set, *([f"registry.url={json.dumps(options.registry)}"] if options.registry else [])]
    with attempted_from(text, overrides) if options.generation else nullcontext():
        config = parse(text, overrides, options.config)
        outcome.model = config.registry.name or config.run.name
        if elsewhere(options):
            submit(config, settings_of(text, overrides, options.config), outcome, options, log, should_stop)
            return
        try:
            do(config, outcome, generation=options.generation, who=options.who, log=log, should_stop=should_stop)
        except BaseException as error:
            if options.generation and outcome.run is None:  # refused at once, and whoever submitted it waits
                outcome.submission = submission_name()
                summary.keep_failure(outcome, folder_of(config), error, log)
            raise
