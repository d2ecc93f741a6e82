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
from sortase.storage.cache import cache_size

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


@pytest.mark.parametrize(
    ("scratch", "expected"),
    [
        ("20Gi", 18 * 2**30),
        ("50G", 45 * 10**9),
        ("1.5Ti", 1.35 * 2**40),
        ("21474836480", 19327352832),
        ("7Gi", 6.3 * 2**30),
    ],
)
def test_copies_of_data_stay_below_their_volume(scratch: Any, expected: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod whose volume outgrows its limit is evicted."""
    (group,) = cluster_of(rendered(values_of("cpu", groups={"train": {"scratch": scratch}})))["workerGroupSpecs"]
    pod = group["template"]["spec"]
    told = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    monkeypatch.setenv("SORTASE_CACHE_SIZE", told["SORTASE_CACHE_SIZE"])
    assert cache_size(0) == int(expected)


def test_the_size_of_the_cache_may_be_given() -> None:
    own = {"name": "SORTASE_CACHE_SIZE", "value": "5Gi"}
    for group in cluster_of(rendered(values_of("cpu", extraEnv=[own])))["workerGroupSpecs"]:
        containers = group["template"]["spec"]["containers"]
        assert [item for item in containers[0]["env"] if item["name"] == own["name"]] == [own]


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


ENDPOINT = "https://ghp_hunter22@minio:9000"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        *(
            pytest.param(
                {"extraEnv": [{"name": name, "value": "hunter22"}]}, f"the value of {name} is a secret", id=name
            )
            for name in (
                "AWS_SECRET_ACCESS_KEY",
                "pgpassword",
                "MyApiKey",
                "DB_CONNECTION",
                "GITHUB_TOKEN_1",
                "Credentials",
            )
        ),
        pytest.param(
            {"extraEnv": [{"name": "DB", "value": "postgres://me:hunter22@db/x"}]}, "value of DB is a URL", id="URL"
        ),
        pytest.param({"storage": {"endpoint": ENDPOINT}}, "storage holds a credential", id="endpoint"),
        pytest.param({"run": {"data": {"dataset": "s3://AK:a/hunter22@b/d"}}}, "run holds a credential", id="dataset"),
        pytest.param({"run": {"data": {"dataset": "s3://AK:12345@b/d"}}}, "run holds a credential", id="digits"),
        pytest.param({"run": {"train": {"hub_token": "hunter22"}}}, "run holds a credential", id="setting"),
        pytest.param({"run": {"train": {"x": "https://h/x?X-Amz-Signature=hunter22"}}}, "run holds", id="signature"),
        pytest.param({"job": {"arguments": ["--set", "run.output=s3://a:hunter22@b/x"]}}, "job holds", id="argument"),
    ],
)
def test_secrets_in_values_are_refused_before_they_are_stored(change: dict[str, Any], words: str) -> None:
    values = values_of("cpu")
    for name, inner in change.items():
        values[name] = {**values.get(name, {}), **inner} if isinstance(inner, dict) else inner
    with pytest.raises(HelmError, match=words) as caught:
        rendered(values)
    assert "hunter22" not in str(caught.value)


def test_what_is_no_secret_stays() -> None:
    environment = [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
        {"name": "AWS_SHARED_CREDENTIALS_FILE", "value": "/secrets/credentials"},
        {"name": "HF_ENDPOINT", "value": "http://hub:8080/a@b"},
    ]
    values = values_of("cpu", extraEnv=environment)
    values["run"]["labels"] = {**values["run"].get("labels", {}), "mapping": {"password": 0, "secret": 1}}
    values["run"]["data"] = {"dataset": "hdfs://node:8020/data@v2", "filter": {"token": ["a"]}}
    assert "HF_ENDPOINT" in json.dumps(rendered(values))


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


def policy_of(values: dict[str, Any]) -> dict[str, Any]:
    return dict(of_kind("NetworkPolicy", rendered(values))["spec"])


def test_pods_reach_all_but_the_addresses_of_credentials() -> None:
    import ipaddress

    policy = policy_of(values_of("cpu"))
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    peers = [peer for rule in policy["egress"] for peer in rule["to"]]
    blocks = [peer["ipBlock"] for peer in peers if "ipBlock" in peer]

    def reached(address: str) -> bool:
        inside = [block for block in blocks if ipaddress.ip_address(address) in ipaddress.ip_network(block["cidr"])]
        return any(
            not any(ipaddress.ip_address(address) in ipaddress.ip_network(closed) for closed in block["except"])
            for block in inside
        )

    assert not [address for address in ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254") if reached(address)]
    assert all(map(reached, ("52.92.0.1", "10.0.0.10", "169.254.20.10", "169.254.170.23", "2600:1fa0::1", "fd00::a")))
    assert {"namespaceSelector": {}} in peers, "networks that take blocks for addresses outside the cluster only"
    assert {"podSelector": policy["podSelector"]} in peers


def test_egress_is_a_value_and_its_ports_are_numbers() -> None:
    rules = [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 443, "endPort": 445, "protocol": "TCP"}]}]
    own, *others = policy_of(values_of("cpu", networkPolicy={"egress": rules}))["egress"]
    assert others == rules
    assert own["to"] == [{"podSelector": policy_of(values_of("cpu"))["podSelector"]}]


@pytest.mark.parametrize("name", ["cpu", "existing-cluster", "openshift"])
def test_every_pod_is_in_a_policy_of_the_release(name: str) -> None:
    documents = rendered(values_of(name))
    policies = [each["spec"]["podSelector"]["matchLabels"] for each in documents if each["kind"] == "NetworkPolicy"]
    cluster = cluster_of(documents)
    templates = [cluster["headGroupSpec"]["template"], *(each["template"] for each in cluster["workerGroupSpecs"])]
    templates += [each["spec"]["jobTemplate"]["spec"]["template"] for each in documents if each["kind"] == "CronJob"]
    for template in templates:
        labels = template["metadata"]["labels"]
        assert [selector for selector in policies if selector.items() <= labels.items()], labels


@pytest.mark.parametrize("place", ["commonLabels", "head", "group"])
@pytest.mark.parametrize(
    "label",
    ["app.kubernetes.io/instance", "app.kubernetes.io/name", "sortase.io/group", "ray.io/cluster", "ray.io/node-type"],
)
def test_labels_cannot_take_pods_out_of_their_policy(place: str, label: str) -> None:
    labels = {label: "other"}
    group = {**values_of("cpu")["groups"]["train"], "labels": labels}
    changes: dict[str, dict[str, Any]] = {
        "commonLabels": {"commonLabels": labels},
        "head": {"head": {"labels": labels}},
        "group": {"groups": {"train": group}},
    }
    with pytest.raises(HelmError, match=f"labels: {label} is set by the chart"):
        rendered(values_of("cpu", **changes[place]))
    assert rendered(values_of("cpu", commonLabels={"app.kubernetes.io/part-of": "x", "team": "y"}))


@pytest.mark.parametrize(
    "policy", [{}, {"operatorNamespace": ""}, {"operatorNamespace": "kuberay", "enabled": False}], ids=str
)
def test_an_open_head_is_refused_unless_only_the_operator_reaches_it(policy: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match=r"auth\.mode: disabled .* needs"):
        rendered(values_of("cpu", auth={"mode": "disabled"}, networkPolicy=policy))
    closed = {"operatorNamespace": "kuberay"}
    made = policy_of(values_of("cpu", auth={"mode": "disabled"}, networkPolicy=closed))
    (peer,) = made["ingress"][1]["from"]
    assert peer == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kuberay"}}}


def test_an_image_by_its_digest() -> None:
    digest = f"sha256:{'ab' * 32}"
    documents = rendered(values_of("cpu", image={"repository": "r/sortase", "tag": "1", "digest": digest}))
    assert {each["containers"][0]["image"] for each in pods_of(documents)} == {f"r/sortase@{digest}"}
    assert (
        of_kind("RayJob", documents)["metadata"]["name"]
        != of_kind("RayJob", rendered(values_of("cpu")))["metadata"]["name"]
    )
    with pytest.raises(HelmError, match="digest"):
        rendered(values_of("cpu", image={"digest": "latest"}))


def test_what_goes_with_a_job_has_its_name() -> None:
    """So that two of them share nothing. An account that a cloud knows keeps its name."""
    documents = rendered(values_of("cpu"))
    assert len({each["metadata"]["name"] for each in documents}) == 1
    roles = rendered(values_of("cpu", serviceAccount={"annotations": {"role": "r"}}))
    assert of_kind("ServiceAccount", roles)["metadata"]["name"] == "demo-sortase"
    assert {each["serviceAccountName"] for each in pods_of(roles)} == {"demo-sortase"}
