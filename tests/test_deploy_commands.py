"""submit, plan, status, logs and cancel as a user types them, against an API server that is faked over HTTP."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster_data import wait_until
from fake_kubernetes import ApiServer, Refusal, api_server, kubeconfig
from makers import architecture, dataset
from patience import PATIENCE
from sortase import storage
from sortase.cli import main, parser
from sortase.runs.folder import RunFolder

pytest.importorskip("helm_python", reason="pip install helm-python-sdk")
pytest.importorskip("kubernetes", reason="pip install kubernetes")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

BEFORE = ["ServiceAccount", "ConfigMap", "NetworkPolicy"]
HEAD = {"head": {"podName": "x-head"}}
RUNNING: dict[str, Any] = {
    "jobDeploymentStatus": "Running",
    "jobStatus": "RUNNING",
    "rayClusterName": "x",
    "rayClusterStatus": HEAD,
    "rayJobInfo": {"startTime": "2026-01-01T00:00:00Z"},
}
DONE: dict[str, Any] = {**RUNNING, "jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}
PENDING = {
    "metadata": {"name": "x-head", "labels": {"ray.io/node-type": "head"}},
    "status": {
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes: 1 Insufficient cpu"}],
    },
}


def failed(code: int) -> dict[str, Any]:
    words = f"Job entrypoint command failed with exit code {code}, last available logs"
    return {**RUNNING, "jobDeploymentStatus": "Failed", "jobStatus": "FAILED", "reason": "AppFailed", "message": words}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with api_server() as made:
        path = kubeconfig(tmp_path, made.address)
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
        monkeypatch.setattr("sortase.deploy.follow.EVERY", 0.01)
        with tempfile.TemporaryDirectory(dir=tmp_path) as temporary, monkeypatch.context() as patch:
            patch.setattr("tempfile.tempdir", temporary)
            yield made
            assert not list(Path(temporary).glob("*.json"))  # what another user may have written, or reads


def settings(output: str) -> dict[str, Any]:
    return {
        "run": {"name": "x", "output": output},
        "data": {"dataset": f"{output}/cells.dataset"},
        "labels": {"column": "kind"},
        "model": {"config": architecture()},
    }


@pytest.fixture
def run_yaml(tmp_path: Path) -> str:
    """Paths are those of pods, and are not looked at from here."""
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings(f"{tmp_path}/runs")))
    return str(tmp_path / "run.yaml")


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(f"{tmp_path}/runs/x")


def test_a_run_is_submitted_and_followed_to_its_end(
    server: ApiServer, run_yaml: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps = [{"jobDeploymentStatus": "Initializing"}, RUNNING, RUNNING, RUNNING, RUNNING, DONE]
    server.log = "2025-12-31T23:59:59Z before the driver\n2026-01-01T00:00:01.5Z one\n2026-01-01T00:00:02Z two\n"
    assert main(["submit", "-c", run_yaml]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{folder.url}\none\ntwo\n"
    assert "waiting for the cluster's pods\nrunning\nsucceeded" in shown.err
    tried = [each for each in server.wrote if each.query.get("dryRun")]
    assert sorted(each.kind for each in tried) == sorted(BEFORE)
    created, *made = server.wrote[len(tried) :]
    assert (created.verb, created.kind, created.query["fieldValidation"]) == ("POST", "RayJob", "Strict")
    assert made[-1].kind == "ConfigMap"
    assert sorted(each.kind for each in made) == sorted(BEFORE)
    assert {each.verb for each in server.wrote} == {"POST"}
    for each in made:
        (owner,) = each.body["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("RayJob", created.body["metadata"]["name"], "uid-1")
        assert each.body["metadata"]["name"] == owner["name"]
        assert each.body["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "sortase"
    (config,) = [each.body for each in made if each.kind == "ConfigMap"]
    assert yaml.safe_load(config["data"]["run.yaml"])["labels"] == {"column": "kind"}


def test_the_same_again_attaches_and_another_is_refused(
    server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps = [DONE]
    assert main(["submit", "-c", run_yaml]) == 0
    made = len(server.wrote)
    assert main(["submit", "-c", run_yaml]) == 0
    assert "was submitted before; attached to it" in capsys.readouterr().err
    assert main(["submit", "-c", run_yaml, "--set", "run.seed=2"]) == 2
    assert "works on this run with another configuration" in capsys.readouterr().err
    assert len(server.wrote) == made


def submitted_name(server: ApiServer, run_yaml: str) -> str:
    """That of the RayJob, which is deleted again with all that goes with it."""
    server.steps = [DONE]
    assert main(["submit", "-c", run_yaml]) == 0
    (name,) = server.jobs
    server.jobs.clear()
    server.others.clear()
    server.wrote.clear()
    return name


@pytest.mark.parametrize("kind", BEFORE)
def test_what_another_made_under_the_name_is_not_taken_over(
    kind: str, server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a release of helm with the same run; nothing is made, nothing changed."""
    name = submitted_name(server, run_yaml)
    labels = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "x"}
    helms = {"kind": kind, "metadata": {"name": name, "labels": labels}}
    server.others[kind, name] = helms
    assert main(["submit", "-c", run_yaml]) == 2
    assert f"{kind} {name} is there already, of Helm, release x, and is not taken over" in capsys.readouterr().err
    assert not [each for each in server.wrote if "dryRun" not in each.query]
    assert server.others == {(kind, name): helms}


