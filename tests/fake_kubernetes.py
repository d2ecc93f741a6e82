"""An API server of a namespace `ml`, over HTTP, that keeps RayJobs and notes what is asked of it."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

KINDS = {
    "/api/v1": {"ConfigMap": "configmaps", "ServiceAccount": "serviceaccounts"},
    "/apis/networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "/apis/ray.io/v1": {"RayJob": "rayjobs"},
}
RAYJOBS = "/apis/ray.io/v1/namespaces/ml/rayjobs"
LOG = re.compile(r"/api/v1/namespaces/ml/pods/[^/]+/log")


@dataclass
class Refusal:
    """An answer of its own to requests of a verb whose path ends so."""

    verb: str
    path: str
    status: int
    message: str = "no"


@dataclass
class Wrote:
    verb: str
    kind: str
    query: dict[str, str]
    body: Any


@dataclass
class ApiServer:
    """``steps``: statuses that each look at a RayJob finds, the last one for ever; None: it is gone."""

    address: str = ""
    steps: list[dict[str, Any] | None] = field(default_factory=lambda: [{}])
    jobs: dict[str, Any] = field(default_factory=dict)
    others: dict[tuple[str, str], Any] = field(default_factory=dict)
    pods: list[Any] = field(default_factory=list)
    log: str = ""
    refusals: list[Refusal] = field(default_factory=list)
    wrote: list[Wrote] = field(default_factory=list)
    kuberay: bool = True

    def answer(self, verb: str, url: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(url)
        path, query = parts.path, {name: values[0] for name, values in parse_qs(parts.query).items()}
        for refusal in self.refusals:
            if refusal.verb == verb and path.endswith(refusal.path):
                return refusal.status, {"kind": "Status", "message": refusal.message}
        if verb == "GET":
            return self._read(path)
        kind = next((kind for kinds in KINDS.values() for kind, name in kinds.items() if f"/{name}" in path), path)
        self.wrote.append(Wrote(verb, kind, query, body))
        name = path.rpartition("/")[2] if verb == "DELETE" else body["metadata"]["name"]
        if verb == "POST" and (name in self.jobs if kind == "RayJob" else (kind, name) in self.others):
            return 409, {"kind": "Status", "message": f"{name} already exists"}
        if "dryRun" in query:
            return 201, body
        if kind == "RayJob":
            return self._keep(verb, path, body)
        self.others[kind, name] = body
        return 201, body

    def _keep(self, verb: str, path: str, body: Any) -> tuple[int, Any]:
        if verb == "DELETE":
            return 200, self.jobs.pop(path.rpartition("/")[2])
        body["metadata"] |= {"uid": f"uid-{len(self.jobs) + 1}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        self.jobs[body["metadata"]["name"]] = body
        return 201, body

    def _read(self, path: str) -> tuple[int, Any]:
        if path == "/version":
            return 200, {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        if path == "/api":
            return 200, {"kind": "APIVersions", "versions": ["v1"]}
        known = [path for path in KINDS if self.kuberay or "ray.io" not in path]
        if path == "/apis":
            return 200, {"kind": "APIGroupList", "groups": [_group(path) for path in known if path != "/api/v1"]}
        if path in known:
            return 200, {"kind": "APIResourceList", "resources": [_resource(*each) for each in KINDS[path].items()]}
        if LOG.fullmatch(path):
            return 200, self.log
        if path.endswith(("/pods", "/events")):
            return 200, {"kind": "List", "items": self.pods if path.endswith("/pods") else []}
        if self.kuberay and path == RAYJOBS:
            return 200, {"items": list(self.jobs.values())}
        kinds = {name: kind for kinds in KINDS.values() for kind, name in kinds.items()}
        place, _, name = path.rpartition("/")
        other = self.others.get((kinds.get(place.rpartition("/")[2], ""), name))
        if other is not None:
            return 200, other
        job = self.jobs.get(path.removeprefix(f"{RAYJOBS}/")) if self.kuberay else None
        if job is not None:
            status = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
            if status is not None:
                return 200, {**job, "status": status}
        return 404, {"kind": "Status", "message": f"{path} not found"}


def _group(path: str) -> dict[str, Any]:
    name, version = path.removeprefix("/apis/").split("/")
    preferred = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [preferred], "preferredVersion": preferred}


def _resource(kind: str, name: str) -> dict[str, Any]:
    return {"name": name, "singularName": kind.lower(), "namespaced": True, "kind": kind, "verbs": ["get", "patch"]}


@contextmanager
def api_server() -> Iterator[ApiServer]:
    server = ApiServer()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = yaml.safe_load(self.rfile.read(length)) if length else None
            status, told = server.answer(self.command, self.path, body)
            content = told.encode() if isinstance(told, str) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if isinstance(told, str) else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815 - names of http.server

        def log_message(self, *words: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        server.address = f"http://127.0.0.1:{listener.server_port}"
        try:
            yield server
        finally:
            listener.shutdown()
            thread.join()


def kubeconfig(folder: Path, address: str) -> Path:
    """One with a context of namespace `ml`."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": address}}],
        "users": [{"name": "test", "user": {"token": "t"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "ml"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path
