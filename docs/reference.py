"""Writes settings.md, command-line.md and metrics.md from the code: python docs/reference.py"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from sortase.cli import EPILOG, parser
from sortase.config.metrics import METRICS as TABLE
from sortase.config.run import Config
from sortase.config.train import DEFAULTS

HERE = Path(__file__).parent
MADE = "<!-- Made by docs/reference.py -->\n\n"
TYPES = {"string": "text", "object": "mapping", "array": "list", "boolean": "true or false"}
COLUMNS = "| setting | type | default | allowed | what it is |\n| --- | --- | --- | --- | --- |"

SETTINGS = """# Settings

Every key of `run.yaml`, by section. An unknown key is refused with the nearest name. `--set train.learning_rate=1e-4`
on a command line overrides one. `sortase schema` prints the same as a JSON schema. [Configure a run](runs.md) shows a
whole file.
"""

ARGUMENTS = """
Every field of `transformers.TrainingArguments` may stand in this section too, also by the names of older versions;
[training arguments](training-arguments.md) says what becomes of each. These have a default of sortase's own:

| argument | default |
| --- | --- |
"""

COMMANDS = """# Command line

`sortase COMMAND [options]`. Every command takes `--debug`, which shows the traceback of an error, and `--help`. Each
ends with an [exit code](exit-codes.md).
"""

METRICS = """# Metrics

`evaluation.json`, the report, `train.metric`, `tune.metric` and the rules of `gate` use these names. On the validation
side and in `GenericClassifier.evaluate` they begin with `eval_`. Token metrics count labelled tokens only. A metric
that the data leave undefined, such as AUROC of one class, is null. An interval is the 95 % interval over resamples; a
metric without one cannot decide by `gate.by: interval`.

