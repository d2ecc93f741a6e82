"""The metadata at the head of a model card, as the Hugging Face hub reads it.

Keys: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from ...config.metrics import METRICS
from .results import uncertain

PIPELINES = {"sequence": "text-classification", "token": "token-classification"}
_LANGUAGE = re.compile(r"[a-z]{2,3}|code|multilingual")
_DATASET = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


class _Dumper(yaml.SafeDumper):
    """No references: the hub's readers want plain values."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def metadata(
    run: Mapping[str, Any], task: str, evaluation: Mapping[str, Any] | None, spec: Mapping[str, Any], base: str | None
) -> str:
    """The block between the ``---`` lines, with them."""
    data_name = spec.get("data_name")
    results = _results(evaluation) if evaluation else []
    found = {
        **_languages(spec.get("language") or []),
        "license": spec.get("license"),
        "license_name": spec.get("license_name"),
        "license_link": spec.get("license_link"),
        "library_name": "transformers",
        "pipeline_tag": PIPELINES[task],
        "tags": list(dict.fromkeys([*(spec.get("tags") or []), "sortase"])),
        "base_model": base,
        "datasets": [data_name] if data_name and _DATASET.fullmatch(data_name) else None,
        "metrics": list(dict.fromkeys(result["type"] for result in results)),
    }
    if evaluation and results:
        index = {"task": {"type": PIPELINES[task]}, "dataset": _dataset(run, evaluation, data_name), "metrics": results}
        found["model-index"] = [{"name": str(run.get("name") or "model"), "results": [index]}]
    filled = {key: value for key, value in found.items() if value}
    text = yaml.dump(filled, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
    return f"---\n{text}---\n"


def _languages(codes: Sequence[str]) -> dict[str, list[str]]:
    """The hub takes codes of a language alone; scripts and regions have a key of their own."""
    longer = [code for code in codes if not _LANGUAGE.fullmatch(code)]
    alone = [code.partition("-")[0] if code in longer else code for code in codes]
    return {"language": list(dict.fromkeys(alone)), "language_bcp47": longer}


def _results(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each metric that is defined, with its interval."""
    values, intervals = evaluation.get("metrics") or {}, evaluation.get("intervals") or {}
    results = []
    for name, metric in METRICS.items():
        value = values.get(name)
        if metric.hub is None or value is None or not math.isfinite(value):
            continue
        kind, words, args = metric.hub
        interval = uncertain(intervals.get(name))
        bounds = {"interval_95": [float(bound) for bound in interval]} if interval else {}
        result: dict[str, Any] = {"type": kind, "value": float(value), "name": words}
        results.append({**result, "args": {**args, **bounds}} if args or bounds else result)
    return results


def _dataset(run: Mapping[str, Any], evaluation: Mapping[str, Any], name: str | None) -> dict[str, Any]:
    """Which data was measured, and how much of it: ``type`` is an identifier, ``name`` is for people."""
    shown = name or f"data of {run.get('name') or 'the run'}"
    unit, sizes = evaluation.get("unit", "row"), {"rows": int(evaluation.get("rows", 0))}
    if unit != "row":
        sizes[f"{unit}s"] = int(evaluation.get("units", 0))
    plain = re.sub(r"[^\w.-]+", "-", shown, flags=re.ASCII).strip("-").lower() or "data"
    kind = shown if _DATASET.fullmatch(shown) else plain
    return {"name": shown, "type": kind, "split": "test", "args": sizes}
