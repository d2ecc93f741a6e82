"""k8s/: that it parses, refers to what is there, grants what submitting needs and no more, and follows the chart."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from programs import kubectl

pytest.importorskip("helm_python", reason="pip install helm-python-sdk")

ROOT = Path(__file__).resolve().parents[1]
K8S = ROOT / "k8s"
FOLDERS = [K8S / "base", *sorted(path for path in (K8S / "overlays").iterdir() if path.is_dir())]
RESOURCES = {
    "RayJob": "rayjobs.ray.io",
    "ConfigMap": "configmaps",
    "ServiceAccount": "serviceaccounts",
    "NetworkPolicy": "networkpolicies.networking.k8s.io",
}
MAKES = {"get", "create"}
GRANTED = {
    "rayjobs.ray.io": {*MAKES, "list", "watch", "delete"},
    "configmaps": MAKES,
    "serviceaccounts": MAKES,
    "networkpolicies.networking.k8s.io": MAKES,
    "pods": {"get", "list"},
    "events": {"get", "list"},
    "pods/log": {"get"},
}
UNITS = {"": 1.0, "m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def renderer() -> Any:
    spec = importlib.util.spec_from_file_location("render", K8S / "render.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RENDERER = renderer()
EXAMPLES = [K8S / "examples" / f"{name}.yaml" for name in RENDERER.NAMES]


def documents(path: Path) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(path.read_text()) if each]


def of_kind(kind: str, path: Path) -> dict[str, Any]:
    (found,) = [each for each in documents(path) if each["kind"] == kind]
    return found


def quantity(value: object) -> float:
    found = re.fullmatch(r"([0-9.]+)(\D*)", str(value))
    assert found, value
    return float(found[1]) * UNITS[found[2]]


# ---- the examples are the chart's


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_what_the_chart_makes(path: Path) -> None:
    again = "the chart has changed: python k8s/render.py"
    assert documents(path) == RENDERER.objects(path.stem), again
    assert path.read_text() == RENDERER.rendered(path.stem), again


def test_every_example_is_made_by_the_script() -> None:
    assert sorted((K8S / "examples").iterdir()) == sorted(EXAMPLES)


# ---- kustomize


def test_kustomizations_name_every_file_and_only_files_that_are_there() -> None:
    named = set()
    for folder in FOLDERS:
        (content,) = documents(folder / "kustomization.yaml")
        named.add((folder / "kustomization.yaml").resolve())
        for resource in content["resources"]:
            target = (folder / resource).resolve()
            assert target.is_file() or (target / "kustomization.yaml").is_file(), f"{folder}: {resource}"
            named.add(target)
        for source in content.get("secretGenerator", []):
            assert all((folder / f"{name}.example").is_file() for name in source["envs"]), f"{folder}: {source}"
    lying = {each.resolve() for folder in ("base", "overlays") for each in (K8S / folder).rglob("*.yaml")}
    assert lying <= named


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_kubectl_builds(folder: Path, tmp_path: Path) -> None:
    """From a copy, with the credentials' example as the file that a user writes."""
    program = kubectl(f"kubectl kustomize {folder.relative_to(ROOT)}")
    copy = tmp_path / "k8s"
    shutil.copytree(K8S, copy, ignore=shutil.ignore_patterns("s3.env"))
    for example in copy.rglob("*.env.example"):
        shutil.copy(example, example.with_suffix(""))
    command = [program, "kustomize", str(copy / folder.relative_to(K8S))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    made = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout)}
    assert {kind for kind, _ in made} >= {"Namespace", "ResourceQuota", "LimitRange", "ServiceAccount", "Role"}
    assert made["RoleBinding", "submitter"]["subjects"] == [
        {"kind": "ServiceAccount", "name": "submitter", "namespace": "sortase"}
    ]
    assert {each["metadata"].get("namespace", "sortase") for each in made.values()} == {"sortase"}
    if folder.name == "credentials":
        assert made["Secret", "s3"]["data"].keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


# ---- what the objects say


