"""The report stage: from what the other stages wrote to a page and its figures."""

from __future__ import annotations

import json
from typing import Any

from .. import storage
from ..errors import MissingInputError
from .run_folder import RunFolder


def report(folder_url: str) -> str:
    """Write ``figures/`` and then ``report.html`` into a run folder; returns the page's path or URL."""
    from ..report.page import page

    folder = RunFolder(folder_url)
    run = folder.read("run.json")
    if run is None:
        raise MissingInputError(f"{folder_url} is no run folder: it has no run.json")
    html, figures = page(run, folder.read("data/prepare.json"), folder.read("evaluation.json"), _events(folder))
    for name, content in figures.items():
        storage.write_bytes(folder.path("figures", name), content)
    target = folder.path("report.html")
    storage.write_bytes(target, html.encode())
    return target


def _events(folder: RunFolder) -> list[dict[str, Any]]:
    url = folder.path("events.jsonl")
    if not storage.exists(url):
        return []
    return [json.loads(line) for line in storage.read_bytes(url).decode().splitlines() if line]
