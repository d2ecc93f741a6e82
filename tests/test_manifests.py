"""k8s/: that it parses, refers to what is there, grants what submitting needs and no more, and follows the chart."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("helm_python", reason="pip install helm-python-sdk")

K8S = Path(__file__).resolve().parents[1] / "k8s"
KUSTOMIZATIONS = sorted(K8S.rglob("kustomization.yaml"))
PLURALS = {"RayJob": "rayjobs", "ConfigMap": "configmaps", "ServiceAccount": "serviceaccounts"}
PLURALS |= {"NetworkPolicy": "networkpolicies"}


def renderer() -> Any:
    spec = importlib.util.spec_from_file_location("render", K8S / "render.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


@pytest.mark.parametrize("name", renderer().NAMES)
def test_examples_are_what_the_chart_makes(name: str) -> None:
    assert (K8S / "examples" / f"{name}.yaml").read_text() == renderer().rendered(name), "run: python k8s/render.py"


def test_kustomizations_name_every_file_and_only_files_that_are_there() -> None:
    named = {path.resolve() for path in KUSTOMIZATIONS}
    for path in KUSTOMIZATIONS:
        (content,) = documents(path)
        for resource in content["resources"]:
            target = (path.parent / resource).resolve()
            assert target.is_file() or (target / "kustomization.yaml").is_file(), f"{path}: {resource}"
            named.add(target)
    lying = {each.resolve() for folder in ("base", "overlays") for each in (K8S / folder).rglob("*.yaml")}
    assert lying <= named


def test_core_objects_are_valid() -> None:
    validate = pytest.importorskip("kubernetes_validate")
    checked = 0
    for path in [*(K8S / "base").glob("*.yaml"), *(K8S / "examples").glob("*.yaml")]:
        for each in documents(path):
            if each.get("kind") not in ("Kustomization", "RayJob", "PodMonitor"):
                validate.validate(each, validate.latest_version(), strict=True)
                checked += 1
    assert checked > 10


def test_the_submitter_may_do_what_submitting_does_and_no_more() -> None:
    (role,) = [each for each in documents(K8S / "base" / "submitter.yaml") if each["kind"] == "Role"]
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    for each in documents(K8S / "examples" / "cpu.yaml"):
        group = each["apiVersion"].rpartition("/")[0]
        assert {"get", "create", "patch"} <= granted[group, PLURALS[each["kind"]]]
    assert granted["ray.io", "rayjobs"] >= {"list", "delete"}
    assert {resource for _, resource in granted} == {*PLURALS.values(), "pods", "events", "pods/log"}
    assert all("*" not in verbs for verbs in granted.values())
    assert granted["", "pods"] == {"get", "list"}


def test_no_credentials_are_committed() -> None:
    for path in K8S.rglob("*"):
        if path.is_file() and path.suffix == ".yaml":
            assert not [each for each in documents(path) if each.get("kind") == "Secret"], path
    example = (K8S / "overlays" / "credentials" / "s3.env.example").read_text().split()
    assert all(line.endswith("=") for line in example)
