"""The two worlds in which settings are given: keys of run.yaml, and arguments in Python. Messages use the user's."""

from __future__ import annotations

import re
from typing import Any

PYTHON = {
    "run.seed": "seed=",
    "run.name": "the output folder's name",
    "run.output": "the folder given to train()",
    "replace": "replace=True",
    "evaluate.batch_size": "forward_batch_size=",
    "model.checkpoint": "model_checkpoint=",
    "tune.metric": "training_args['metric']",
}
RUN_YAML = {"run.output": "the folder of the run (run.output and run.name)", "replace": "--replace"}


def is_python(context: Any) -> bool:
    """Whether a validation's context says that the values came from Python."""
    return isinstance(context, dict) and bool(context.get("python"))


def name_of(setting: str, python: bool) -> str:
    """``run.seed`` in run.yaml is ``seed=`` in Python."""
    if not python:
        return RUN_YAML.get(setting, setting)
    section, _, key = setting.partition(".")
    given = {"train": f"training_args[{key!r}]", "compute": f"compute={{{key!r}: ...}}"}
    return PYTHON.get(setting) or given.get(section, setting)


def in_words(text: str, python: bool) -> str:
    """A text in which ``{run.seed}`` stands for a setting, as this user writes it."""
    return re.sub(r"\{([a-z_.]+)\}", lambda found: name_of(found.group(1), python), text)
