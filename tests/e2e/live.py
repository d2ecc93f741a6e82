"""What the end-to-end tests do to a live cluster, and what they ask of it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from s3 import KEYS, REGION

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "sortase"
IMAGE = os.environ.get("SORTASE_E2E_IMAGE", "sortase:dev")
SMALL = {"requests": {"cpu": "100m", "memory": "768Mi"}, "limits": {"cpu": "2", "memory": "3Gi"}}
POD = {"resources": SMALL, "sharedMemory": "256Mi", "scratch": "2Gi"}
MODEL = {
    "model_type": "bert",
    "vocab_size": 60,
    "pad_token_id": 0,
    "max_position_embeddings": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}


class Cluster:
    """The cluster that KUBECONFIG names, and one namespace in it."""

    def __init__(self, namespace: str):
        from kubernetes import client, config

        config.load_kube_config()
        self.namespace = namespace
        self.core = client.CoreV1Api()
        self.objects = client.CustomObjectsApi()
        self.batch = client.BatchV1Api()

    def rayjobs(self, release: str | None = None) -> list[dict[str, Any]]:
        """All, or those of a release, or of a run that was submitted under this name."""
        selector = f"app.kubernetes.io/instance={release}" if release else ""
        return list(
            self.objects.list_namespaced_custom_object(
                "ray.io", "v1", self.namespace, "rayjobs", label_selector=selector
            )["items"]
        )

    def rayjob(self, name: str) -> dict[str, Any]:
        return dict(self.objects.get_namespaced_custom_object("ray.io", "v1", self.namespace, "rayjobs", name))

    def clusters(self) -> list[dict[str, Any]]:
        return list(self.objects.list_namespaced_custom_object("ray.io", "v1", self.namespace, "rayclusters")["items"])

    def pods(self, selector: str = "") -> list[Any]:
        return list(self.core.list_namespaced_pod(self.namespace, label_selector=selector).items)

    def head(self) -> Any:
        (pod,) = [pod for pod in self.pods("ray.io/node-type=head") if pod.metadata.deletion_timestamp is None]
        return pod

    def workers(self, group: str) -> list[Any]:
        pods = self.pods(f"ray.io/group={group}")
        return [pod for pod in pods if pod.metadata.deletion_timestamp is None and pod.status.phase == "Running"]

    def delete_pod(self, name: str) -> None:
        self.core.delete_namespaced_pod(name, self.namespace)

    def ended(self, name: str, seconds: float = 600) -> dict[str, Any]:
        """The RayJob's status when it has ended."""

        def status() -> dict[str, Any] | None:
            found = self.rayjob(name).get("status", {})
            return found if found.get("jobDeploymentStatus") in ("Complete", "Failed") else None

        return dict(until(status, f"the end of RayJob {name}", seconds, self.describe))

    def log(self, pod: str, container: str) -> str:
        return str(self.core.read_namespaced_pod_log(pod, self.namespace, container=container))

    def describe(self) -> str:
        """For the message of a test that failed: pods and the newest events."""
        lines = [f"{pod.metadata.name} {pod.status.phase}" for pod in self.pods()]
        events = self.core.list_namespaced_event(self.namespace).items
        events.sort(key=lambda event: str(event.last_timestamp or event.event_time or ""))
        lines += [f"{event.involved_object.name}: {event.reason}: {event.message}" for event in events[-15:]]
        jobs = self.objects.list_namespaced_custom_object("ray.io", "v1", self.namespace, "rayjobs")["items"]
        lines += [f"{job['metadata']['name']}: {job.get('status')}" for job in jobs]
        return "\n".join(lines)


def until(
    condition: Callable[[], Any], what: str, seconds: float = 300, describe: Callable[[], str] = lambda: ""
) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen in {seconds:.0f} s\n{describe()}")
        time.sleep(0.5)
    return found


@contextmanager
def restricted_namespace() -> Iterator[str]:
    """A namespace that enforces the restricted standard and holds the bucket's credentials as the secret ``s3``."""
    from kubernetes import client, config

    config.load_kube_config()
    core = client.CoreV1Api()
    given = os.environ.get("SORTASE_E2E_NAMESPACE")
    name = given or f"e2e-{uuid.uuid4().hex[:8]}"
    if given:
        core.delete_collection_namespaced_secret(name, field_selector="metadata.name=s3")
    else:
        _create(core, name)
    core.create_namespaced_secret(name, client.V1Secret(metadata=client.V1ObjectMeta(name="s3"), string_data=KEYS))
    try:
        yield name
    finally:
        if not given:
            core.delete_namespace(name)


def _create(core: Any, name: str) -> None:
    from kubernetes import client

    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name, labels=labels)))


@contextmanager
def released(namespace: str) -> Iterator[Any]:
    """Helm on this namespace; what it has installed is uninstalled afterwards."""
    from helm_python.config import Config

    with Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=namespace) as helm:
        try:
            yield helm
        finally:
            for release in helm.list(all_states=True):
                helm.uninstall(release["name"])


def values(run: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The chart's values for a small run on small pods."""
    repository, _, tag = IMAGE.partition(":")
    further = os.environ.get("SORTASE_E2E_VALUES")
    return {
        **(yaml.safe_load(Path(further).read_text()) if further else {}),
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "run": run,
        "storage": {"existingSecret": "s3", "endpoint": os.environ["AWS_ENDPOINT_URL"], "region": REGION},
        "drainSeconds": 20,
        "head": POD,
        "groups": {"train": {**POD, "replicas": 2, "cpus": 1}, "prepare": {"enabled": False}},
        **changes,
        "job": {"backoffLimit": 0, "ttlSecondsAfterFinished": 1, **changes.get("job", {})},
    }


PREPARING = {"prepare": {**POD, "enabled": True, "cpus": 1}}


def small_run(name: str, cells: str, output: str, **sections: Any) -> dict[str, Any]:
    """A run of seconds: two workers on 120 rows of at most 40 tokens."""
    settings: dict[str, Any] = {
        "run": {"name": name, "output": output},
        "data": {"dataset": cells},
        "labels": {"task": "sequence", "column": "cell_type"},
        "model": {"config": MODEL},
        "train": {"num_train_epochs": 2, "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 5},
        "evaluate": {"bootstrap": 20},
        "compute": {"workers": 2, "device": "cpu"},
    }
    names = [*settings, *(name for name in sections if name not in settings)]
    return {section: {**settings.get(section, {}), **sections.get(section, {})} for section in names}


def sortase(*words: str, seconds: float = 600, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """The command as a user types it; its output is shown when it ends otherwise than expected."""
    done = subprocess.run([sys.executable, "-m", "sortase", *words], capture_output=True, text=True, timeout=seconds)
    if code is not None and done.returncode != code:
        raise AssertionError(f"sortase {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


@contextmanager
def submitted(*words: str) -> Iterator[subprocess.Popen[str]]:
    """`sortase submit` under way; its output is in ``stdout``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sortase", "submit", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def ended_with(process: subprocess.Popen[str], seconds: float = 600) -> tuple[int, str]:
    output, _ = process.communicate(timeout=seconds)
    return process.returncode, output


def events(folder: str) -> list[dict[str, Any]]:
    """The timeline of a run so far."""
    from sortase.runs.events import read_events
    from sortase.runs.folder import RunFolder

    return read_events(RunFolder(folder))


def last_step(folder: str) -> int:
    return max((line.get("step", 0) for line in events(folder)), default=0)


def weights(folder: str) -> dict[str, Any]:
    import safetensors.torch

    from sortase import storage

    return dict(safetensors.torch.load(storage.read_bytes(f"{folder}/model/model.safetensors")))