def test_what_an_earlier_job_leaves_behind_is_waited_for(
    server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = submitted_name(server, run_yaml)
    owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": name, "uid": "gone"}
    server.others["ConfigMap", name] = {"kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]}}
    looks: list[float] = []

    def collected(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            server.others.clear()

    monkeypatch.setattr("sortase.deploy.kube.time.sleep", collected)
    assert main(["submit", "-c", run_yaml]) == 0
    assert len(looks) >= 3
    server.jobs.clear()
    server.others["ConfigMap", name] = {"kind": "ConfigMap", "metadata": {"name": name, "ownerReferences": [owner]}}
    monkeypatch.setattr("sortase.deploy.kube.GOING", -1.0)
    looks.clear()
    assert main(["submit", "-c", run_yaml]) == 3
    assert "of a RayJob that was deleted is still there" in capsys.readouterr().err


def test_a_submission_that_was_cut_short_is_completed_and_one_that_fails_is_undone(
    server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps = [DONE]
    assert main(["submit", "-c", run_yaml, "--detach"]) == 0
    (name,) = server.jobs
    del server.others["ConfigMap", name]
    server.steps = [{}, DONE]
    assert main(["submit", "-c", run_yaml, "--detach"]) == 0
    assert {kind for kind, _ in server.others} == set(BEFORE)
    server.jobs.clear()
    server.others.clear()
    answer = server.answer

    def refusing(verb: str, url: str, body: Any) -> tuple[int, Any]:
        if verb == "POST" and url.split("?")[0].endswith("/configmaps") and "dryRun" not in url:
            return 403, {"kind": "Status", "message": "exceeded quota"}
        return answer(verb, url, body)

    server.answer = refusing  # type: ignore[method-assign]
    assert main(["submit", "-c", run_yaml, "--detach"]) == 2
    assert "exceeded quota" in capsys.readouterr().err
    assert not server.jobs


def test_an_account_that_a_cloud_knows_is_made_once_used_again_and_never_changed(
    server: ApiServer, run_yaml: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def values(role: str) -> str:
        (tmp_path / "values.yaml").write_text(f"serviceAccount: {{name: trainer, annotations: {{role: {role}}}}}\n")
        return str(tmp_path / "values.yaml")

    server.steps = [DONE]
    words = ["submit", "-c", run_yaml, "--detach", "-f"]
    assert main([*words, values("one")]) == 0
    next(iter(server.jobs.values()))["status"] = DONE
    account = server.others["ServiceAccount", "trainer"]
    assert "ownerReferences" not in account["metadata"]
    assert main([*words, values("one"), "--attempt", "2"]) == 0
    for job in server.jobs.values():
        job["status"] = DONE
    assert main([*words, values("two"), "--attempt", "3"]) == 2
    assert "ServiceAccount trainer is there already, with another value of role" in capsys.readouterr().err
    assert server.others["ServiceAccount", "trainer"] == account
    assert len(server.jobs) == 2


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6])
def test_the_exit_code_is_the_runs(
    code: int, server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps = [RUNNING, failed(code)]
    assert main(["submit", "-c", run_yaml]) == code
    assert f"exit code {code}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("refusal", "code", "words"),
    [
        (Refusal("POST", "/rayjobs", 403, "quota is exceeded"), 2, "403 Forbidden: quota is exceeded"),
        (Refusal("POST", "/rayjobs", 422, "spec.x is unknown"), 2, "spec.x is unknown"),
        (Refusal("POST", "/rayjobs", 500, "etcd"), 3, "500 Internal Server Error: etcd"),
        (Refusal("GET", "/rayjobs", 403, "user 'u' cannot list rayjobs"), 2, "user 'u' cannot list rayjobs"),
    ],
    ids=lambda value: f"{value.verb} {value.status}" if isinstance(value, Refusal) else None,
)
def test_refusals_are_told_in_the_servers_words(
    refusal: Refusal, code: int, words: str, server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.refusals.append(refusal)
    assert main(["submit", "-c", run_yaml]) == code
    assert words in capsys.readouterr().err
    assert not server.jobs


def test_a_cluster_without_the_operator(server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]) -> None:
    server.kuberay = False
    assert main(["plan", "-c", run_yaml, "-n", "ml"]) == 2
    assert "the cluster does not know RayJob of ray.io/v1" in capsys.readouterr().out
    server.wrote.clear()
    assert main(["submit", "-c", run_yaml]) == 2
    assert "install the KubeRay operator" in capsys.readouterr().err
    assert not server.wrote


def test_who_was_quicker_with_the_same_is_joined(
    server: ApiServer, run_yaml: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = server._keep

    def second(verb: str, path: str, body: Any) -> tuple[int, Any]:
        original(verb, path, body)
        return 409, {"kind": "Status", "message": "already exists"}

    monkeypatch.setattr(server, "_keep", second)
    server.steps = [DONE]
    assert main(["submit", "-c", run_yaml]) == 0
    assert "attached to it" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer(
    tmp_path: Path, run_yaml: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kubeconfig(tmp_path, "http://127.0.0.1:1")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    for command in ("submit", "cancel"):
        assert main([command, "-c", run_yaml, "-n", "ml"]) == 3
        assert "does not answer" in capsys.readouterr().err


def test_nothing_is_submitted_when_checks_fail(
    server: ApiServer, s3_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(s3_url)))
    assert main(["submit", "-c", str(path)]) == 2
    said = capsys.readouterr().err
    assert f"{s3_url}/cells.dataset does not exist" in said
    assert said.endswith("; nothing was submitted\n")
    path.write_text(yaml.safe_dump(settings("runs")))
    assert main(["submit", "-c", str(path)]) == 2
    assert "'runs': a relative path is another one on a cluster" in capsys.readouterr().err
    path.write_text(yaml.safe_dump(settings(str(tmp_path)) | {"train": {"num_train_epoch": 1}}))
    assert main(["submit", "-c", str(path)]) == 2
    assert "num_train_epochs" in capsys.readouterr().err
    assert not server.wrote
    assert not storage.list_files(s3_url)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"grups": {}}, "'grups'"),
        ({"head": {"scrach": "1Gi"}}, "'scrach'"),
        ({"job": None}, "'job' of the values"),
        ({"image": "sortase:1"}, "'image' of the values"),
        ({"job": {"arguments": "--replace"}}, "'--replace'"),
        ({"job": {"attempt": 0}}, "a number from 1"),
        ({"mode": "schedule"}, "mode 'schedule'"),
    ],
    ids=str,
)
def test_odd_values_are_refused_by_name(
    values: Any, words: str, server: ApiServer, run_yaml: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(values))
    given = ["submit", "-c", run_yaml, "-f", str(tmp_path / "values.yaml"), "--image", "registry:5000/sortase:1"]
    assert main(given) == 2
    assert words in capsys.readouterr().err
    assert not server.wrote


