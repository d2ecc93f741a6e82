"""Writes docs/tutorials/blood-cells.ipynb from the page of that name: python docs/notebook.py"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

TUTORIALS = Path(__file__).parent / "tutorials"
BLOCK = re.compile(r'```(\w+)(?: title="([^"]+)")?\n(.*?)```\n*', re.DOTALL)


def notebook(page: str) -> str:
    """The page as a notebook: files are written by a cell, and shell commands have their exclamation mark."""
    cells, end = [], 0
    page = page.replace(" The same page as a [notebook](blood-cells.ipynb).", "")
    for block in BLOCK.finditer(page):
        cells += _words(page[end : block.start()])
        language, title, code = block.groups()
        if title is not None:
            code = f"%%writefile {title}\n{code}"
        elif language == "bash":
            code = "".join(f"!{line}\n" for line in code.splitlines())
        own: dict[str, Any] = {"execution_count": None, "outputs": []}
        cells.append({"cell_type": "code", **own, "metadata": {}, "source": _lines(code)})
        end = block.end()
    cells += _words(page[end:])
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _words(text: str) -> list[dict[str, Any]]:
    if not text.strip():
        return []
    return [{"cell_type": "markdown", "metadata": {}, "source": _lines(text)}]


def _lines(text: str) -> list[str]:
    return text.strip("\n").splitlines(keepends=True)


if __name__ == "__main__":
    page = (TUTORIALS / "blood-cells.md").read_text()
    (TUTORIALS / "blood-cells.ipynb").write_text(notebook(page))
