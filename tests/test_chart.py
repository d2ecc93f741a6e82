"""The chart as Helm renders it: against KubeRay's own schemas, the restricted standard, and what it promises."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from sortase.config.load import parse

helm = pytest.importorskip("helm_python.chart", reason="pip install helm-python-sdk")
from helm_python.errors import HelmError  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "helm" / "sortase"
CRDS = ROOT.parent / "shared" / "crds"
FILES = sorted((CHART / "ci").glob("*-values.yaml"))
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast: the CRDs are megabytes


@cache
def chart() -> Any:
    return helm.Chart.load(CHART)


@cache
def texts(values: str, name: str) -> list[str]:
    made = chart().render(values=json.loads(values), name=name, namespace="ml")
    return [text for path, text in made.items() if path.endswith(".yaml")]


def rendered(values: dict[str, Any], name: str = "demo") -> list[dict[str, Any]]:
    made = texts(json.dumps(values), name)
    documents = [item for text in made for item in yaml.load_all(text, LOADER)]
    return [document for document in documents if document]


@cache
def read(path: Path) -> dict[str, Any]:
    return dict(yaml.load(path.read_text(), LOADER))


def values_of(name: str, **changes: Any) -> dict[str, Any]:
    return copy.deepcopy({**read(CHART / "ci" / f"{name}-values.yaml"), **changes})


def of_kind(kind: str, documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def cluster_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {document["kind"]: document for document in documents}
    if "RayCluster" in kinds:
        return dict(kinds["RayCluster"]["spec"])
    job = kinds.get("RayJob") or json.loads(
        next(document["data"]["rayjob.json"] for document in documents if "rayjob.json" in document.get("data", {}))
    )
    return dict(job["spec"]["rayClusterSpec"])


def pods_of(documents: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    cluster = cluster_of(documents)
    yield cluster["headGroupSpec"]["template"]["spec"]
    for group in cluster["workerGroupSpecs"]:
        yield group["template"]["spec"]
    for document in documents:
        if document["kind"] == "CronJob":
            yield document["spec"]["jobTemplate"]["spec"]["template"]["spec"]


def strict(schema: Any) -> Any:
    """The same schema, in which a key that it does not know is an error."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict) and "type" in schema and "additionalProperties" not in schema:
        made["additionalProperties"] = False
    return made


