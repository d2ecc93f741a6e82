"""What a retraining came to, as Markdown for a pull request or a job's summary, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

from .. import storage
from ..drift.drift import markdown as drift_markdown
from ..errors import SortaseError
from ..gate.verdict import markdown as verdict_markdown
from ..report.card.markdown import Code, bullets, escaped, table
from ..runs.folder import RunFolder
from .outcome import Outcome

SIGNS = {
    "nothing": "No new data",
    "promoted": "Promoted",
    "waiting": "Waiting",
    "refused": "Stopped",
    "cancelled": "Cancelled",
    "failed": "Failed",
}
MARKDOWN, JSON = "retrain.md", "retrain.json"
_CALLS = re.compile(r"@(?!\d{8}T\d{6}-)(?=\w)|(?<!&)#(?=\d)")  # names of classes call nobody, and point to no issue


def markdown(outcome: Outcome) -> str:
    rows: dict[str, str | None] = {
        "Why": outcome.news,
        "Champion before": outcome.champion or (outcome.news and "none"),
        "Version": outcome.version,
        "Run": outcome.run and Code(outcome.run),
        "Baseline": outcome.baseline,
        "Verdict": outcome.verdict_url and Code(outcome.verdict_url),
    }
    parts = [
        f"## Retraining of {escaped(outcome.model)}: {SIGNS[outcome.state].lower()}",
        f"{escaped(outcome.words or 'no words')}.",
    ]
    if told := [[name, value] for name, value in rows.items() if value]:
        parts.append(table(["what", "which"], told))
    if outcome.verdict is not None:
        parts += ["### Gate", verdict_markdown(outcome.verdict).strip()]
    if outcome.notes:
        parts += ["### The data", bullets([escaped(note) for note in outcome.notes])]
    if outcome.drift is not None:
        parts += ["### The data, against the champion's", drift_markdown(outcome.drift).strip()]
    return _CALLS.sub("\\g<0>\u200b", "\n\n".join(parts)) + "\n"


def keep(outcome: Outcome, folder: RunFolder) -> None:
    """Into the run's folder, where whoever submitted it finds them."""
    storage.write_bytes(folder.path(MARKDOWN), markdown(outcome).encode())
    storage.write_json(folder.path(JSON), asdict(outcome))


@contextmanager
def kept(outcome: Outcome, folder: RunFolder, log: Callable[[str], None]) -> Iterator[None]:
    """`keep` at the end of the block, whatever ends it; not where another attempt has the run, whose word it is then.
    An error that ends the block is not replaced by one of keeping."""
    try:
        yield
    except BaseException as error:
        keep_failure(outcome, folder, error, log)
        raise
    folder.fence()
    keep(outcome, folder)


def keep_failure(outcome: Outcome, folder: RunFolder, error: BaseException, log: Callable[[str], None]) -> None:
    """What ended a retraining, unless another attempt has the run."""
    outcome.fail(error)
    try:
        if _is_ours(folder):
            keep(outcome, folder)
    except SortaseError as fault:
        log(f"retrain: what became of it is not written down: {fault}")


def _is_ours(folder: RunFolder) -> bool:
    current = folder.holder()
    if current is None or current["id"] == folder.attempt:
        return True
    return folder.read(f"logs/attempt-{current['number']}/outcome.json") is not None  # it has ended


def learn(outcome: Outcome, folder: RunFolder, submission: str, log: Callable[[str], None]) -> None:
    """What this submission wrote down, into ``outcome``."""
    try:
        told = folder.read(JSON)
    except SortaseError as error:
        log(f"retrain: what became of it cannot be read from here: {error}")
        return
    if told is not None and told.get("submission") == submission:
        outcome.learn(Outcome.of(told))


def deliver(outcome: Outcome, summary: str | None, output: str | None) -> None:
    """Append the Markdown to a file such as ``$GITHUB_STEP_SUMMARY``, and write the JSON to another; StorageError where
    that fails."""
    if summary is not None:
        append(summary, markdown(outcome))
    if output is not None:
        storage.write_json(output, asdict(outcome))


def append(url: str, text: str) -> None:
    before = storage.read_bytes(url).decode() if storage.exists(url) else ""
    gap = "\n" * (2 - min(2, len(before) - len(before.rstrip("\n")))) if before else ""
    storage.write_bytes(url, (before + gap + text).encode())
