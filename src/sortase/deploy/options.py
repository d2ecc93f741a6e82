"""Options of the commands that act on clusters; nothing is imported for them before they are used."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

COMMANDS = {
    "plan": "show what submit would do: stages, pods, steps, paths, checks; writes nothing",
    "submit": "run on a Ray cluster (--address) or on Kubernetes, and wait for the end",
    "status": "stage, step, rate, time left, metrics, last checkpoint, and troubles of pods",
    "logs": "logs of the driver and of all workers, also after the cluster is gone",
    "cancel": "end a run, keeping a checkpoint from which it continues",
}


def add_commands(commands: Any, stages: list[str]) -> None:
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        if name in ("status", "logs", "cancel"):
            command.add_argument("folder", nargs="?", help="a run folder, instead of a configuration")
        _add_run(command, stages)
        add_place(command)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        _OWN.get(name, lambda command: None)(command)


def _add_run(command: argparse.ArgumentParser, stages: list[str]) -> None:
    command.add_argument("--config", "-c", help="path or URL of run.yaml (default: 'run' of --values, else ./run.yaml)")
    command.add_argument(
        "--set",
        "-s",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting of the run (repeatable)",
    )
    command.add_argument("--stage", choices=["run", *stages], help="only this stage (default: run, all of them)")
    command.add_argument("--replace", action="store_true", help="discard results made from other inputs or settings")
    command.add_argument("--attempt", type=int, help="number that starts a run again after its end (default: 1)")


def named(options: argparse.Namespace) -> bool:
    """Whether the options name a cluster."""
    return bool(options.address or options.values or options.namespace or options.context)


def add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument("--address", help="dashboard of a Ray cluster, as http://127.0.0.1:8265 (else: Kubernetes)")
    command.add_argument(
        "--values",
        "-f",
        action="append",
        default=[],
        metavar="FILE",
        help="values of the chart (repeatable; as helm's)",
    )
    command.add_argument("--namespace", "-n", help="Kubernetes namespace (default: the kubeconfig's)")
    command.add_argument("--context", help="context of the kubeconfig (default: the current one)")
    command.add_argument("--image", help="image of the pods, repository:tag or repository@digest")


def _submit(command: argparse.ArgumentParser) -> None:
    command.add_argument("--wait", action="store_true", help="follow the log to the end (the default)")
    command.add_argument("--detach", action="store_true", help="return once it is submitted")
    command.add_argument("--no-checks", action="store_true", help="do not look at storage and data from here first")
    command.add_argument(
        "--start-timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="give up a run whose pods cannot start for so long (default: 600)",
    )


def _status(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="for programs")


def _logs(command: argparse.ArgumentParser) -> None:
    command.add_argument("--name", help="which log, such as attempt-1/train-rank-0 (default: the newest driver's)")
    command.add_argument("--list", action="store_true", help="names of the logs")
    command.add_argument("--follow", action="store_true", help="go on until the run ends")


def _cancel(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--grace", type=float, default=90.0, metavar="SECONDS", help="time for the last checkpoint (default: 90)"
    )


_OWN: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "submit": _submit,
    "status": _status,
    "logs": _logs,
    "cancel": _cancel,
}