@cache
def kuberays(kind: str) -> Any:
    """A validator for objects of a kind, by the CRD; the API server itself knows metadata."""
    import jsonschema

    if not CRDS.is_dir():
        pytest.skip(f"KubeRay's CRDs are not in {CRDS}")
    versions = read(CRDS / f"ray.io_{kind.lower()}s.yaml")["spec"]["versions"]
    (version,) = [item for item in versions if item["name"] == "v1"]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    return validator(schema)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_example_is_valid_for_kuberay(path: Path) -> None:
    documents = rendered(read(path))
    inner = [json.loads(item["data"]["rayjob.json"]) for item in documents if "rayjob.json" in item.get("data", {})]
    checked = 0
    for document in [*documents, *inner]:
        if document["apiVersion"] != "ray.io/v1":
            continue
        kuberays(document["kind"]).validate(document)
        checked += 1
    assert checked == 1


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_example_is_valid_for_kubernetes(path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    checked = 0
    for document in rendered(read(path)):
        if document["apiVersion"].partition("/")[0] not in ("ray.io", "monitoring.coreos.com"):
            validate.validate(document, validate.latest_version(), strict=True)
            checked += 1
    assert checked > 1


def test_kuberays_own_schedule_instead() -> None:
    documents = rendered(values_of("openshift", schedule={"rayCronJob": True, "timeZone": "Europe/Berlin"}))
    made = of_kind("RayCronJob", documents)
    kuberays("RayCronJob").validate(made)
    assert made["spec"]["jobTemplate"]["entrypoint"].startswith("'sortase' 'run'")
    assert not [each for each in documents if each["kind"] in ("CronJob", "Role")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_pod_meets_the_restricted_standard(path: Path) -> None:
    documents = rendered(read(path))
    for pod in pods_of(documents):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["securityContext"].get("runAsUser") != 0
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert "memory" in container["resources"]["limits"]
        assert not any("hostPath" in volume for volume in pod["volumes"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_helm_finds_nothing_to_say(path: Path) -> None:
    found = helm.lint(CHART, values=read(path))
    messages = found["messages"] if isinstance(found, dict) else found
    assert not [message for message in messages if message.get("severity") not in ("INFO", 1)], messages


def test_the_run_of_the_values_is_a_valid_run_on_the_groups() -> None:
    documents = rendered(values_of("cpu"))
    config = parse(of_kind("ConfigMap", documents)["data"]["run.yaml"])
    assert config.compute.labels == {"group": "train"}
    assert config.compute.prepare.labels == {"group": "prepare"}
    groups = {group["groupName"]: group for group in cluster_of(documents)["workerGroupSpecs"]}
    assert groups["train"]["labels"] == {"group": "train"}
    searched = parse(of_kind("ConfigMap", rendered(values_of("tune")))["data"]["run.yaml"])
    assert searched.compute.labels == {"group": "tune"}
    own = values_of("cpu")
    own["run"]["compute"]["labels"] = {"pool": "mine"}
    assert parse(of_kind("ConfigMap", rendered(own))["data"]["run.yaml"]).compute.labels == {"pool": "mine"}


def test_another_configuration_is_another_job_and_nothing_else_is() -> None:
    def name(**changes: Any) -> str:
        documents = rendered(values_of("cpu", **changes))
        found = {of_kind(kind, documents)["metadata"]["name"] for kind in ("RayJob", "ConfigMap")}
        assert len(found) == 1
        return str(found.pop())

    changed = values_of("cpu")["run"] | {"train": {"num_train_epochs": 3}}
    assert len({name(), name(run=changed), name(job={"attempt": 2}), name(image={"tag": "other"})}) == 4
    assert name(drainSeconds=90, job={"ttlSecondsAfterFinished": 5}) == name()
    assert name(groups={"train": {"replicas": 3}}) != name(), "the driver is told how many there are"
    assert of_kind("ConfigMap", rendered(values_of("cpu")))["immutable"] is True


@pytest.mark.parametrize(
    ("limit", "cpus", "autoscaling", "most"),
    [("4", None, False, 8), ("1500m", None, False, 4), ("1500m", None, True, 8), ("4", 3, True, 12)],
)
def test_the_driver_knows_what_the_groups_grow_to(limit: str, cpus: int | None, autoscaling: bool, most: int) -> None:
    """As Ray counts: whole CPUs, two pods or up to four."""
    train = {"replicas": 2, "maxReplicas": 4, "cpus": cpus, "resources": {"limits": {"cpu": limit, "memory": "1Gi"}}}
    values = values_of("cpu", groups={"train": train}, autoscaling={"enabled": autoscaling})
    config = parse(of_kind("ConfigMap", rendered(values))["data"]["run.yaml"])
    assert config.compute.most == {"CPU": most}


def test_words_of_the_command_are_quoted() -> None:
    documents = rendered(values_of("cpu", job={"arguments": ["--set", "run.name=it's; ls $HOME"]}))
    import shlex

    assert shlex.split(of_kind("RayJob", documents)["spec"]["entrypoint"])[-1] == "run.name=it's; ls $HOME"


def test_spot_and_gpu_groups() -> None:
    spot = cluster_of(rendered(values_of("spot")))
    (group,) = spot["workerGroupSpecs"]
    pod = group["template"]["spec"]
    drain = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert pod["terminationGracePeriodSeconds"] > float(drain["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
    assert {"key": "spot", "operator": "Exists"} in pod["tolerations"]
    assert "tolerations" not in spot["headGroupSpec"]["template"]["spec"]
    assert spot["enableInTreeAutoscaling"] is True
    (group,) = cluster_of(rendered(values_of("gpu")))["workerGroupSpecs"]
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert group["rayStartParams"]["num-gpus"] == "1"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mod": "job"}, "'mod' not allowed"),
        ({"mode": "jobs"}, "must be one of"),
        ({"groups": {"train": {"gpu": 1}}}, "'gpu' not allowed"),
        ({"run": {"run": {"name": "x"}, "trian": {}}}, "'trian' not allowed"),
        ({"run": {}}, "needs run"),
    ],
)
def test_mistakes_are_refused_before_anything_is_made(change: dict[str, Any], words: str) -> None:
    with pytest.raises(HelmError, match=words):
        rendered(values_of("cpu", **change))


def test_names_that_kuberay_cannot_take_are_refused() -> None:
    documents = rendered(values_of("cpu"), name="d" * 30)
    assert len(of_kind("RayJob", documents)["metadata"]["name"]) <= 47
    with pytest.raises(HelmError, match="too long"):
        rendered(values_of("cpu"), name="d" * 31)


def test_the_schema_is_that_of_the_values_and_of_runs() -> None:
    """After a change: python helm/schema.py"""
    spec = importlib.util.spec_from_file_location("chart_schema", ROOT / "helm" / "schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert json.loads((CHART / "values.schema.json").read_text()) == json.loads(json.dumps(module.schema()))
