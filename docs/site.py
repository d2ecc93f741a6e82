"""Pages of the site that are made while it is built: the README as its start, settings, the command line."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from sortase.cli import parser
from sortase.config.run import Config

README = Path(__file__).resolve().parents[1] / "README.md"
COLUMNS = "| setting | type | default | |\n| --- | --- | --- | --- |"


def on_files(files: Files, config: Any) -> Files:
    readme = re.sub(r"\]\(docs/", "](", README.read_text())
    for name, text in {"index.md": readme, "settings.md": settings(), "command-line.md": commands()}.items():
        files.append(File.generated(config, name, content=text))
    return files


def settings() -> str:
    """Every setting of run.yaml, by section, from the schema of the models."""
    schema = Config.model_json_schema()
    parts = ["# Settings\n\nEvery key of run.yaml. Unknown keys are refused with the nearest name."]
    for name, field in schema["properties"].items():
        parts.append(f"## {name}\n\n{field.get('description', '')}\n\n{COLUMNS}")
        parts[-1] += "".join(f"\n{row}" for row in _rows(name, field, schema["$defs"]))
    return "\n\n".join(parts) + "\n"


def _rows(path: str, field: dict[str, Any], models: dict[str, Any]) -> Iterator[str]:
    sections = [model for model in _models(field, models) if "properties" in model]
    for section in sections:
        for key, inner in section["properties"].items():
            yield from _rows(f"{path}.{key}", inner, models)
    if not sections:
        default = f"`{field['default']}`" if "default" in field else ""
        cells = [f"`{path}`", _kind(field), default, field.get("description", "")]
        yield "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def _models(field: dict[str, Any], models: dict[str, Any]) -> list[dict[str, Any]]:
    among = [field, *field.get("anyOf", []), *field.get("allOf", [])]
    return [models[each["$ref"].rpartition("/")[2]] for each in among if "$ref" in each]


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_kind(each) for each in field["anyOf"]))
    return str(field.get("const", field.get("type", "any")))


def commands() -> str:
    """What `--help` says, of each command."""
    top = parser()
    (choices,) = [each.choices for each in top._actions if isinstance(each, argparse._SubParsersAction)]
    parts = ["# Command line", f"```text\n{top.format_help()}```"]
    parts += [f"## sortase {name}\n\n```text\n{command.format_help()}```" for name, command in choices.items()]
    return "\n\n".join(parts) + "\n"
