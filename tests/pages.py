"""Executes a page of the documents: python tests/pages.py PAGE, in an empty folder.

In order and in one namespace: a block with a title is a file of that name, a Python block is executed, and so is each
line of a bash block. A line `sortase ...` is called in this process, as its imports take longer than its work; where it
is to end with another exit code than 0, its comment says so: `# exit code 2`.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = re.compile(r'^( *)```(\w+)(?: title="([^"]+)")?\n(.*?)^\1```', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    title: str | None
    code: str


def blocks(text: str, language: str | None = None) -> list[Block]:
    """The fenced blocks of a page."""
    found = [Block(each[2], each[3], _outdented(each[4], len(each[1]))) for each in _BLOCK.finditer(text)]
    return [block for block in found if language in (None, block.language)]


def _outdented(code: str, columns: int) -> str:
    return "".join(line[columns:] if line.strip() else "\n" for line in code.splitlines(keepends=True))


def commands(code: str) -> list[list[str]]:
    """The arguments of each line `sortase ...`."""
    lines = [line.strip() for line in code.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sortase ")]


def execute(page: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page.read_text()):
        if block.title is not None:
            Path(block.title).write_text(block.code)
        elif block.language == "python":
            exec(compile(block.code, str(page), "exec"), namespace)
        elif block.language == "bash":
            for line in block.code.splitlines():
                _call(line)


def _call(line: str) -> None:
    from sortase.cli import main

    if not line.startswith("sortase "):
        subprocess.run(line, shell=True, check=True)
        return
    told = re.search(r"# .*exit code (\d)", line)
    ended = main(shlex.split(line, comments=True)[1:])
    if ended != int(told[1] if told else 0):
        raise SystemExit(f"{line!r} ended with exit code {ended}")


if __name__ == "__main__":
    execute(Path(sys.argv[1]))
