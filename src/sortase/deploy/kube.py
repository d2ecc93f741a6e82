"""Runs on Kubernetes, as RayJobs of the KubeRay operator."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from ..deadlines import limit, within
from ..errors import ConfigError, InfrastructureError, MissingExtraError, SortaseError
from ..storage.scratch import Scratch
from . import kubeconfig, pods
from .chart import Object
from .rayjob import cluster_of, driver_began, head_of, state_of
from .state import State
from .submission import busy

ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
GROUP, VERSION, KIND = "ray.io", "v1", "rayjobs"
GOING = 60.0  # seconds in which the cluster removes what a deleted RayJob owned
MANAGER, INSTANCE = "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"
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
        given = kubeconfig.load(self.context)
        if given is None:
            words = f"no cluster: there is no kubeconfig at {kubeconfig.places()}"
            if self.context or os.environ.get("KUBECONFIG"):
                raise ConfigError(f"{words}, which KUBECONFIG or --context asks for")
            try:
                config.load_incluster_config()
            except config.ConfigException as error:
                raise ConfigError(f"{words}; set KUBECONFIG") from error
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
        request = {**options, "_request_timeout": limit("kubernetes-answer")}
        with answered(what):
            return within(limit("kubernetes-call"), lambda: call(*arguments, **request))

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
        """Create the RayJob and what goes with it; False where the RayJob was there already and is attached to.

        Nothing that is there is changed. The ConfigMap comes last: without it the head does not start, so none runs
        without its policy, also where this process dies on the way; the same submission again makes what is missing.

        Raises:
            ExistingOutputError: another configuration of the run is being worked on.
            ConfigError: the cluster refuses an object, or has one of its name that belongs to somebody else.
        """
        (job,) = [each for each in objects if each["kind"] == "RayJob"]
        others = sorted((each for each in objects if each is not job), key=lambda each: each["kind"] == "ConfigMap")
        found = self.job(job["metadata"]["name"])
        if found is not None:
            if _is_ours(found) and not state_of(found).is_over:
                self._complete(others, found)
            return False
        for other in self.jobs_of(job["metadata"]["labels"][INSTANCE]):
            if not state_of(other).is_over:
                raise busy(f"RayJob {other['metadata']['name']}")
        for each in others:
            if each["metadata"]["name"] == job["metadata"]["name"]:
                self._wait_for_room(each)
            else:
                self._has_account(each)
        self.try_out(others)
        try:
            made = self._rayjobs("create", job, field_validation="Strict")
        except ConfigError as error:
            if _status(error) == 409:  # somebody else was quicker with the same
                return False
            raise
        try:
            self._complete(others, made)
        except SortaseError:
            self.delete(job["metadata"]["name"])
            raise
        return True

    def _complete(self, others: list[Object], job: Object) -> None:
        """Create what the RayJob needs and does not have. It goes with it, but for an account with a name of its own,
        which clouds know by that."""
        owner = {name: job["metadata"][name] for name in ("name", "uid")}
        references = [{"apiVersion": f"{GROUP}/{VERSION}", "kind": "RayJob", **owner}]
        for each in others:
            own = each["metadata"]["name"] == owner["name"]
            if not own and self._has_account(each):
                continue
            owned = {"ownerReferences": references} if own else {}
            try:
                self._create({**each, "metadata": {**each["metadata"], **owned}})
            except ConfigError as error:
                if _status(error) != 409:
                    raise
                there = self._there(each)
                if own and there is not None and owner["uid"] not in _owners(there):
                    raise _taken(each, there) from error

    def _has_account(self, each: Object) -> bool:
        """One with a name of its own is used as it is, whoever made it, where it says what is wanted."""
        there = self._there(each)
        if there is None:
            return False
        said = there["metadata"].get("annotations") or {}
        wanted = each["metadata"].get("annotations") or {}
        if each["kind"] != "ServiceAccount":
            raise _taken(each, there)
        if odd := sorted(name for name, text in wanted.items() if said.get(name) != text):
            raise ConfigError(
                f"ServiceAccount {each['metadata']['name']} is there already, with another value of "
                f"{', '.join(odd)}; submit changes none: leave serviceAccount.annotations out, or take another name"
            )
        return True

    def _wait_for_room(self, each: Object) -> None:
        """Of an earlier RayJob of this name, which was deleted, it goes by itself, in a moment. Others' stay."""
        deadline = time.monotonic() + GOING
        while (there := self._there(each)) is not None:
            if each["metadata"]["name"] not in _owners(there).values():
                raise _taken(each, there)
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"{each['kind']} {each['metadata']['name']} of a RayJob that was deleted is still there after "
                    f"{GOING:.0f} s; submit again when it is gone"
                )
            time.sleep(0.2)

    def try_out(self, objects: list[Object]) -> None:
        """Let the API server check everything, and keep nothing. ConfigError for what it refuses."""
        for each in objects:
            try:
                self._create(each, dry_run="All")
            except ConfigError as error:
                if _status(error) != 409:  # it is there: submitting attaches, or tells whose it is
                    raise

    def _create(self, each: Object, **options: Any) -> None:
        body = {**each, "metadata": {**each["metadata"], "namespace": self.namespace}}
        self._ask("create", each, body=body, field_manager="sortase", **options)

    def _there(self, each: Object) -> Object | None:
        try:
            return dict(self._ask("get", each, name=each["metadata"]["name"]).to_dict())
        except ConfigError as error:
            if _status(error) == 404:
                return None
            raise

    def _ask(self, verb: str, each: Object, **options: Any) -> Any:
        def call(**further: Any) -> Any:
            return getattr(self._dynamic, verb)(self._kind(each), namespace=self.namespace, **options, **further)

        return self._call(f"{each['kind']} {each['metadata']['name']}", call)

    def _kind(self, each: Object) -> Any:
        from kubernetes.dynamic.exceptions import ResourceNotFoundError

        try:
            return self._dynamic.resources.get(api_version=each["apiVersion"], kind=each["kind"])
        except ResourceNotFoundError as error:
            raise ConfigError(f"the cluster does not know {each['kind']} of {each['apiVersion']}") from error

    @cached_property
    def _kinds(self) -> Scratch:
        """What the client knows of kinds, which by itself it reads from a file that anybody may have written."""
        return Scratch("kinds")

    @cached_property
    def _dynamic(self) -> Any:
        from kubernetes.dynamic import DynamicClient

        return DynamicClient(self._client, cache_file=str(self._kinds.path / "kinds.json"))

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


def _is_ours(found: Object) -> bool:
    return bool((found["metadata"].get("labels") or {}).get(MANAGER) == "sortase")


def _owners(found: Object) -> dict[str, str]:
    """Names of RayJobs by uid."""
    references = found["metadata"].get("ownerReferences") or []
    return {each["uid"]: each["name"] for each in references if each["kind"] == "RayJob"}


def _taken(each: Object, there: Object) -> ConfigError:
    labels = there["metadata"].get("labels") or {}
    whose = f"of {labels[MANAGER]}, release {labels.get(INSTANCE, '?')}" if MANAGER in labels else "of somebody else's"
    return ConfigError(
        f"{each['kind']} {each['metadata']['name']} is there already, {whose}, and is not taken over; "
        "remove it, or take another run name"
    )
