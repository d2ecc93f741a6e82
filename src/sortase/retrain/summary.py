"""What a retraining came to, as Markdown for a pull request or a job's summary, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from .. import storage
from ..errors import FencedError
from ..gate.verdict import markdown as verdict_markdown
from ..pipeline.drift import markdown as drift_markdown
from ..pipeline.run_folder import RunFolder
from ..report.card_markdown import Code, escaped, table
from .outcome import Outcome

SIGNS = {
    "nothing": "No new data",
    "promoted": "Promoted",
    "waiting": "Waiting",
    "refused": "Stopped",
    "failed": "Failed",
}
MARKDOWN, JSON = "retrain.md", "retrain.json"
_UNHEARD = {"@": "@\u200b", "#": "#\u200b"}  # names of classes call nobody, and point to no issue


def markdown(outcome: Outcome) -> str:
    rows: dict[str, str | None] = {
        "Why": outcome.news,
        "Champion before": outcome.champion or "none",
        "Version": outcome.version,
        "Run": outcome.run and Code(outcome.run),
        "Verdict": outcome.verdict_url and Code(outcome.verdict_url),
    }
    parts = [
        f"## Retraining of {escaped(outcome.model)}: {SIGNS[outcome.state].lower()}",
        f"{_unheard(escaped(outcome.words or 'no words'))}.",
        table(["what", "which"], [[name, value or "-"] for name, value in rows.items()]),
    ]
    if outcome.verdict is not None:
        parts += ["### Gate", verdict_markdown(outcome.verdict).strip()]
    if outcome.drift is not None:
        parts += ["### The data, against the champion's", drift_markdown(outcome.drift).strip()]
    return "\n\n".join(parts) + "\n"


def _unheard(text: str) -> str:
    for sign, instead in _UNHEARD.items():
        text = text.replace(sign, instead)
    return text


def as_json(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome)


def keep(outcome: Outcome, folder: RunFolder) -> None:
    """Into the run's folder, where whoever submitted it finds them."""
    storage.write_bytes(folder.path(MARKDOWN), markdown(outcome).encode())
    storage.write_json(folder.path(JSON), as_json(outcome))


@contextmanager
def kept(outcome: Outcome, folder: RunFolder) -> Iterator[None]:
    """`keep` at the end of the block, whatever ends it; not where a later attempt has taken the run over, whose word it
    is then."""
    try:
        yield
    except FencedError:
        raise
    except BaseException as error:
        outcome.fail(error)
        keep(outcome, folder)
        raise
    keep(outcome, folder)


def read(folder: RunFolder) -> Outcome | None:
    told = folder.read(JSON)
    return None if told is None else Outcome.of(told)


def deliver(outcome: Outcome, summary: str | None, output: str | None) -> None:
    """Append the Markdown to a file such as ``$GITHUB_STEP_SUMMARY``, and write the JSON to another."""
    if summary is not None:
        append(summary, markdown(outcome))
    if output is not None:
        storage.write_bytes(output, (json.dumps(as_json(outcome), indent=2, ensure_ascii=False) + "\n").encode())


def append(url: str, text: str) -> None:
    before = storage.read_bytes(url).decode() if storage.exists(url) else ""
    gap = "\n" * (2 - min(2, len(before) - len(before.rstrip("\n")))) if before else ""
    storage.write_bytes(url, (before + gap + text).encode())
