"""Writes k8s/examples from the chart, for those who apply manifests as they are: python k8s/render.py"""

import sys
from pathlib import Path
from typing import Any

import yaml
from helm_python.chart import Chart

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "sortase"
NAMES = ("cpu", "gpu", "tune")
HEAD = "# Made by k8s/render.py from helm/sortase/ci/{name}-values.yaml\n"


class Dumper(yaml.SafeDumper):
    """Texts of several lines, such as run.yaml in its ConfigMap, as they are."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


Dumper.add_representer(str, _text)


def objects(name: str) -> list[dict[str, Any]]:
    """What the others need first, the RayJob last."""
    values = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    with Chart.load(CHART) as chart:
        texts = chart.render(values=values, name=name, namespace="sortase")
    found = [each for path in sorted(texts) if path.endswith(".yaml") for each in yaml.safe_load_all(texts[path])]
    return sorted((each for each in found if each), key=lambda each: (each["kind"] == "RayJob", each["kind"]))


def rendered(name: str) -> str:
    """The text of one file."""
    return HEAD.format(name=name) + yaml.dump_all(objects(name), Dumper=Dumper, sort_keys=False, width=120)


if __name__ == "__main__":
    for name in NAMES:
        (ROOT / "k8s" / "examples" / f"{name}.yaml").write_text(rendered(name))
        sys.stdout.write(f"k8s/examples/{name}.yaml\n")
