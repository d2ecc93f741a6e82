"""The model card: README.md beside the weights, from what the stages of a run wrote.

https://huggingface.co/docs/hub/model-cards
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ...config.card import is_hub_name
from . import results as sections
from .limits import limits
from .lineage import licence
from .lineage import lineage as _lineage
from .markdown import bullets, classes, code, escaped
from .metadata import metadata
from .usage import usage

Facts = Mapping[str, Any]
FITTING = ("train", "tune")


def card(
    run: Facts,
    prepare: Facts | None,
    evaluation: Facts | None,
    lineage: Facts | None,
    spec: Facts,
    model: Facts | None = None,
) -> str:
    """Metadata and Markdown.

    ``run``, ``prepare`` and ``evaluation`` are run.json, data/prepare.json and evaluation.json; ``spec`` is the
    configuration's section ``card`` as plain data; ``model`` has ``max_length`` and whether a ``tokenizer`` is there.
    """
    prepared, traced = prepare or {}, lineage or {}
    task = _task(run, prepared, evaluation or {})
    base = spec.get("base_model") or base_of(run)
    parts = [f"# {escaped(str(run.get('name') or 'model'))}", *_opening(run, prepared, evaluation, spec, task, base)]
    source = (traced.get("data") or {}).get("source")
    titled = {
        "Use": usage(task, model or {}),
        "Intended use": spec.get("intended_use"),
        "Results": sections.results(evaluation, prepared),
        "Classes, the worst first": sections.each_class(evaluation) if evaluation else "",
        "Calibration": sections.calibration(evaluation) if evaluation else "",
        "Limits": bullets([*map(escaped, spec.get("limits") or []), *limits(run, prepared, evaluation)]),
        "Data": sections.data(prepared, run, spec, source),
        "Split": sections.split(prepared),
        "Training": sections.training(run),
        "Licence": licence(spec),
        "Authors": bullets([escaped(author) for author in spec.get("authors") or []]),
        "Lineage": _lineage(traced, run, _fitted(run)),
    }
    parts += [f"## {title}\n\n{text}" for title, text in titled.items() if text]
    return metadata(run, task, evaluation, spec, base) + "\n" + "\n\n".join(parts) + "\n"


def base_of(run: Facts) -> str | None:
    """The checkpoint where it is a model of the hub: not a URL, and no file or folder that training found."""
    name = _settings(run, "model").get("checkpoint")
    files = (_fitted(run).get("settings") or {}).get("files") or {}
    return name if name and is_hub_name(name) and name not in files else None


def _fitted(run: Facts) -> Facts:
    """The mark of the stage that made the model."""
    marks = run.get("stages") or {}
    return next((marks[stage] for stage in FITTING if marks.get(stage)), {})


def _settings(run: Facts, section: str) -> Facts:
    return (run.get("config") or {}).get(section) or {}


def _task(run: Facts, prepared: Facts, evaluation: Facts) -> str:
    return str(evaluation.get("task") or prepared.get("task") or _settings(run, "labels").get("task") or "sequence")


def _opening(
    run: Facts, prepared: Facts, evaluation: Facts | None, spec: Facts, task: str, base: str | None
) -> Iterator[str]:
    if spec.get("description"):
        yield spec["description"].strip()
    names = (evaluation or {}).get("classes") or prepared.get("classes") or []
    what = "each sequence of tokens" if task == "sequence" else "each token of a sequence"
    words = [f"The model gives {what} one of {classes(len(names)) if names else 'its classes'}."]
    settings, size = _settings(run, "model"), (run.get("training") or {}).get("parameters")
    origin = code(base or str(settings["checkpoint"])) if base or settings.get("checkpoint") else None
    kind = code(str((settings.get("config") or {}).get("model_type", "bert")))
    words.append(f"It was fine-tuned from {origin}" if origin else f"It is a {kind} model, trained from new weights")
    yield " ".join(words) + (f"; it has {size:,} parameters." if size else ".")
