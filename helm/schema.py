"""Writes the chart's values.schema.json from its values.yaml and the schema of run.yaml: python helm/schema.py

Every key of values.yaml, and no other, is allowed; what Kubernetes defines is left to Kubernetes.
"""

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from sortase.config.run import Config

CHART = Path(__file__).parent / "sortase"
FREE = {  # passed on as they are
    *("resources", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "annotations", "labels"),
    *("podSecurityContext", "securityContext", "extraEnv", "extraEnvFrom", "extraVolumes", "extraVolumeMounts"),
    *("imagePullSecrets", "commonLabels", "spotTolerations", "from", "egress"),
}
CHOICES = {
    "mode": ["job", "cluster", "schedule"],
    "auth.mode": ["token", "disabled"],
    "image.pullPolicy": ["Always", "IfNotPresent", "Never"],
    "job.command": ["run", "retrain", "tokenize", "prepare", "train", "tune", "evaluate", "predict", "report"],
    "schedule.concurrencyPolicy": ["Forbid", "Replace", "Allow"],
}
PATTERNS = {"image.digest": "^(sha256:[0-9a-f]{64})?$"}
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}


def described(name: str, value: Any) -> dict[str, Any]:
    if name in CHOICES:
        return {"enum": CHOICES[name]}
    kind = TYPES.get(type(value))
    if name.rpartition(".")[2] in FREE:
        return {"type": kind}
    if isinstance(value, dict):
        inner = {key: described(f"{name}.{key}" if name else key, item) for key, item in value.items()}
        return {"type": "object", "properties": inner, "additionalProperties": False}
    if value is None:
        return {"type": ["number", "null"], "minimum": 0}
    if name in PATTERNS:
        return {"type": kind, "pattern": PATTERNS[name]}
    return {"type": kind, **({"minimum": 0} if kind in ("integer", "number") else {})}


def schema() -> dict[str, Any]:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    made = described("", values)
    run = Config.model_json_schema()
    definitions = run.pop("$defs")
    made["properties"]["run"] = {"anyOf": [{"type": "object", "maxProperties": 0}, {"type": "string"}, run]}
    group = described("groups.train", values["groups"]["train"])
    made["properties"]["groups"] = {"type": "object", "additionalProperties": group}
    made["properties"]["global"] = {"type": "object"}  # Helm's own
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "$defs": definitions}


if __name__ == "__main__":
    (CHART / "values.schema.json").write_text(json.dumps(schema(), indent=1) + "\n")
    sys.stdout.write("written\n")