| name | what it is | values | better | interval | meaning |
| --- | --- | --- | --- | --- | --- |
"""

BESIDE = """
`evaluation.json` also has precision, recall, F1, support, AUROC and average precision of each class, the confusion
matrix (true classes in rows), a reliability diagram, the most confident mistakes, and the same metrics of both
baselines. Where tokens were held out, `per_token_type` gives each token one vote. [Run folder](run-folder.md) has the
other files.
"""


def metrics() -> str:
    """Every metric, as the table in the code has it."""
    lines = (
        _line(
            (
                f"`{name}`",
                each.words,
                f"{each.low:g} to {each.high:g}" if isfinite(each.high) else f"{each.low:g} and more",
                "higher" if each.higher_is_better else "lower",
                "yes" if each.interval else "no",
                each.meaning,
            )
        )
        for name, each in TABLE.items()
    )
    return MADE + METRICS + "\n".join(lines) + "\n" + BESIDE


def settings() -> str:
    """Every setting, with an example of each section."""
    schema = Config.model_json_schema()
    models, shown = schema["$defs"], examples()
    parts = [MADE + SETTINGS.rstrip()]
    for name, field in schema["properties"].items():
        words = field.get("description") or " ".join(model["description"] for model in _models(field, models))
        needed = "Required. " if name in schema["required"] else ""
        table = "\n".join([COLUMNS, *(_line(row) for row in rows(name, field, models, False))])
        parts += [f"## {name}", needed + " ".join(words.split()), f'```yaml title="run.yaml"\n{shown[name]}```', table]
        if name == "train":
            parts.append(ARGUMENTS.strip() + "".join(f"\n| `{key}` | `{value}` |" for key, value in DEFAULTS.items()))
    return "\n\n".join(parts) + "\n"


def examples() -> dict[str, str]:
    """The text of each section in settings-examples.yaml, comments included."""
    text = (HERE / "settings-examples.yaml").read_text().partition("\n")[2]
    sections = re.findall(r"^(\w+):\n((?:[ ].*\n)+)", text, re.MULTILINE)
    return {name: f"{name}:\n{body}" for name, body in sections}


def rows(path: str, field: dict[str, Any], models: dict[str, Any], required: bool) -> Iterator[tuple[str, ...]]:
    """Setting, type, default, allowed values and description, of a field and of those within it."""
    sections = [model for model in _models(field, models) if "properties" in model]
    ways = [each for each in field.get("anyOf", [field]) if "$ref" not in each and each.get("type") != "null"]
    if not sections or (ways and "anyOf" in field):
        kinds = [_kind(each) for each in ways] + ["mapping"] * bool(sections)
        default = "required" if required else _default(field)
        allowed = "; ".join(dict.fromkeys(word for each in ways if (word := _allowed(each))))
        yield f"`{path}`", " or ".join(dict.fromkeys(kinds)), default, allowed, field.get("description", "")
    for section in sections:
        for key, inner in section["properties"].items():
            yield from rows(f"{path}.{key}", inner, models, key in section.get("required", []))


def _line(cells: tuple[str, ...]) -> str:
    plain = (re.sub(r"<(?=[a-z])", "&lt;", " ".join(cell.replace("|", "\\|").split())) for cell in cells)
    return f"| {' | '.join(plain)} |".replace("|  |", "| |")


def _models(field: dict[str, Any], models: dict[str, Any]) -> list[dict[str, Any]]:
    among = [field, *field.get("anyOf", []), *field.get("allOf", [])]
    return [models[each["$ref"].rpartition("/")[2]] for each in among if "$ref" in each]


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return "text" if isinstance(values[0], str) else "integer"
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(each) for each in field["anyOf"] if each.get("type") != "null"))
    kind = str(field.get("type", "any value"))
    inner = field.get("items") or field.get("additionalProperties")
    words = TYPES.get(kind, kind)
    return f"{words} of {_kind(inner)}" if isinstance(inner, dict) and inner else words


def _default(field: dict[str, Any]) -> str:
    if field.get("default", ...) is None:
        return "none"
    if "default" not in field:
        return "`[]`" if field.get("type") == "array" else "`{}`" if field.get("type") == "object" else ""
    value = field["default"]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`" if value != "" else '`""`'


def _allowed(field: dict[str, Any]) -> str:
    if "enum" in field or "const" in field:
        return ", ".join(f"`{value}`" for value in field.get("enum", [field.get("const")]))
    if "items" in field and "enum" in field["items"]:
        return _allowed(field["items"])
    marks = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{mark} {field[name]:g}" for name, mark in marks.items() if name in field]
    least = field.get("minLength", 0)
    return ", ".join([*bounds, *([f"at least {least} character{'s' if least > 1 else ''}"] if least else [])])


def commands() -> str:
    """Every command with its options."""
    (choices,) = [each for each in parser()._actions if isinstance(each, argparse._SubParsersAction)]
    words = {each.dest: each.help or "" for each in choices._choices_actions}
    parts = [MADE + COMMANDS.rstrip(), "| command | what it does |\n| --- | --- |"]
    parts[-1] += "".join(f"\n| [`{name}`](#sortase-{name}) | {words[name]} |" for name in choices.choices)
    for name, command in choices.choices.items():
        parts.append(f"## sortase {name}")
        parts.append(f"{words[name][0].upper()}{words[name][1:]}." if words[name] else "")
        found = [_option(each) for each in command._actions if each.dest not in ("help", "debug")]
        lines = [_line(cells) for cells in found if cells[-1] != argparse.SUPPRESS]
        if lines:
            parts.append("| argument | values | what it does |\n| --- | --- | --- |\n" + "\n".join(lines))
    return "\n\n".join([*parts, EPILOG.replace("\n", " ")[0].upper() + EPILOG.replace("\n", " ")[1:] + "."]) + "\n"


def _option(action: argparse.Action) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest.upper()}`"
    if action.choices is not None:
        values = ", ".join(f"`{value}`" for value in action.choices)
    elif action.nargs == 0:
        values = ""
    else:
        values = f"`{action.metavar or action.dest.upper()}`"
    return names + (" (required)" if action.required and action.option_strings else ""), values, action.help or ""


if __name__ == "__main__":
    (HERE / "settings.md").write_text(settings())
    (HERE / "command-line.md").write_text(commands())
    (HERE / "metrics.md").write_text(metrics())
