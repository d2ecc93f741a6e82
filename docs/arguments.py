"""Writes docs/training-arguments.md from the table of training arguments: python docs/arguments.py"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sortase.config.argument_translation import OTHER_NAMES
from sortase.config.metrics import NAMES
from sortase.config.training_arguments import TABLE, Argument
from sortase.config.worlds import in_words, name_of

PAGE = Path(__file__).with_name("training-arguments.md")

HEAD = """# Training arguments

What becomes of every field of `transformers.TrainingArguments`, and of names that older versions had (marked with an
asterisk). `training_args` of `GenericClassifier`, the section `train` of run.yaml, `ray_config` and `tune.space` read
the same table. Defaults, `None` and `False` are accepted without a word. A value of the wrong type is refused before
anything is done, and so are two values that contradict each other.
"""

PASSED = """## Passed on

These mean what they mean to Trainer. `gradient_accumulation_steps` and `per_device_train_batch_size` make the global
batch together, unless `global_batch_size` or `global_batch_tokens` is given. `save_steps` or `eval_steps` without a
strategy means the strategy `steps`; an interval of 0 or -1 means never.
"""

TURNED = """## Turned into a setting of ours

As a key of run.yaml, and in Python. A setting that is given twice with different values is an error, except the batch
size of evaluation, where `evaluate.batch_size` (`forward_batch_size`) counts.
"""

IDLE = """## Without effect here

Accepted; one line of the training says which were given, and why they change nothing. Some values are refused, because
without them something else would be trained.
"""

REFUSED = """## Refused
"""


def page() -> str:
    rows = list(TABLE.values())
    passed = [row for row in rows if row.verdict == "honoured" and row.setting is None]
    parts = [
        HEAD,
        PASSED,
        ", ".join(_name(row) + (f" ({_words(row.reason)})" if row.reason else "") for row in passed) + ".\n",
        TURNED,
        "\n".join(_turned([row for row in rows if row.setting is not None])) + "\n",
        _metrics(),
        IDLE,
        "\n".join(_idle([row for row in rows if row.verdict == "no effect"])) + "\n",
        REFUSED,
        "\n".join(f"* {_name(row)}: {_words(row.reason)}." for row in rows if row.verdict == "refused") + "\n",
    ]
    return "\n".join(parts)


def _turned(rows: list[Argument]) -> Iterator[str]:
    yield "| argument | in run.yaml | in Python | |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        setting = str(row.setting)
        python = f"`{name_of(setting, True)}`" if setting != "tracking.to" else "no trackers"
        yield f"| {_name(row)} | `{setting}` | {python} | {_words(row.reason)} |"


def _metrics() -> str:
    others = ", ".join(f"`{other}` is `{ours}`" for other, ours in OTHER_NAMES.items())
    return f"Metrics, each with or without `eval_`: {', '.join(f'`{name}`' for name in NAMES)}; {others}.\n"


def _idle(rows: list[Argument]) -> Iterator[str]:
    """A line a reason."""
    yield "| arguments | why |"
    yield "| --- | --- |"
    for reason in dict.fromkeys(row.reason for row in rows):
        alike = [row for row in rows if row.reason == reason]
        refused = [f"; `{row.name}={value!r}` is refused" for row in alike for value in row.refuses]
        yield f"| {', '.join(map(_name, alike))} | {_words(reason)}{''.join(refused)} |"


def _name(row: Argument) -> str:
    return f"`{row.name}`" + ("\\*" if row.older else "")


def _words(reason: str) -> str:
    return in_words(reason, False)


if __name__ == "__main__":
    PAGE.write_text(page())