def test_a_plan_lets_the_server_check_and_keeps_nothing(
    server: ApiServer, run_yaml: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "-c", run_yaml, "-n", "ml", "--image", "registry:5000/sortase:1"]) == 0
    shown = capsys.readouterr().out
    assert "passed   the cluster would accept the objects in namespace ml" in shown
    assert "image    registry:5000/sortase:1" in shown
    assert "not submitted yet" in shown
    assert sorted(each.kind for each in server.wrote) == sorted([*BEFORE, "RayJob"])
    assert {each.query.get("dryRun") for each in server.wrote} == {"All"}
    assert not Path(folder.url).exists()


def test_who_detaches_is_told_how_to_come_back(
    server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps, server.pods = [{"jobDeploymentStatus": "Initializing", "rayClusterName": "x"}], [PENDING]
    assert main(["submit", "-c", run_yaml, "--detach"]) == 0
    shown = capsys.readouterr()
    (name,) = server.jobs
    assert shown.out == f"{name}\n"
    back = shown.err.partition("come back with: ")[2].split("or:")
    attach, look = (shlex.split(line.strip())[1:] for line in back)
    assert parser().parse_args(attach).command == "submit"
    assert main(look) == 0
    told = capsys.readouterr().out
    assert f"RayJob ml/{name}: waiting for the cluster's pods" in told
    assert "trouble    pod x-head: cannot be scheduled: 0/1 nodes: 1 Insufficient cpu" in told


def test_what_cannot_start_is_given_up_and_removed(
    server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps, server.pods = [{"jobDeploymentStatus": "Initializing", "rayClusterName": "x"}], [PENDING]
    assert main(["submit", "-c", run_yaml, "--start-timeout", "0.05"]) == 3
    assert "given up: pod x-head: cannot be scheduled: 0/1 nodes: 1 Insufficient cpu" in capsys.readouterr().err
    assert not server.jobs


@pytest.mark.parametrize("status", [403, 500])
def test_a_log_out_of_reach_does_not_hide_the_end(
    status: int, server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps = [*[RUNNING] * 9, DONE]
    server.refusals.append(Refusal("GET", "/log", status, "node is gone"))
    assert main(["submit", "-c", run_yaml]) == 0
    assert capsys.readouterr().err.count("node is gone") == 1


def test_of_a_job_that_is_deleted_its_folder_tells(
    server: ApiServer, run_yaml: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps = [RUNNING, RUNNING, None]
    assert main(["submit", "-c", run_yaml]) == 5
    assert "was deleted before it ended" in capsys.readouterr().err
    (name,) = server.jobs
    told = {"attempt": 1, "state": "failed", "exit_code": 3, "error": "no room", "submission": name}
    storage.write_json(folder.path("logs", "attempt-1", "outcome.json"), told)
    server.steps = [RUNNING, None]
    assert main(["submit", "-c", run_yaml]) == 3
    assert "no room" in capsys.readouterr().err


def test_a_folder_that_cannot_be_read_does_not_make_a_deleted_job_a_cancelled_one(
    server: ApiServer, run_yaml: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.write_bytes(folder.path("logs", "attempt-1", "outcome.json"), b'{"attempt":')
    server.steps = [RUNNING, None]
    assert main(["submit", "-c", run_yaml]) == 3
    shown = capsys.readouterr().err
    assert "what became of it cannot be read from here" in shown and "outcome.json is not valid JSON" in shown


def test_a_kubeconfig_that_is_named_is_not_passed_over(
    run_yaml: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In a pod there is another cluster to talk to: its own."""
    for name in ("token", "ca.crt", "namespace"):
        (tmp_path / name).write_text("x")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "9")
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_TOKEN_FILENAME", str(tmp_path / "token"))
    monkeypatch.setattr("kubernetes.config.incluster_config.SERVICE_CERT_FILENAME", str(tmp_path / "ca.crt"))
    monkeypatch.setattr("sortase.deploy.kube.ACCOUNT_NAMESPACE", tmp_path / "namespace")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "gone"))
    monkeypatch.setenv("SORTASE_LIMITS", "kubernetes-call=5 kubernetes-answer=1")
    assert main(["submit", "-c", run_yaml]) == 2
    assert f"no cluster: there is no kubeconfig at {tmp_path / 'gone'}" in capsys.readouterr().err


def test_an_interrupted_wait_leaves_the_run(
    server: ApiServer, run_yaml: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sortase.cli.StopSwitch.__call__", lambda switch: True)
    assert main(["submit", "-c", run_yaml]) == 5
    shown = capsys.readouterr().err
    assert "the run goes on. Come back with: sortase submit" in shown
    assert "the wait was interrupted, not the run" in shown
    assert len(server.jobs) == 1


def test_cancel_waits_for_the_checkpoint_and_removes_the_job(
    server: ApiServer, run_yaml: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cancel", "-c", run_yaml, "-n", "ml"]) == 2
    assert "nothing works on" in capsys.readouterr().err
    assert main(["submit", "-c", run_yaml, "--detach"]) == 0
    server.steps = [RUNNING]
    folder.begin()
    order: list[str] = []

    def work() -> None:
        while folder.read("stop.json") is None:
            over.wait(0.01)
        order.append(f"ended beside {len(server.jobs)} job")
        told = {"attempt": 1, "state": "cancelled", "exit_code": 5, "error": "kept step 7"}
        storage.write_json(folder.path("logs", "attempt-1", "outcome.json"), told)

    over = threading.Event()
    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    assert main(["cancel", "-c", run_yaml, "-n", "ml", "--grace", "60"]) == 0
    worker.join()
    assert order == ["ended beside 1 job"]
    assert not server.jobs
    said = capsys.readouterr().err
    assert "attempt 1 ended: kept step 7" in said
    assert "--attempt 2 continues" in said


def test_cancel_of_what_is_over_changes_nothing(
    server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.steps = [DONE]
    assert main(["submit", "-c", run_yaml]) == 0
    assert main(["cancel", "-c", run_yaml, "-n", "ml"]) == 0
    assert "is over; nothing to cancel" in capsys.readouterr().err
    assert len(server.jobs) == 1


def test_without_a_folder_the_driver_tells(
    server: ApiServer, run_yaml: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["logs", "-c", run_yaml, "-n", "ml"]) == 2
    server.steps, server.log = [RUNNING], "2026-01-01T00:00:01Z one\n"
    assert main(["submit", "-c", run_yaml, "--detach"]) == 0
    capsys.readouterr()
    assert main(["logs", "-c", run_yaml, "-n", "ml"]) == 0
    assert capsys.readouterr().out == "one\n"


def test_a_folder_stands_alone(run_yaml: str, folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "logs", "cancel"):
        assert main([command, folder.url, "-n", "ml"]) == 2
        assert "looked at by itself" in capsys.readouterr().err


def test_a_log_is_followed_to_the_end_of_its_own_attempt(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is an attempt's second one here, and has not yet taken the run over when it is first looked at."""
    monkeypatch.setattr("sortase.deploy.commands.LOOK_EVERY", 0)
    logs = Path(folder.url) / "logs"
    for number in (1, 2):
        (logs / f"attempt-{number}").mkdir(parents=True)
        (logs / f"attempt-{number}" / "driver.log").write_text(f"first of {number}\n")
    (logs / "attempt-1" / "outcome.json").write_text("{}")
    looks: list[str] = []
    read = RunFolder.read

    def grow(self: RunFolder, name: str) -> Any:
        looks.append(name)
        if len(looks) == 3:
            (logs / "attempt-2" / "driver.2.log").write_text("last of 2\n")
            (logs / "attempt-2" / "outcome.json").write_text("{}")
        return read(self, name)

    monkeypatch.setattr(RunFolder, "read", grow)
    assert main(["logs", folder.url, "--follow"]) == 0
    assert capsys.readouterr().out == "first of 2\nlast of 2\n"
    assert len(looks) > 3
    assert main(["logs", folder.url, "--list"]) == 0
    assert capsys.readouterr().out == "attempt-1/driver\nattempt-2/driver\n"
    assert main(["logs", folder.url, "--follow", "--name", "attempt-1/drive"]) == 2
    assert "there is attempt-1/driver, attempt-2/driver" in capsys.readouterr().err


def test_cancel_ends_a_run_of_another_process_on_this_machine(
    tmp_path: Path, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    data = dataset(n=200)
    kinds = ["xyz"[label] for label in data["label"]]
    data.add_column("kind", kinds).remove_columns("label").save_to_disk(f"{tmp_path}/runs/cells.dataset")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings(f"{tmp_path}/runs") | {"train": {"num_train_epochs": 2000}}))
    command = [sys.executable, "-m", "sortase", "run", "-c", str(path)]
    environment = os.environ | {"SORTASE_LOGS": "1"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            checkpoints = Path(folder.url) / "checkpoints"
            wait_until(lambda: list(checkpoints.glob("*/manifest.json")), "a checkpoint")
            assert main(["cancel", folder.url]) == 0
            said = process.communicate(timeout=PATIENCE)[1]
        finally:
            process.kill()
    assert process.returncode == 5, said
    step = int(said.split("at step ")[1].split(" ")[0])
    assert (checkpoints / f"step-{step:08d}" / "manifest.json").exists()
    told = capsys.readouterr().err
    assert "asked attempt 1 to keep a checkpoint and end" in told
    assert f"at step {step}" in told
    assert main(["status", folder.url]) == 0
    assert "attempt    1, cancelled" in capsys.readouterr().out
    assert main(["logs", folder.url, "--follow"]) == 0
    assert f"at step {step}" in capsys.readouterr().out
    assert main(["cancel", folder.url]) == 2
    assert f"nothing works on {folder.url}" in capsys.readouterr().err


def test_who_does_not_answer_a_cancellation_is_told(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.begin()
    assert main(["cancel", folder.url, "--grace", "0"]) == 3
    assert "attempt 1 has not ended within 0 s; it may be gone without a word" in capsys.readouterr().err
