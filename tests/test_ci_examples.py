"""The workflows of docs/ci: linted by the tools made for them, and their scripts tried, all but the servers."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from programs import program
from sortase.cli import parser
from workflows import CI, SHELL, read, step

OURS = CI.parents[1] / ".github"
EXAMPLES = sorted((CI / "github").glob("*.yml"))
GITHUB = [*EXAMPLES, *sorted((OURS / "workflows").glob("*.yml"))]
GITLAB = sorted((CI / "gitlab").glob("*.yml"))
EXTRA = "pip install -e '.[test]'"
ACTIONLINT = "go install github.com/rhysd/actionlint/cmd/actionlint@v1.7.12"
SECRET_WORDS = ("secrets.", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID")

# A program that tells what it is called with, in place of those that need a network.
SHIM = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
if os.path.basename(sys.argv[0]) == "gh" and sys.argv[1] == "api":
    print("17")
if os.path.basename(sys.argv[0]) == "git" and sys.argv[-2:] == ["rev-parse", "HEAD"]:
    print("0123456789abcdef0123456789abcdef01234567")
if sys.argv[1] == "wheel":
    os.mkdir("wheel")
    open("wheel/sortase-0.1.0-py3-none-any.whl", "w").close()
"""
Calls = list[list[str]]


def lint(*command: str, hint: str = EXTRA) -> None:
    done = subprocess.run([program(command[0], hint), *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class TestLint:
    def test_workflows_by_actionlint(self) -> None:
        lint("actionlint", *map(str, GITHUB), hint=ACTIONLINT)

    def test_workflows_by_zizmor(self) -> None:
        """Their security: pinned actions, least permissions, no expression inside a script."""
        lint("zizmor", "--quiet", "--offline", "--persona", "pedantic", *map(str, GITHUB))

    def test_workflows_by_their_schema(self) -> None:
        lint("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, GITHUB))

    def test_pipelines_by_their_schema(self) -> None:
        schema = ("--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci")
        lint("check-jsonschema", *schema, *map(str, GITLAB))

    @pytest.mark.parametrize("path", [*GITHUB, *GITLAB], ids=lambda path: f"{path.parent.name}-{path.stem}")
    def test_no_long_lived_secret_is_used(self, path: Path) -> None:
        assert not [word for word in SECRET_WORDS if word in path.read_text()]


@pytest.fixture
def shell(tmp_path: Path) -> Callable[..., Calls]:
    """Runs a script as CI does, in a folder with the repository's files; returns the programs' calls."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sortase", "pip", "aws", "gh", "git"):
        (programs / name).write_text(SHIM)
        (programs / name).chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text('{"dataset": "s3://bucket/cells 1.dataset"}')
    (tmp_path / "retrain.md").write_text("## Retraining\n")

    def run(script: str, code: int = 0, **environment: str) -> Calls:
        path = f"{programs}{os.pathsep}{os.environ['PATH']}"
        calls = tmp_path / "calls"
        calls.write_text("")
        done = subprocess.run(
            [*SHELL, script],
            cwd=tmp_path,
            env={**os.environ, "PATH": path, "CALLS": str(calls), **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in calls.read_text().splitlines()]

    return run


def understood(calls: Calls) -> list[Any]:
    """The commands of sortase, by its own parser."""
    found = [parser().parse_args(call[1:]) for call in calls if call[0] == "sortase"]
    assert found, calls
    return found


COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOTHING = hashlib.sha256(b"").hexdigest()


def build_of(path: Path) -> tuple[str, dict[str, str]]:
    """The script that makes the wheel, and what it is told of the commit."""
    if path.parent.name == "gitlab":
        return "\n".join(read(path)["wheel"]["script"]), {"SORTASE_COMMIT": COMMIT, "SORTASE_REPOSITORY": "https://r"}
    return step(path, "Build")["run"], {"COMMIT": COMMIT}


@pytest.mark.parametrize("path", [*EXAMPLES, *GITLAB], ids=lambda path: f"{path.parent.name}-{path.stem}")
class TestWheel:
    def test_it_is_of_one_commit_and_listed_with_its_hash(
        self, path: Path, shell: Callable[..., Calls], tmp_path: Path
    ) -> None:
        locks = tmp_path / "sortase" / "docker" / "locks"
        locks.mkdir(parents=True)
        (locks / "submit.txt").write_text("numpy==2.0 --hash=sha256:00\n")
        script, given = build_of(path)
        pip = [call for call in shell(script, **given) if call[0] == "pip"]
        assert [call[1] for call in pip] == ["install", "wheel"]
        assert {"--require-hashes", "sortase/docker/locks/build.txt"} <= set(pip[0])
        assert {"--no-deps", "--no-build-isolation", "--no-index"} <= set(pip[1])
        numpy, wheel = (tmp_path / "wheel" / "requirements.txt").read_text().splitlines()
        assert numpy.startswith("numpy==2.0 --hash")
        assert wheel == f"./wheel/sortase-0.1.0-py3-none-any.whl --hash=sha256:{NOTHING}"

    @pytest.mark.parametrize("commit", ["main", "v1", COMMIT[:8], ""])
    def test_what_may_move_is_refused(self, path: Path, shell: Callable[..., Calls], commit: str) -> None:
        script, given = build_of(path)
        named = {name: commit if name.endswith("COMMIT") else value for name, value in given.items()}
        assert not [call for call in shell(script, code=1, **named) if call[0] == "pip"]

    def test_jobs_with_credentials_install_it_and_nothing_by_name(self, path: Path) -> None:
        """And the job that builds has none: a build runs what it downloads."""
        content = read(path)
        assert "pip install" in path.read_text()
        for line in re.findall(r"pip install (.*)", path.read_text()):
            assert re.fullmatch(
                r"(--quiet )?--require-hashes -r (wheel/requirements|sortase/docker/locks/build)\.txt", line
            )
        if path.parent.name == "gitlab":
            assert "id_tokens" not in content["wheel"]
            assert content[".sortase"]["needs"] == ["wheel"]
            return
        assert content["jobs"]["wheel"]["permissions"] == {"contents": "read"}
        for name, job in content["jobs"].items():
            if "id-token" in job["permissions"]:
                assert job["needs"] == "wheel", name


class TestGitHub:
    RETRAIN, PROMOTE = (CI / "github" / f"{name}.yml" for name in ("retrain", "promote"))

    def test_when_and_one_at_a_time(self) -> None:
        workflow = read(self.RETRAIN)
        starts = workflow[True]  # YAML 1.1 reads `on` so
        assert set(starts) == {"schedule", "push", "workflow_dispatch"}
        assert "data/manifest.json" in starts["push"]["paths"]
        assert workflow["concurrency"]["cancel-in-progress"] is False
        assert read(self.PROMOTE)["concurrency"]["group"] != workflow["concurrency"]["group"], "a rollback would wait"
        assert workflow["permissions"] == {}
        assert workflow["jobs"]["retrain"]["permissions"] == {"contents": "read", "id-token": "write"}

    def test_the_call(self, shell: Callable[..., Calls]) -> None:
        script = step(self.RETRAIN, "Retrain")["run"]
        (plain,) = understood(shell(script, NAMESPACE="sortase", SETTING="", ATTEMPT=""))
        assert (plain.command, plain.set) == ("retrain", ["data.dataset=s3://bucket/cells 1.dataset"])
        assert (plain.values, plain.namespace, plain.summary) == (["values.yaml"], "sortase", "retrain.md")
        (other,) = understood(shell(script, NAMESPACE="sortase", SETTING="train.num_train_epochs=5", ATTEMPT="2"))
        assert other.set[1:] == ["train.num_train_epochs=5", "retrain.promote=false"]
        assert other.attempt == 2

    def test_without_a_manifest_it_ends(self, shell: Callable[..., Calls], tmp_path: Path) -> None:
        (tmp_path / "data" / "manifest.json").write_text("{}")
        assert shell(step(self.RETRAIN, "Retrain")["run"], code=1, NAMESPACE="sortase", SETTING="", ATTEMPT="") == []

    def test_what_is_told(self, shell: Callable[..., Calls], tmp_path: Path) -> None:
        summary = tmp_path / "summary"
        shell(step(self.RETRAIN, "Summary")["run"], GITHUB_STEP_SUMMARY=str(summary))
        assert summary.read_text() == "## Retraining\n"
        asked, comment = shell(step(self.RETRAIN, "Comment")["run"], GITHUB_REPOSITORY="o/r", GITHUB_SHA="abc")
        assert asked[2] == "repos/o/r/commits/abc/pulls"
        assert comment[1:4] == ["pr", "comment", "17"]

    @pytest.mark.parametrize("version", ["", "20261124T031500-9f3a2c1b"])
    def test_moves_by_hand(self, shell: Callable[..., Calls], version: str) -> None:
        script = step(self.PROMOTE, "Move the champion")["run"]
        moved, listed = understood(shell(script, ACTION="promote", VERSION=version, WHY="a b", OVERRIDE=""))
        assert (moved.command, moved.why, moved.override) == ("promote", "a b", None)
        assert moved.model == ("cell-types@" + version).rstrip("@")
        assert (listed.command, listed.model) == ("models", "cell-types")
        moved, _ = understood(shell(script, ACTION="promote", VERSION=version, WHY="x", OVERRIDE="it is better"))
        assert moved.override == "it is better"
        moved, _ = understood(shell(script, ACTION="rollback", VERSION=version, WHY="x", OVERRIDE=""))
        assert (moved.command, moved.to) == ("rollback", version or None)


class TestGitLab:
    PATH = GITLAB[0]

    def script(self, job: str) -> str:
        return "\n".join(read(self.PATH)[job]["script"])

    def test_when_and_one_at_a_time(self) -> None:
        pipeline = read(self.PATH)
        assert pipeline["retrain"]["resource_group"]
        assert "resource_group" not in {**pipeline[".sortase"], **pipeline["promote"], **pipeline["rollback"]}
        assert pipeline[".sortase"]["interruptible"] is False
        assert "timeout" in pipeline["retrain"], "without one its tokens end after five minutes"
        starts = [rule["if"] for rule in pipeline["retrain"]["rules"]]
        assert [word for word in ("schedule", "web", "push") if any(f'"{word}"' in start for start in starts)] == [
            "schedule",
            "web",
            "push",
        ]

    def test_the_calls(self, shell: Callable[..., Calls]) -> None:
        (plain,) = understood(shell(self.script("retrain"), NAMESPACE="sortase"))
        assert plain.set == ["data.dataset=s3://bucket/cells 1.dataset"]
        assert (plain.values, plain.namespace, plain.summary) == (["values.yaml"], "sortase", "retrain.md")
        (promoted,) = understood(shell(self.script("promote"), WHY="a b", OVERRIDE="it is better"))
        assert promoted.override == "it is better"
        assert (promoted.command, promoted.model, promoted.why) == ("promote", "cell-types", "a b")
        (back,) = understood(shell(self.script("rollback"), WHY="a b", VERSION="20261124T031500-9f3a2c1b"))
        assert (back.command, back.to) == ("rollback", "20261124T031500-9f3a2c1b")
        assert shell(self.script("rollback"), code=1) == [], "without a reason nothing moves"

    def test_its_token_opens_the_cluster_and_the_storage(
        self, shell: Callable[..., Calls], tmp_path: Path, s3_url: str
    ) -> None:
        """The kubeconfig is one that the client loads, and the registry is read with keys that STS gives for it."""
        kubernetes = pytest.importorskip("kubernetes")
        (tmp_path / "ca").write_text("-----BEGIN CERTIFICATE-----\n")
        token, kubeconfig = tmp_path / "storage.token", tmp_path / "kubeconfig"
        before = "\n".join(read(self.PATH)[".sortase"]["before_script"]).replace("/tmp/cluster.token", f"{tmp_path}/ct")
        given = {"KUBECONFIG": str(kubeconfig), "AWS_WEB_IDENTITY_TOKEN_FILE": str(token)}
        named = {"KUBE_SERVER": "https://cluster:6443", "KUBE_CA": f"{tmp_path}/ca"}
        calls = shell(before, STORAGE_TOKEN="aaa.bbb.ccc", CLUSTER_TOKEN="ddd.eee.fff", **given, **named)
        assert calls == [["pip", "install", "--quiet", "--require-hashes", "-r", "wheel/requirements.txt"]]
        assert {path.stat().st_mode & 0o777 for path in (token, kubeconfig, tmp_path / "ct")} == {0o600}

        reached = kubernetes.client.Configuration()
        kubernetes.config.load_kube_config(str(kubeconfig), client_configuration=reached)
        assert (reached.host, reached.ssl_ca_cert) == ("https://cluster:6443", f"{tmp_path}/ca")
        assert set(reached.api_key.values()) == {"Bearer ddd.eee.fff"}

        environment = {name: value for name, value in os.environ.items() if name not in SECRET_WORDS}
        done = subprocess.run(
            [sys.executable, "-m", "sortase", "models", "--registry", f"{s3_url}/registry"],
            env={**environment, **given, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/ci", "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout) == (0, f"{s3_url}/registry holds no model\n"), done.stderr
