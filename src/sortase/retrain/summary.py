"""What a retraining came to, as Markdown for a pull request or a job's summary, and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from .. import storage
from ..pipeline.run_folder import RunFolder
from .outcome import Outcome

SIGNS = {
    "nothing": "No new data",
    "promoted": "Promoted",
    "waiting": "Waiting",
    "refused": "Stopped",
    "failed": "Failed",
}
MARKDOWN, JSON = "retrain.md", "retrain.json"


def markdown(outcome: Outcome) -> str:
    from ..gate.verdict import markdown as verdict_markdown
    from ..pipeline.drift import markdown as drift_markdown

    rows = {
        "Why": outcome.news or "-",
        "Champion before": outcome.champion or "none",
        "Version": outcome.version or "-",
        "Run": outcome.run or "-",
        "Verdict": outcome.verdict_url or "-",
    }
    parts = [
        f"## Retraining of {outcome.model}: {SIGNS[outcome.state].lower()}",
        f"{outcome.words}.",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(value)} |" for name, value in rows.items())]),
    ]
    if outcome.verdict is not None:
        parts += ["### Gate", verdict_markdown(outcome.verdict)]
    if outcome.drift is not None:
        parts += ["### The data, against the champion's", drift_markdown(outcome.drift)]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return f"`{text}`" if "://" in text or "/" in text else text.replace("|", "\\|")


def as_json(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome)


def keep(outcome: Outcome) -> None:
    """Into the run's folder, where whoever submitted it finds them."""
    if outcome.run is not None and outcome.state != "nothing":
        folder = RunFolder(outcome.run)
        storage.write_bytes(folder.path(MARKDOWN), markdown(outcome).encode())
        storage.write_json(folder.path(JSON), as_json(outcome))


def read(folder: RunFolder) -> Outcome | None:
    told = folder.read(JSON)
    return None if told is None else Outcome(**told)


def deliver(outcome: Outcome, summary: str | None, output: str | None) -> None:
    """Append the Markdown to a file such as ``$GITHUB_STEP_SUMMARY``, and write the JSON to another."""
    if summary is not None:
        append(summary, markdown(outcome))
    if output is not None:
        storage.write_bytes(output, (json.dumps(as_json(outcome), indent=2, ensure_ascii=False) + "\n").encode())


def append(url: str, text: str) -> None:
    before = storage.read_bytes(url).decode() if storage.exists(url) else ""
    storage.write_bytes(url, (before + text).encode())
