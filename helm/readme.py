"""Writes the chart's README.md from the comments of its values.yaml: python helm/readme.py

A value's description is the comment that begins with `# --` right above it.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "sortase"
HEAD = """# The chart

A run on a cluster of its own (`mode: job`), a cluster that stays (`cluster`), or runs by the calendar (`schedule`), for
the KubeRay operator from 1.6 on. `values.schema.json` refuses other keys, also within `run`. Examples are in `ci/`;
[Run on Kubernetes](../../docs/kubernetes.md) tells of daily work.

| value | default | description |
| --- | --- | --- |
"""


def described(text: str) -> Iterator[tuple[str, str]]:
    """Dotted names and their comments, in order."""
    path: list[tuple[int, str]] = []
    words: list[str] = []
    for line in text.splitlines():
        comment = re.fullmatch(r"\s*# (-- )?(.*)", line)
        if comment:
            words = [comment[2]] if comment[1] else [*words, comment[2]] if words else []
            continue
        key = re.match(r"(\s*)([A-Za-z]\w*):", line)
        if key:
            depth = len(key[1])
            path = [*(item for item in path if item[0] < depth), (depth, key[2])]
            yield ".".join(name for _, name in path), " ".join(words)
        words = []


def rows() -> Iterator[tuple[str, str, str]]:
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)
    for name, words in described(text):
        value = values
        for part in name.split("."):
            value = value[part]
        shown = name
        if name.startswith("groups."):
            if not name.startswith("groups.train"):
                continue
            shown = name.replace("groups.train", "groups.<name>", 1)
            words = words or "as of the head"
        if words or not isinstance(value, dict) or not value:
            yield shown, _default(value), words or "as Kubernetes has it"


def _default(value: Any) -> str:
    return f"`{json.dumps(value)}`" if not isinstance(value, dict) or len(json.dumps(value)) < 80 else "see values.yaml"


def readme() -> str:
    return HEAD + "".join(f"| `{name}` | {default} | {words} |\n" for name, default, words in rows())


if __name__ == "__main__":
    (CHART / "README.md").write_text(readme())
    sys.stdout.write("written\n")
