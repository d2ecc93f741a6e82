"""k8s/base in a live cluster: what its account may do, what its namespace takes, and submitting with nothing more."""

from __future__ import annotations

import functools
import itertools
import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from live import ROOT, small_run, sortase, until

from programs import kubectl

K8S = ROOT / "k8s"
BATCH, RBAC, RAY = "batch", "rbac.authorization.k8s.io", "ray.io"
REFUSED = [  # verb, group, resource
    *[(verb, "", "secrets") for verb in ("get", "list", "watch", "create")],
    *[(verb, "", "pods") for verb in ("create", "delete", "patch")],
    *[("create", "", f"pods/{part}") for part in ("exec", "attach", "portforward", "eviction")],
    *[(verb, "", resource) for verb in ("delete", "list") for resource in ("configmaps", "serviceaccounts")],
    *[("create", "", "serviceaccounts/token"), ("patch", "", "resourcequotas")],
    *[(verb, RAY, "rayclusters") for verb in ("create", "delete", "patch")],
    *[("update", RAY, "rayjobs/status"), ("deletecollection", RAY, "rayjobs")],
    *[("create", BATCH, resource) for resource in ("jobs", "cronjobs")],
    *[("create", RBAC, resource) for resource in ("roles", "rolebindings")],
]


@functools.cache
def program() -> str:
    return kubectl("kubectl apply --server-side -k k8s/base")


def kube(*words: str, given: str | None = None) -> str:
    done = subprocess.run([program(), *words], input=given, capture_output=True, text=True)
    assert done.returncode == 0, f"kubectl {' '.join(words)}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A new one, as k8s/base makes it, by an overlay that gives it another name."""
    if "SORTASE_E2E_NAMESPACE" in os.environ:
        pytest.skip("makes a namespace, and SORTASE_E2E_NAMESPACE says to use one that is there")
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    folder = tmp_path_factory.mktemp("overlay").resolve()
    base = os.path.relpath(K8S / "base", folder)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({"namespace": name, "resources": [base]}))
    try:
        kube("apply", "--server-side", "-k", str(folder))
        until(lambda: "hard" in json.loads(kube("get", "quota", "runs", "-n", name, "-o", "json"))["status"], "a quota")
        yield name
    finally:
        kube("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def account(namespace: str) -> str:
    return f"system:serviceaccount:{namespace}:submitter"


@pytest.fixture
def may(namespace: str) -> Callable[..., bool]:
    """Answers as `kubectl auth can-i VERB RESOURCE --as=the submitter` does, which takes a second for each."""
    from kubernetes import client, config

    config.load_kube_config()
    api: Any = client.AuthorizationV1Api()
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]

    def ask(verb: str, group: str, resource: str, where: str = namespace) -> bool:
        resource, _, part = resource.partition("/")
        asked = client.V1ResourceAttributes(
            verb=verb, group=group, resource=resource, subresource=part, namespace=where
        )
        spec = client.V1SubjectAccessReviewSpec(user=account(namespace), groups=groups, resource_attributes=asked)
        return bool(api.create_subject_access_review(client.V1SubjectAccessReview(spec=spec)).status.allowed)

    return ask


def test_the_submitter_may_do_what_its_role_says_here_and_nothing_else(
    namespace: str, may: Callable[..., bool]
) -> None:
    found = yaml.safe_load_all((K8S / "base" / "submitter.yaml").read_text())
    rules = next(each["rules"] for each in found if each["kind"] == "Role")
    allowed = [
        each for rule in rules for each in itertools.product(rule["verbs"], rule["apiGroups"], rule["resources"])
    ]
    assert len(allowed) > 15
    assert [each for each in allowed if not may(*each)] == []
    assert [each for each in REFUSED if may(*each)] == []
    assert [each for each in allowed if may(*each, where="default")] == []
    told = kube("auth", "can-i", "create", "rayjobs.ray.io", "-n", namespace, f"--as={account(namespace)}")
    assert told.strip() == "yes"