def test_core_objects_are_valid() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    checked = set()
    for path in [*(K8S / "base").glob("*.yaml"), *(K8S / "overlays" / "pinned").glob("*.yaml"), *EXAMPLES]:
        for each in documents(path):
            if each["kind"] not in ("Kustomization", "RayJob", "PodMonitor"):  # of others' schemas
                validate.validate(each, validate.latest_version(), strict=True)
                checked.add(each["kind"])
    assert checked >= {"Namespace", "ResourceQuota", "LimitRange", "Role", "RoleBinding", "ConfigMap", "NetworkPolicy"}
    assert checked >= {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"}


def test_the_namespace_enforces_the_restricted_standard() -> None:
    labels = of_kind("Namespace", K8S / "base" / "namespace.yaml")["metadata"]["labels"]
    assert labels == {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_quota_has_room_for_each_example(path: Path) -> None:
    """At their most pods; the init containers that KubeRay adds are smaller than what they come before."""
    cluster = of_kind("RayJob", path)["spec"]["rayClusterSpec"]
    groups = [(1, cluster["headGroupSpec"])]
    groups += [(group["maxReplicas"], group) for group in cluster["workerGroupSpecs"]]
    used = {"pods": float(sum(count for count, _ in groups))}
    for count, group in groups:
        for container in group["template"]["spec"]["containers"]:
            resources = container["resources"]
            for name, value in {**resources.get("limits", {}), **resources["requests"]}.items():
                used[f"requests.{name}"] = used.get(f"requests.{name}", 0.0) + count * quantity(value)
            assert quantity(resources["requests"]["cpu"]) >= 0.2
            assert quantity(resources["requests"]["memory"]) >= quantity("256Mi")
    hard = of_kind("ResourceQuota", K8S / "base" / "limits.yaml")["spec"]["hard"]
    assert {name: value for name, value in used.items() if value > quantity(hard[name])} == {}


def test_the_default_requests_refuse_no_pod_that_sets_its_own() -> None:
    """A default limit would come to a container that requests more than it, and its pod would be refused."""
    (limits,) = of_kind("LimitRange", K8S / "base" / "limits.yaml")["spec"]["limits"]
    assert limits.keys() == {"type", "defaultRequest"}
    hard = of_kind("ResourceQuota", K8S / "base" / "limits.yaml")["spec"]["hard"]
    assert {f"requests.{name}" for name in limits["defaultRequest"]} == {"requests.cpu", "requests.memory"}
    assert {name for name in hard if name.startswith("limits.")} == set()


def granted() -> dict[str, set[str]]:
    """Verbs of the submitter by resource, which is named as `kubectl auth can-i` has it."""
    found: dict[str, set[str]] = {}
    for rule in of_kind("Role", K8S / "base" / "submitter.yaml")["rules"]:
        assert rule.keys() == {"apiGroups", "resources", "verbs"}
        for name in (
            f"{resource}.{group}".rstrip(".") for group in rule["apiGroups"] for resource in rule["resources"]
        ):
            found.setdefault(name, set()).update(rule["verbs"])
    return found


def test_the_submitter_may_do_what_submitting_does_and_no_more() -> None:
    assert granted() == GRANTED
    submitter = K8S / "base" / "submitter.yaml"
    binding = of_kind("RoleBinding", submitter)
    assert binding["roleRef"]["name"] == of_kind("Role", submitter)["metadata"]["name"]
    assert [each["name"] for each in binding["subjects"]] == [of_kind("ServiceAccount", submitter)["metadata"]["name"]]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_submitter_may_make_what_the_chart_makes(path: Path) -> None:
    """All but the PodMonitor, which is off by default and for whoever sets up monitoring to grant."""
    kinds = {each["kind"] for each in documents(path)} - {"PodMonitor"}
    assert "RayJob" in kinds
    for kind in kinds:
        assert granted()[RESOURCES[kind]] >= MAKES, kind


def test_operator_and_queue_are_for_the_namespace_of_the_base() -> None:
    name = of_kind("Namespace", K8S / "base" / "namespace.yaml")["metadata"]["name"]
    (operator,) = documents(K8S / "operator" / "values.yaml")
    assert operator["watchNamespace"] == [name]
    queues = K8S / "overlays" / "kueue" / "queues.yaml"
    local, cluster = of_kind("LocalQueue", queues), of_kind("ClusterQueue", queues)
    assert local["metadata"]["namespace"] == name
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert cluster["spec"]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": name}
    flavor = of_kind("ResourceFlavor", queues)["metadata"]["name"]
    for group in cluster["spec"]["resourceGroups"]:
        assert [each["name"] for each in group["flavors"]] == [flavor]
        assert [each["name"] for each in group["flavors"][0]["resources"]] == group["coveredResources"]


def test_no_credentials_are_committed() -> None:
    for path in K8S.rglob("*.yaml"):
        assert not [each for each in documents(path) if each.get("kind") == "Secret"], path
    example = (K8S / "overlays" / "credentials" / "s3.env.example").read_text().split()
    assert all(line.endswith("=") for line in example)
    assert "k8s/overlays/credentials/s3.env" in (ROOT / ".gitignore").read_text().splitlines()
