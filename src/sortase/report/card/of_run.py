"""The model card of a run: read from its folder, written beside the weights, where ``transformers`` ignores it."""

from __future__ import annotations

from typing import Any

from ... import storage
from ...config.card import CardSpec
from ...data.counts.open import in_words
from ...errors import MissingInputError
from ...redact import redacted
from ...runs import layout
from ...runs.folder import FITTING, RunFolder


def write_card(
    folder: RunFolder,
    spec: CardSpec,
    lineage: dict[str, Any] | None = None,
    *,
    name: str | None = None,
    target: str | None = None,
) -> str:
    """Write README.md into the run's model folder, or to ``target``; returns its path or URL.

    ``lineage``: by default what run.json tells of it. ``name``: of the model; by default the run's.

    Raises:
        MissingInputError: there is no run, or it has no trained model.
    """
    from .card import card

    run = folder.described()
    if run is None:
        raise MissingInputError(f"{folder.url} is not a run folder: it has no run.json")
    run["name"] = name or run.get("name")
    run["stages"] = marks = folder.stages()
    fitted = next((marks[stage] for stage in FITTING if stage in marks), None)
    if fitted is None:
        raise MissingInputError(f"{folder.url} has no trained model to write a card for; run `sortase run` first")
    evaluated = (marks.get("evaluate") or {}).get("settings", {}).get("train") == fitted["inputs"]
    text = card(
        run,
        folder.read(layout.PREPARED),
        folder.read(layout.EVALUATION) if evaluated else None,
        redacted(lineage or traced(run, folder.url, fitted)),
        spec.model_dump(mode="json"),
        _model(folder),
    )
    url = target or storage.join(folder.model, layout.CARD)
    storage.write_bytes(url, text.encode())
    return url


def traced(run: dict[str, Any], url: str, fitted: dict[str, Any]) -> dict[str, Any]:
    """What a run knows of where its model comes from."""
    config, marks, told = run.get("config") or {}, run.get("stages") or {}, run.get("retrain") or {}
    first = marks.get("tokenize") or marks.get("prepare") or {}
    checkpoint = (config.get("model") or {}).get("checkpoint")
    source = (config.get("data") or {}).get("dataset") or in_words((config.get("tokenize") or {}).get("input") or "")
    return {
        "run": url,
        "created": run.get("created"),
        "finished": fitted.get("finished"),
        "data": {"fingerprint": told.get("data") or first.get("inputs"), "source": source or None},
        "config": told.get("settings"),
        "code": fitted.get("code") or run.get("code"),
        "image": fitted.get("image") or run.get("image"),
        "parents": [{"model": checkpoint, "version": told.get("parent")}] if checkpoint else [],
        "champion": told.get("champion"),
    }


def _model(folder: RunFolder) -> dict[str, Any]:
    """What lies beside the weights."""
    from ...model.load import MODEL_SETTINGS

    settings = f"{folder.model_name}/{MODEL_SETTINGS}".lstrip("/")
    return {
        "max_length": (folder.read(settings) or {}).get("max_length"),
        "tokenizer": storage.exists(storage.join(folder.model, "tokenizer.json")),
    }
