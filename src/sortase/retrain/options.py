"""Options of the commands around the registry; nothing is imported for them before they are used."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from ..deploy.options import add_place, named

COMMANDS = {
    "retrain": "train again on new data, judge the model, and promote it; call it again after any death",
    "gate": "judge a finished run's model against the champion by the rules of section gate",
    "promote": "make a version that passed the gate the champion (or move another alias)",
    "rollback": "give the champion's place back to the version before",
    "models": "models, versions, aliases and their history",
}


def elsewhere(options: argparse.Namespace) -> bool:
    """Whether a retraining is to be a job on a cluster."""
    return named(options) or bool(options.image)


def add_commands(commands: Any) -> None:
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        _OWN[name](command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _run(command: argparse.ArgumentParser, default: str | None = "run.yaml") -> None:
    shown = f"path or URL of run.yaml{f' (default: ./{default})' if default else ''}"
    command.add_argument("--config", "-c", default=default, help=shown)
    command.add_argument(
        "--set", "-s", action="append", default=[], metavar="KEY=VALUE", help="override a setting (repeatable)"
    )


def _registry(command: argparse.ArgumentParser) -> None:
    command.add_argument("--registry", help="folder or URL of the registry (default: registry.url, $SORTASE_REGISTRY)")


def _told(command: argparse.ArgumentParser) -> None:
    command.add_argument("--why", help="a reason for the history")
    command.add_argument("--who", help="who does it (default: CI's actor, or this user)")
    command.add_argument("--mlflow", help="tracking URI of an MLflow registry to tell (default: registry.mlflow)")


def _retrain(command: argparse.ArgumentParser) -> None:
    _run(command, "retrain.yaml")
    _registry(command)
    add_place(command)
    command.add_argument(
        "--summary", metavar="FILE", help="append what happened as Markdown, as to $GITHUB_STEP_SUMMARY"
    )
    command.add_argument("--output-json", metavar="FILE", help="write what happened as JSON")
    command.add_argument("--who", help="who does it (default: CI's actor, or this user)")
    command.add_argument("--generation", help=argparse.SUPPRESS)
    command.add_argument("--against", help=argparse.SUPPRESS)
    command.add_argument("--attempt", type=int, help="on a cluster: the number of the attempt (default: as needed)")
    command.add_argument(
        "--start-timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="on a cluster: give up pods that cannot start for so long (default: 600)",
    )


def _gate(command: argparse.ArgumentParser) -> None:
    _run(command)
    _registry(command)
    command.add_argument(
        "--version", dest="version_name", help="a registered version or alias, instead of the run's model"
    )
    command.add_argument("--summary", metavar="FILE", help="append the verdict as Markdown, as to $GITHUB_STEP_SUMMARY")
    command.add_argument("--output-json", metavar="FILE", help="write the verdict as JSON")
    command.add_argument("--who", help="who does it (default: CI's actor, or this user)")


def _promote(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="NAME, NAME@VERSION or NAME@ALIAS (default version: the challenger)")
    command.add_argument("--alias", default="champion", help="the alias that moves (default: champion)")
    command.add_argument("--override", metavar="WHY", help="promote without a passed gate; the reason is recorded")
    _run(command, None)
    _registry(command)
    _told(command)


def _rollback(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="NAME")
    command.add_argument("--to", metavar="VERSION", help="this version (default: the one before)")
    command.add_argument("--alias", default="champion", help="the alias that moves (default: champion)")
    _run(command, None)
    _registry(command)
    _told(command)


def _models(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", nargs="?", help="NAME, NAME@VERSION or NAME@ALIAS (default: all models)")
    command.add_argument("--history", action="store_true", help="every move of an alias: who, when, why")
    command.add_argument("--json", action="store_true", help="for programs")
    _run(command, None)
    _registry(command)


_OWN: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "retrain": _retrain,
    "gate": _gate,
    "promote": _promote,
    "rollback": _rollback,
    "models": _models,
}
