"""Writes k8s/examples from the chart, for those who apply manifests as they are: python k8s/render.py"""

import sys
from pathlib import Path

import yaml
from helm_python.chart import Chart

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "sortase"
NAMES = ("cpu", "gpu", "tune")
HEAD = "# Made by k8s/render.py from helm/sortase/ci/{name}-values.yaml\n"


def rendered(name: str) -> str:
    """One file: what the others need first, the RayJob last."""
    values = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    with Chart.load(CHART) as chart:
        texts = chart.render(values=values, name=name, namespace="sortase")
    found = [each for path in sorted(texts) if path.endswith(".yaml") for each in yaml.safe_load_all(texts[path])]
    objects = sorted((each for each in found if each), key=lambda each: (each["kind"] == "RayJob", each["kind"]))
    return HEAD.format(name=name) + yaml.safe_dump_all(objects, sort_keys=False, width=120)


if __name__ == "__main__":
    for name in NAMES:
        (ROOT / "k8s" / "examples" / f"{name}.yaml").write_text(rendered(name))
        sys.stdout.write(f"k8s/examples/{name}.yaml\n")
