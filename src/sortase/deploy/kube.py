"""Runs on Kubernetes, as RayJobs of the KubeRay operator."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..errors import ConfigError, InfrastructureError, MissingExtraError
from . import pods
from .chart import Object
from .rayjob import cluster_of, driver_began, head_of, state_of
from .state import State
from .submission import busy

ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
GROUP, VERSION, KIND = "ray.io", "v1", "rayjobs"
Result = TypeVar("Result")
Moment = tuple[int, str]


@contextmanager
def answered(what: str) -> Iterator[None]:
    """The API server's errors in words: a refusal is the configuration's, silence the cluster's."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        words = f"{what}: the cluster answers {error.status} {error.reason}: {_message(error)}"
        if error.status in (400, 403, 404, 409, 422):
            raise ConfigError(words) from error
        raise InfrastructureError(words) from error
    except (HTTPError, OSError) as error:
        raise InfrastructureError(f"{what}: the cluster does not answer: {error}") from error


def _message(error: Any) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.body)


@dataclass
class Kubernetes:
    """A namespace of a cluster. ``context`` of the kubeconfig: by default the current one; in a pod, its account."""

    context: str | None = None
    namespace: str = ""
    _last_seen: Moment = field(default=(0, ""), init=False)
    _asked: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        try:
            from kubernetes import config
        except ImportError as error:
            raise MissingExtraError("Kubernetes needs the extra 'submit': pip install 'sortase[submit]'") from error
        try:
            config.load_kube_config(context=self.context)
            contexts, active = config.list_kube_config_contexts()
            chosen = next((each for each in contexts if each["name"] == self.context), active)
            given = chosen["context"].get("namespace")
        except config.ConfigException as error:
            try:
                config.load_incluster_config()
            except config.ConfigException:
                raise ConfigError(f"no cluster: {error}; set KUBECONFIG, or --context") from error
            given = ACCOUNT_NAMESPACE.read_text().strip()
        self.namespace = self.namespace or given or "default"

    @cached_property
    def _client(self) -> Any:
        from kubernetes import client

        configuration = client.Configuration.get_default_copy()
        configuration.retries = 3
        return client.ApiClient(configuration)

    @cached_property
    def _objects(self) -> Any:
        from kubernetes import client

        return client.CustomObjectsApi(self._client)

    @cached_property
    def _core(self) -> Any:
        from kubernetes import client

        return client.CoreV1Api(self._client)

    def _call(self, what: str, call: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        with answered(what):
            return call(*arguments, _request_timeout=30, **options)

    def job(self, name: str) -> Object | None:
        try:
            return dict(self._rayjobs("get", name))
        except ConfigError as error:
            if _status(error) == 404:
                self._require_kuberay()
                return None
            raise

    def _rayjobs(self, verb: str, *arguments: Any, **options: Any) -> Any:
        call = getattr(self._objects, f"{verb}_namespaced_custom_object")
        return self._call(
            f"RayJobs of namespace {self.namespace}", call, GROUP, VERSION, self.namespace, KIND, *arguments, **options
        )

    def _require_kuberay(self) -> None:
        """A cluster without the operator answers 404 to everything."""
        try:
            self._rayjobs("list", limit=1)
        except ConfigError as error:
            if _status(error) == 404:
                raise ConfigError("the cluster has no RayJobs: install the KubeRay operator, 1.6 or later") from error
            raise

    def jobs_of(self, release: str) -> list[Object]:
        """All RayJobs of a run, newest last."""
        found = self._rayjobs(
            "list", label_selector=f"app.kubernetes.io/name=sortase,app.kubernetes.io/instance={release}"
        )
        return sorted(found["items"], key=lambda job: str(job["metadata"]["creationTimestamp"]))

    def submit(self, objects: list[Object]) -> bool:
        """Create what is not there; False where the RayJob was there already and is attached to.

        Raises:
            ExistingOutputError: another configuration of the run is being worked on.
        """
        (job,) = [each for each in objects if each["kind"] == "RayJob"]
        name = job["metadata"]["name"]
        if self.job(name) is not None:
            return False
        for other in self.jobs_of(job["metadata"]["labels"]["app.kubernetes.io/instance"]):
            if not state_of(other).is_over:
                raise busy(f"RayJob {other['metadata']['name']}")
        others = [each for each in objects if each is not job]
        for each in others:
            self._apply(each)
        try:
            made = self._rayjobs("create", job, field_validation="Strict")
        except ConfigError as error:
            if _status(error) == 409:  # somebody else was quicker with the same
                return False
            raise
        owner = {name: made["metadata"][name] for name in ("name", "uid")}
        for each in others:
            self._apply(each, owner={"apiVersion": f"{GROUP}/{VERSION}", "kind": "RayJob", **owner})
        return True

    def try_out(self, objects: list[Object]) -> None:
        """Let the API server check everything, and keep nothing. ConfigError for what it refuses."""
        for each in objects:
            self._apply(each, dry=True)

    def _apply(self, each: Object, owner: Object | None = None, dry: bool = False) -> None:
        """Server-side: what is there already is taken over, and goes with the RayJobs that own it. Always whole: it may
        have gone with an earlier owner a moment ago."""
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        what = f"{each['kind']} {each['metadata']['name']}"
        body = {**each, "metadata": {**each["metadata"], "namespace": self.namespace}}
        manager = "sortase"
        if owner is not None:
            manager = f"sortase-{owner['uid']}"  # each owner by a manager of its own: they add up
            body["metadata"]["ownerReferences"] = [owner]
        with answered(what):
            try:
                resource = self._dynamic.resources.get(api_version=each["apiVersion"], kind=each["kind"])
            except ResourceNotFoundError as error:
                raise ConfigError(f"the cluster does not know {each['kind']} of {each['apiVersion']}") from error
            self._dynamic.server_side_apply(
                resource,
                body=body,
                namespace=self.namespace,
                field_manager=manager,
                force_conflicts=True,
                **({"dry_run": "All"} if dry else {}),
            )

    @cached_property
    def _dynamic(self) -> Any:
        from kubernetes.dynamic import DynamicClient

        return DynamicClient(self._client)

    def delete(self, name: str) -> None:
        self._rayjobs("delete", name, propagation_policy="Background")

    def state(self, name: str) -> State:
        job = self.job(name)
        if job is None:
            return State("absent", f"RayJob {self.namespace}/{name} does not exist")
        state = state_of(job)
        of_job = self._pods(cluster_of(job))
        troubles: tuple[str, ...] = ()
        if not state.is_over:
            starts = [name, *filter(None, [cluster_of(job)])]
            troubles = pods.troubles(of_job, self._events(), starts)
        return State(state.phase, state.words, state.exit_code, pods.counted(of_job), troubles)

    def _pods(self, cluster: str | None) -> list[Any]:
        if cluster is None:
            return []
        listed = self._call(
            "pods", self._core.list_namespaced_pod, self.namespace, label_selector=f"ray.io/cluster={cluster}"
        )
        return list(listed.items)

    def _events(self) -> list[Any]:
        return list(self._call("events", self._core.list_namespaced_event, self.namespace).items)

    def new_log(self, name: str) -> str:
        """What the head's log holds beyond the last call: the driver's lines. Empty where there is no head."""
        job = self.job(name) or {}
        head, begun = head_of(job), driver_began(job)
        if head is None or begun is None:  # before, Ray tells how it starts
            return ""
        self._last_seen = max(self._last_seen, moment(begun))
        since = {"since_seconds": math.ceil(time.time() - self._asked) + 5} if self._asked else {}
        asked = time.time()
        try:
            text = self._call(
                f"the log of pod {head}",
                self._core.read_namespaced_pod_log,
                *(head, self.namespace),
                container="ray-head",
                timestamps=True,
                **since,
            )
        except ConfigError as error:
            if _status(error) in (400, 404):  # its container waits, or the pod is gone
                return ""
            raise
        self._asked = asked
        return "".join(self._unseen(text))

    def _unseen(self, text: str) -> Iterator[str]:
        """Lines after the last one seen; each begins with the time at which the node took it."""
        before = self._last_seen
        for line in text.splitlines():
            stamp, _, words = line.partition(" ")
            if moment(stamp) > before:
                self._last_seen = max(self._last_seen, moment(stamp))
                yield words + "\n"


def moment(stamp: str) -> Moment:
    """A time in RFC 3339 as seconds and the digits of nanoseconds, whose last zeros may be left out."""
    found = re.fullmatch(r"([^.]+?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", stamp)
    if found is None:
        return (0, "")
    seconds = datetime.fromisoformat(found[1] + found[3].replace("Z", "+00:00")).timestamp()
    return (int(seconds), (found[2] or "").ljust(9, "0"))


def _status(error: Exception) -> int | None:
    return getattr(error.__cause__, "status", None)