@pytest.mark.parametrize("example", sorted((K8S / "examples").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_namespace_takes_the_pods_of_the_examples(namespace: str, example: Path) -> None:
    """Pod Security, quota and defaults say so in a trial run; the same as root is refused."""
    job = next(each for each in yaml.safe_load_all(example.read_text()) if each["kind"] == "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = {"apiVersion": "v1", "kind": "Pod", **group["template"]}
        pod["metadata"] = {**pod["metadata"], "name": "trial", "namespace": namespace}
        pod["spec"] = {**pod["spec"], "serviceAccountName": "default"}
        command = ["create", "--dry-run=server", "-f", "-", "-o", "json"]
        taken = json.loads(kube(*command, given=json.dumps(pod)))
        given = pod["spec"]["containers"][0]["resources"]
        assert taken["spec"]["containers"][0]["resources"]["requests"].items() >= given["requests"].items()
        pod["spec"] = {**pod["spec"], "securityContext": {"runAsUser": 0}}
        with pytest.raises(AssertionError, match='violates PodSecurity "restricted'):
            kube(*command, given=json.dumps(pod))


def test_a_container_without_requests_gets_them_and_no_limits(namespace: str) -> None:
    """So it passes the quota, and one that requests more than a default is not refused."""
    context = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    containers: list[dict[str, Any]] = [
        {"name": "bare", "image": "any:1", "securityContext": context},
        {"name": "large", "image": "any:1", "securityContext": context, "resources": {"requests": {"cpu": "4"}}},
    ]
    pod_context = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"containers": containers, "securityContext": pod_context}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare", "namespace": namespace}, "spec": spec}
    made = json.loads(kube("create", "--dry-run=server", "-f", "-", "-o", "json", given=json.dumps(pod)))
    resources = {each["name"]: each["resources"] for each in made["spec"]["containers"]}
    assert resources["bare"] == {"requests": {"cpu": "100m", "memory": "128Mi"}}
    assert resources["large"] == {"requests": {"cpu": "4", "memory": "128Mi"}}


def test_a_run_is_submitted_watched_and_cancelled_with_the_submitters_token_alone(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a queue that does not exist, so that it stays suspended and has no pods."""
    config = json.loads(kube("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
    token = kube("create", "token", "submitter", "-n", namespace).strip()
    config["users"] = [{"name": each["name"], "user": {"token": token}} for each in config["users"]]
    (tmp_path / "config").write_text(json.dumps(config))
    run = small_run("bystander", str(tmp_path / "cells.dataset"), str(tmp_path / "runs"))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
    (tmp_path / "values.yaml").write_text(yaml.safe_dump({"queue": {"kueue": "nobodys"}}))
    words = ["-c", str(tmp_path / "run.yaml"), "-f", str(tmp_path / "values.yaml"), "-n", namespace]

    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    name = sortase("submit", *words, "--no-checks", "--detach").stdout.strip()
    assert "attached" in sortase("submit", *words, "--no-checks", "--detach").stderr
    job = json.loads(kube("get", "rayjobs.ray.io", name, "-n", namespace, "-o", "json"))
    assert job["spec"]["suspend"] is True
    assert json.loads(sortase("status", *words, "--json").stdout)["job"]["name"] == name
    with pytest.raises(AssertionError, match="Forbidden"):
        kube("get", "secrets", "-n", namespace)
    sortase("cancel", *words)
    until(
        lambda: not json.loads(kube("get", "rayjobs.ray.io", "-n", namespace, "-o", "json"))["items"], "no RayJob", 60
    )


@pytest.fixture(scope="module")
def pinned(namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same namespace, with the policies of k8s/overlays/pinned and an image and a secret of the test's."""
    text = kube("kustomize", str(K8S / "overlays" / "pinned"))
    mine = [each for each in yaml.safe_load_all(text) if each["kind"].startswith("Validating")]
    mine += [each for each in yaml.safe_load_all(text) if each["metadata"]["name"] == "pinned"]
    for each in mine:
        each["metadata"].pop("namespace", None)
        if each["kind"] == "ConfigMap":
            each["metadata"]["namespace"] = namespace
            continue
        each["metadata"]["name"] += f"-{namespace}"
        if each["kind"] == "ValidatingAdmissionPolicyBinding":
            each["spec"]["policyName"] += f"-{namespace}"
            each["spec"]["paramRef"]["namespace"] = namespace
            each["spec"]["matchResources"]["namespaceSelector"]["matchLabels"] = {NAMESPACE: namespace}
    file = tmp_path_factory.mktemp("pinned") / "pinned.yaml"
    file.write_text(yaml.safe_dump_all(mine))
    try:
        kube("apply", "--server-side", "-f", str(file))
        yield namespace
    finally:
        kube("delete", "-f", str(file), "--ignore-not-found", "--wait=false")


NAMESPACE = "kubernetes.io/metadata.name"
GOOD = f"registry.example.com/team/sortase@sha256:{'0' * 64}"
SECRET = {"secretKeyRef": {"name": "other", "key": "k"}}
BAD: list[tuple[str, Callable[[dict[str, Any]], Any]]] = [
    ("the image", lambda pod: pod["containers"][0].update(image="registry.example.com/team/sortase:latest")),
    ("the image", lambda pod: pod.update(initContainers=[{**pod["containers"][0], "name": "i", "image": "other:1"}])),
    ("the account", lambda pod: pod.update(serviceAccountName="default")),
    ("a secret", lambda pod: pod["containers"][0].update(envFrom=[{"secretRef": {"name": "other"}}])),
    ("a secret", lambda pod: pod["containers"][0]["env"].append({"name": "X", "valueFrom": SECRET})),
    ("a secret", lambda pod: pod["volumes"].append({"name": "x", "secret": {"secretName": "other"}})),
    (
        "a secret",
        lambda pod: pod["volumes"].append({"name": "x", "projected": {"sources": [{"secret": {"name": "other"}}]}}),
    ),
    ("a secret", lambda pod: pod["volumes"].append({"name": "x", "csi": {"driver": "secrets-store.csi.k8s.io"}})),
    ("a secret", lambda pod: pod.update(imagePullSecrets=[{"name": "other"}])),
]


def pinned_job() -> dict[str, Any]:
    job = next(
        each for each in yaml.safe_load_all((K8S / "examples" / "cpu.yaml").read_text()) if each["kind"] == "RayJob"
    )
    job["metadata"].pop("namespace", None)
    cluster = job["spec"]["rayClusterSpec"]
    for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
        pod = group["template"]["spec"]
        pod["serviceAccountName"] = "runs"
        pod["containers"][0]["image"] = GOOD
        pod["containers"][0]["envFrom"] = [{"secretRef": {"name": "s3"}}]
    return dict(job)


def refused(namespace: str, each: dict[str, Any]) -> str:
    """What the API server says against it; nothing is made."""
    command = [program(), "create", "--dry-run=server", "-n", namespace, "-f", "-"]
    done = subprocess.run(command, input=json.dumps(each), capture_output=True, text=True)
    return done.stderr if done.returncode else ""


def test_a_pinned_namespace_takes_no_other_images_accounts_and_secrets(pinned: str) -> None:
    """Of RayJobs when they are made, and of pods, whoever makes them."""
    kube("create", "serviceaccount", "runs", "-n", pinned)
    bad = pinned_job()
    bad["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["serviceAccountName"] = "default"
    until(lambda: "sortase-pinned-runs" in refused(pinned, bad), "a policy", 60)
    assert refused(pinned, pinned_job()) == ""
    template = pinned_job()["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]

    def pod() -> dict[str, Any]:
        made = {"apiVersion": "v1", "kind": "Pod", **json.loads(json.dumps(template))}
        made["metadata"] = {**made["metadata"], "name": "trial"}
        made["metadata"]["labels"]["ray.io/cluster"] = "cells-1"
        token = {"secretKeyRef": {"name": "cells-1", "key": "auth_token"}}  # as the operator gives it
        made["spec"]["containers"][0]["env"].append({"name": "RAY_AUTH_TOKEN", "valueFrom": token})
        return made

    assert refused(pinned, pod()) == ""
    for words, change in BAD:
        odd = pod()
        change(odd["spec"])
        assert f"{words} is none of those" in refused(pinned, odd)
        job = pinned_job()
        for each in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
            change(each["template"]["spec"])
        if "initContainers" not in odd["spec"]:  # which the pods' policy sees
            assert f"{words} is none of those" in refused(pinned, job)
    elsewhere = pinned_job()
    elsewhere["spec"]["clusterSelector"] = {"ray.io/cluster": "another"}
    assert "clusterSelector would run the job in a cluster that is there" in refused(pinned, elsewhere)
