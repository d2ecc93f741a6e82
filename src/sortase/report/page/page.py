"""report.html: one file that opens from disk, with everything in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files as resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from ...config.metrics import METRICS
from . import data, results, tune
from . import run as run_sections
from .parts import Files, Part, bounds, joined, several, text, written

WORDS = {"sequence": "one label for each sequence", "token": "one label for each token"}
HEADLINE = ("macro_f1", "accuracy", "balanced_accuracy", "mcc")
Found = Mapping[str, Any]


def page(
    run: Found,
    prepared: Found | None,
    evaluation: Found | None,
    events: Sequence[Found],
    tokens: Mapping[int, str] | None = None,
) -> tuple[str, dict[str, bytes]]:
    """The page, and its figures as files by name. ``tokens`` names token ids."""
    drawn: Files = {}
    content = {
        **_results(evaluation, tokens or {}, drawn),
        "Search of hyperparameters": tune.tuning(run, drawn),
        "Training": run_sections.training(run, events, drawn),
        **_data(run, prepared, drawn),
        "Predictions": run_sections.predictions(run),
        "Stages, versions, configuration": run_sections.configuration(run),
    }
    shown = [(title, parts) for title, parts in content.items() if parts]
    html = _template().render(
        name=run.get("name") or "run",
        facts=_facts(run, prepared, evaluation),
        verdict=_verdict(evaluation),
        headline=_headline(evaluation),
        headline_note=_headline_note(prepared, evaluation),
        sections=[{"id": f"s{i}", "title": title, "parts": parts} for i, (title, parts) in enumerate(shown)],
        css=_resource("report.css"),
        version=(run.get("versions") or {}).get("sortase", ""),
    )
    return html, drawn


def _results(evaluation: Found | None, tokens: Mapping[int, str], drawn: Files) -> dict[str, list[Part]]:
    if not evaluation:
        return {"Results on the test side": [text("Nothing was measured: stage 'evaluate' has not finished.")]}
    return {
        "Results on the test side": results.results(evaluation),
        "Beside the baselines": results.baselines(evaluation, drawn),
        "One vote for each token": results.votes(evaluation),
        "Confusion matrix": results.confusion(evaluation, drawn),
        "Each class": results.each_class(evaluation, drawn),
        "Calibration": results.calibration(evaluation, drawn),
        "Most confident mistakes": results.mistakes(evaluation, tokens),
    }


def _data(run: Found, prepared: Found | None, drawn: Files) -> dict[str, list[Part]]:
    if not prepared:
        return {"Data kept and dropped": [text("No data was prepared: stage 'prepare' has not finished.")]}
    return {
        "Data kept and dropped": data.kept(run, prepared, drawn),
        "Split": data.split(prepared, drawn),
    }


def _facts(run: Found, prepared: Found | None, evaluation: Found | None) -> str:
    """The line below the title: task, classes, model, date."""
    known = {**(prepared or {}), **(evaluation or {})}
    model, training = (run.get("config") or {}).get("model") or {}, run.get("training") or {}
    name = model.get("checkpoint") or f"new {(model.get('config') or {}).get('model_type', '')} model".replace(
        "  ", " "
    )
    size = f" ({training['parameters']:,} parameters)" if training.get("parameters") else ""
    facts = [
        f"Classification, {WORDS[known['task']]}" if known.get("task") in WORDS else "",
        f"{len(known['classes'])} classes" if known.get("classes") else "",
        f"{name}{size}" if model else "",
        f"run created {str(run['created'])[:16].replace('T', ' ')} UTC" if run.get("created") else "",
    ]
    return " · ".join(fact for fact in facts if fact)


def _verdict(evaluation: Found | None) -> dict[str, str] | None:
    """The sentence, and how it is coloured: by the interval of the difference to the best baseline."""
    baseline = (evaluation or {}).get("baseline") or {}
    if not baseline.get("verdict"):
        return None
    low, high = baseline.get("difference") or (0, 0)
    kind = "better" if low > 0 else "worse" if high < 0 else "open"
    nothing = (evaluation or {}).get("learnt_nothing")
    words = f"{baseline['verdict']} {nothing['words']}" if nothing else baseline["verdict"]
    return {"words": joined(words), "kind": kind}


def _headline(evaluation: Found | None) -> list[dict[str, str]]:
    metrics, intervals = ((evaluation or {}).get(part) or {} for part in ("metrics", "intervals"))
    return [
        {"name": METRICS[name].short, "value": written(metrics[name]), "range": bounds(intervals.get(name))}
        for name in HEADLINE
        if name in metrics
    ]


def _headline_note(prepared: Found | None, evaluation: Found | None) -> str:
    if not evaluation:
        return ""
    divided = (prepared or {}).get("split")
    unseen = ", whose labels neither training nor the choice of the checkpoint has seen" if divided else ""
    units = several(evaluation.get("units", 0), evaluation.get("unit", "row"))
    return f"On {units} of the test side{unseen}. Small: 95 % intervals."


def _resource(name: str) -> str:
    return resources(__package__).joinpath(name).read_text(encoding="utf-8")


def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_resource("report.html.jinja"))
