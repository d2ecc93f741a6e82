"""The chart's objects for a submission: the same templates that ``helm install`` uses, rendered without helm."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from .. import storage
from ..config.load import mapping
from ..config.run import Config
from ..errors import ConfigError, MissingExtraError
from .submission import Submission

Object = dict[str, Any]
_TEXTS = dict[str, str]
_POD = {"labels": _TEXTS, "annotations": _TEXTS, "nodeSelector": _TEXTS, "priorityClassName": str}
# What is text among the values: numbers and words such as true are read as they were typed.
VALUES: dict[str, Any] = {
    "run": Config,
    "commonLabels": _TEXTS,
    "imagePullSecrets": list[str],
    "rayVersion": str,
    "image": {"repository": str, "tag": str, "digest": str},
    "job": {"arguments": list[str]},
    "auth": {"secretName": str},
    "storage": {"existingSecret": str, "endpoint": str, "region": str},
    "serviceAccount": {"name": str, "annotations": _TEXTS},
    "queue": {"kueue": str, "volcano": str},
    "networkPolicy": {"operatorNamespace": str},
    "head": _POD,
    "groups": {"*": _POD},
    "extraEnv": [{"name": str, "value": str}],
}


def chart_folder() -> Path:
    """The chart as it is installed with the package, or as it lies in a checkout."""
    here = Path(__file__).resolve()
    places = [here.with_name("chart"), here.parents[3] / "helm" / "sortase"]
    for place in places:
        if (place / "Chart.yaml").is_file():
            return place
    raise ConfigError(f"the chart is in neither of {[str(place) for place in places]}; install sortase again")


def read_values(files: Iterable[str]) -> dict[str, Any]:
    """Values files merged as helm does: later ones win, key by key."""
    merged: dict[str, Any] = {}
    for name in files:
        merged = _merged(merged, mapping(storage.read_text(name), name, VALUES))
    return merged


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(under[key], over[key])
        for key in under.keys() & over.keys()
        if isinstance(under[key], dict) and isinstance(over[key], dict)
    }
    return {**under, **over, **both}


def rendered(submission: Submission, values: dict[str, Any], namespace: str) -> list[Object]:
    """The objects of mode ``job``; ConfigError in Helm's words for values that the chart refuses."""
    try:
        from helm_python.chart import Chart
        from helm_python.errors import HelmError
    except ImportError as error:
        raise MissingExtraError("submitting to Kubernetes renders the chart; pip install 'sortase[submit]'") from error
    if values.get("mode", "job") != "job":
        raise ConfigError(f"submit makes runs of mode job; the values have mode {values['mode']!r}")
    job = {
        **values.get("job", {}),
        "command": submission.command,
        "arguments": list(submission.arguments),
        "attempt": submission.attempt,
    }
    given = {**values, "mode": "job", "run": submission.settings, "job": job}
    try:
        with Chart.load(chart_folder()) as chart:
            texts = chart.render(values=given, name=submission.name, namespace=namespace)
    except HelmError as error:
        raise ConfigError(f"the chart refuses these values: {error}") from error
    found = [
        each for path, text in sorted(texts.items()) if path.endswith(".yaml") for each in yaml.safe_load_all(text)
    ]
    objects = [each for each in found if each]
    for each in objects:
        each["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "sortase"
    return objects
