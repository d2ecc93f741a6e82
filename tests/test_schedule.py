"""What the pod of a schedule does: its policy over RayJobs, against a faked API server."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "helm" / "sortase" / "files" / "create.py"


class Server:
    """The RayJobs of a namespace: those of this CronJob (uid 1), and one of another."""

    def __init__(self, **states: str):
        def job(name: str, state: str, uid: str) -> dict[str, Any]:
            owners = [{"uid": uid}]
            stamp = f"2026-01-0{len(self.jobs) + 1}T00:00:00Z"
            metadata = {"name": name, "ownerReferences": owners, "creationTimestamp": stamp}
            return {"metadata": metadata, "status": {"jobDeploymentStatus": state}}

        self.jobs: list[dict[str, Any]] = []
        self.jobs.append(job("stranger", "Running", "2"))
        for name, state in states.items():
            self.jobs.append(job(name, state, "1"))
        self.done: list[str] = []

    def ask(self, verb: str, group: str, path: str, body: Any = None) -> Any:
        if path.startswith("cronjobs/"):
            return {"metadata": {"name": path.split("/")[1], "uid": "1"}}
        if verb == "GET":
            return {"items": self.jobs}
        if verb == "POST":
            assert body["metadata"]["ownerReferences"][0]["uid"] == "1"
            self.done.append("POST")
            return {"metadata": {"name": "made"}}
        self.done.append(f"{verb} {path.removeprefix('rayjobs/')}")
        return {}


@pytest.fixture
def script(tmp_path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("create", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "rayjob.json").write_text(json.dumps({"metadata": {"generateName": "nightly-"}}))

    def fire(server: Server, policy: str, history: str = "3") -> list[str]:
        class Faked(module.Cluster):  # type: ignore[name-defined, misc]
            def __init__(self) -> None: ...

            def ask(self, *arguments: Any) -> Any:
                return server.ask(*arguments)

        original, module.Cluster = module.Cluster, Faked
        try:
            module.main(str(tmp_path / "rayjob.json"), "nightly", policy, history)
        finally:
            module.Cluster = original
        return server.done

    return fire


@pytest.mark.parametrize(
    ("policy", "done"), [("Forbid", []), ("Replace", ["DELETE a", "POST"]), ("Allow", ["POST"])], ids=str
)
def test_a_run_that_is_not_over(policy: str, done: list[str], script: Any) -> None:
    assert script(Server(a="Running"), policy) == done


def test_runs_of_others_do_not_count(script: Any) -> None:
    assert script(Server(), "Forbid") == ["POST"]
    assert script(Server(a="Complete", b="Failed"), "Forbid") == ["POST"]


def test_the_oldest_finished_runs_go(script: Any) -> None:
    server = Server(a="Complete", b="Failed", c="ValidationFailed", d="Initializing")
    assert script(server, "Forbid", history="1") == ["DELETE a", "DELETE b"]
