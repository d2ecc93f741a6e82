"""The report stage: from what the other stages wrote to a page and its figures."""

from __future__ import annotations

from typing import Any

from .. import storage
from ..errors import MissingInputError
from ..runs import layout
from ..runs.events import read_events
from ..runs.folder import MODEL, RunFolder


def report(folder_url: str, model_name: str = MODEL) -> str:
    """Write ``figures/`` and then ``report.html`` into a run folder; returns the page's path or URL.

    Stages that have not finished are said to be missing on the page. ``model_name`` is where in it the model lies.
    """
    from .page.page import page

    folder = RunFolder(folder_url, model_name)
    run = folder.described()
    if run is None:
        raise MissingInputError(f"{folder_url} is not a run folder: it has no run.json")
    evaluation = folder.read(layout.EVALUATION)
    html, figures = page(
        run,
        folder.read(layout.PREPARED),
        evaluation,
        read_events(folder),
        _token_names(folder, evaluation),
    )
    storage.remove(folder.path("figures"))
    for name, content in figures.items():
        storage.write_bytes(folder.path("figures", name), content)
    target = folder.path(layout.REPORT)
    storage.write_bytes(target, html.encode())
    return target


def _token_names(folder: RunFolder, evaluation: dict[str, Any] | None) -> dict[int, str]:
    """Names of the tokens among the mistakes, from the model's tokenizer where it is saved in one file."""
    wanted = {item["token"] for item in (evaluation or {}).get("mistakes") or [] if item.get("token") is not None}
    tokenizer = folder.read(f"{folder.model_name}/tokenizer.json".lstrip("/")) if wanted else None
    vocabulary = ((tokenizer or {}).get("model") or {}).get("vocab") or {}
    if isinstance(vocabulary, list):  # unigram models list pairs of token and score in the order of ids
        vocabulary = {pair[0]: number for number, pair in enumerate(vocabulary)}
    return {number: name for name, number in vocabulary.items() if number in wanted}
