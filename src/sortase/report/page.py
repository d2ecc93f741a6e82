"""report.html: one file that opens from disk, with everything in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files as resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from . import sections
from .parts import bounds, text, written

Part = dict[str, Any]
WORDS = {"sequence": "One label for each sequence", "token": "One label for each token"}
HEADLINE = {"macro_f1": "macro F1", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "mcc": "MCC"}


def page(
    run: Mapping[str, Any],
    prepared: Mapping[str, Any] | None,
    evaluation: Mapping[str, Any] | None,
    events: Sequence[Mapping[str, Any]],
) -> tuple[str, dict[str, bytes]]:
    """The page, and its figures as files by name."""
    drawn: dict[str, bytes] = {}
    content = {
        "Results on the test side": _or_words(evaluation, lambda e: sections.results(e, drawn), "evaluate"),
        "Beside the baselines": _or_words(evaluation, lambda e: sections.baselines(e, drawn), "evaluate"),
        "Most confident mistakes": _or_words(evaluation, sections.mistakes, "evaluate"),
        "Training": sections.training(run, events, drawn),
        "Data kept and dropped": _or_words(prepared, lambda p: sections.kept(p, drawn), "prepare"),
        "Split": _or_words(prepared, lambda p: sections.split(p, drawn), "prepare"),
        "Configuration and versions": sections.configuration(run),
    }
    html = _template().render(
        name=run.get("name") or "run",
        created=str(run.get("created") or "")[:19].replace("T", " "),
        task_words=WORDS.get((evaluation or prepared or {}).get("task", ""), "Classification"),
        verdict=((evaluation or {}).get("baseline") or {}).get("verdict"),
        headline=_headline(evaluation),
        headline_note=_headline_note(evaluation),
        sections=[{"id": f"s{i}", "title": title, "parts": parts} for i, (title, parts) in enumerate(content.items())],
        css=_resource("report.css"),
        version=(run.get("versions") or {}).get("sortase", ""),
    )
    return html, drawn


def _or_words(found: Any, section: Callable[[Any], list[Part]], stage: str) -> list[Part]:
    return section(found) if found else [text(f"Stage '{stage}' has not finished in this run.")]


def _headline(evaluation: Mapping[str, Any] | None) -> list[dict[str, str]]:
    if not evaluation:
        return []
    metrics, intervals = evaluation["metrics"], evaluation["intervals"]
    return [
        {"name": words, "value": written(metrics[name]), "range": bounds(intervals.get(name))}
        for name, words in HEADLINE.items()
    ]


def _headline_note(evaluation: Mapping[str, Any] | None) -> str:
    if not evaluation:
        return ""
    return (
        f"On {evaluation['units']:,} {evaluation['unit']}s of the test side, which neither training nor the choice of "
        "the best checkpoint has seen; below each figure its 95 % interval."
    )


def _resource(name: str) -> str:
    return resources(__package__).joinpath(name).read_text(encoding="utf-8")


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_resource("report.html.jinja"))
