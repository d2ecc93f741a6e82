"""The ``sortase`` command: one sub-command a stage, all from one run.yaml."""

from __future__ import annotations

import argparse
import gc
import json
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, Self

from . import deadlines
from .deploy.options import COMMANDS, add_commands
from .errors import CancelledError, SortaseError
from .plain import show
from .redact import redacted
from .retrain import options as registry_options
from .stopping import heeding
from .storage.scratch import remove_leftovers
from .unread import printing_to_nobody

STAGES = {
    "tokenize": "counts of genes per cell -> ranked tokens",
    "prepare": "filter, cap, label and split the dataset",
    "train": "train the model, continuing where an earlier attempt stopped",
    "tune": "search hyperparameters with Ray Tune; the best trial's model is the run's",
    "evaluate": "metrics on the test side, beside a baseline",
    "predict": "label unlabelled data with the trained model",
    "report": "figures and report.html",
}

EPILOG = """exit codes: 0 done, 1 the work failed, 2 bad configuration or input, 3 infrastructure (storage, resources),
4 deadline, 5 cancelled, 6 quality gate not passed"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="sortase", description="Fine-tune transformer classifiers on tokenised sequences.", epilog=EPILOG
    )
    top.add_argument("--version", action="store_true", help="print the version and exit")
    commands = top.add_subparsers(dest="command", metavar="command")
    for name, words in {"run": "all stages, skipping what is finished and unchanged", **STAGES}.items():
        stage = commands.add_parser(name, help=words, description=words)
        stage.add_argument("--config", "-c", help="path or URL of run.yaml (default: ./run.yaml)")
        stage.add_argument(
            "--set", "-s", action="append", default=[], metavar="KEY=VALUE", help="override a setting (repeatable)"
        )
        stage.add_argument("--replace", action="store_true", help="discard results made from other inputs or settings")
        stage.add_argument("--debug", action="store_true", help="show the traceback of an error")
        if name == "predict":
            _model_options(stage)
    add_commands(commands, list(STAGES))
    registry_options.add_commands(commands)
    schema = commands.add_parser("schema", help="print the JSON schema of run.yaml")
    schema.add_argument("--debug", action="store_true", help=argparse.SUPPRESS)
    words = "write a model whose weights are a pickle (pytorch_model.bin) again, with safetensors"
    convert = commands.add_parser("convert", help=words, description=words)
    convert.add_argument("source", metavar="FOLDER", help="folder or URL of the model")
    convert.add_argument("target", metavar="NEW_FOLDER", help="folder or URL to write; it must not exist")
    convert.add_argument("--debug", action="store_true", help="show the traceback of an error")
    demo = commands.add_parser("demo", help="two runs on real single-cell data, with reports")
    demo.add_argument("--output", "-o", default="sortase-demo", help="folder for the runs (default: ./sortase-demo)")
    demo.add_argument("--only", choices=["sequence", "token"], help="one of the two runs")
    demo.add_argument("--replace", action="store_true", help="start again, discarding earlier results")
    demo.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return top


def _model_options(predict: argparse.ArgumentParser) -> None:
    """For a model by itself, without the run that made it."""
    predict.add_argument(
        "--model", "-m", help="folder or URL of a model, or registry://NAME@ALIAS, instead of the run's model"
    )
    predict.add_argument("--registry", help="with --model: the registry (default: $SORTASE_REGISTRY)")
    predict.add_argument("--dataset", help="with --model: the data to label (default: predict.dataset)")
    predict.add_argument("--output", "-o", help="with --model: the Parquet file to write")


def log(text: str) -> None:
    show(redacted(text), errors=True)


def run_stages(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    from . import storage
    from .cluster.executor import executor_for
    from .config.load import parse
    from .pipeline.run import check_settings, run
    from .runs.attempts import attempted_from

    options.config = options.config or "run.yaml"
    with storage.impatiently():
        text = storage.read_text(options.config)
    with attempted_from(text, options.set):
        config = parse(text, options.set, options.config)
        check_settings(config)
        only = None if options.command == "run" else options.command
        searches = config.tune is not None and options.command in ("run", "tune")
        with executor_for(config.compute, always=searches) as executor:
            result = run(
                config, only=only, replace=options.replace, log=log, should_stop=should_stop, executor=executor
            )
        show(str(result))


def predict_with_model(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    from .api.predict_command import predict_with

    predict_with(options, log)


def around_registry(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    from .retrain import commands

    getattr(commands, options.command)(options, should_stop, log)


def print_schema(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    from .config.run import Config

    show(json.dumps(Config.model_json_schema(), indent=2))


def convert_weights(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    from .model.convert import convert

    show(convert(options.source, options.target))


def run_demo(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    from .demo.runs import demo

    for line in demo(options.output, options.only, options.replace, log, should_stop):
        show(line)


def on_cluster(options: argparse.Namespace, should_stop: Callable[[], bool]) -> None:
    from .deploy import commands

    getattr(commands, options.command)(options, should_stop, log)


class StopSwitch:
    """The first SIGINT or SIGTERM asks the work to stop, and says so; a second SIGINT interrupts at once."""

    def __init__(self, words: str) -> None:
        self.words = words
        self.asked = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *error: object) -> None:
        if deadlines.is_leaving():
            gc.freeze()  # at its end Python would look once more at millions of objects of libraries: seconds
        deadlines.stay()
        for number, handler in self._before.items():
            if handler is not None:  # of a library in C, which Python cannot set again
                signal.signal(number, handler)

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        deadlines.leave()
        log(f"{self.words}; Ctrl-C again stops at once")

    def __call__(self) -> bool:
        return self.asked


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; returns the exit code, which is 0 only when the work is done."""
    with printing_to_nobody():
        return _main(arguments)


def _main(arguments: Sequence[str] | None) -> int:
    top = parser()
    options = top.parse_args(arguments)
    if options.version:
        from . import __version__

        print(f"sortase {__version__}")
        return 0
    if options.command is None:
        top.print_help()
        return 2
    own = {
        "schema": print_schema,
        "demo": run_demo,
        "convert": convert_weights,
        **dict.fromkeys(COMMANDS, on_cluster),
        **dict.fromkeys(registry_options.COMMANDS, around_registry),
    }
    work = own.get(options.command, run_stages)
    if getattr(options, "model", None) and options.command == "predict":
        work = predict_with_model
    remove_leftovers()
    try:
        waits = work is on_cluster or (options.command == "retrain" and registry_options.elsewhere(options))
        words = "no longer waiting" if waits else "stopping; a training keeps a checkpoint first"
        with StopSwitch(words) as switch, heeding(switch, "stopped; the same command does it again"):
            work(options, switch)
    except KeyboardInterrupt:
        log("cancelled")
        return CancelledError.exit_code
    except SortaseError as error:
        if options.debug:
            raise
        log(f"sortase {options.command}: {error}")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
