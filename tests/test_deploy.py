"""Submissions from outside: names, values, plans, and what is asked of the API server; the cluster is faked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from sortase.cli import main, parser
from sortase.config.load import check
from sortase.deploy.chart import read_values, rendered
from sortase.deploy.commands import end_as
from sortase.deploy.kube import Kubernetes, moment
from sortase.deploy.state import State
from sortase.deploy.submission import LONGEST, Submission, short_name
from sortase.deploy.targets import submission_of
from sortase.errors import CancelledError, ConfigError, ExistingOutputError, InfrastructureError

SETTINGS: dict[str, Any] = {
    "run": {"name": "Cells_v2", "output": "s3://bucket/runs"},
    "data": {"dataset": "s3://bucket/cells.dataset"},
    "labels": {"column": "cell_type"},
    "model": {"config": {"model_type": "bert"}},
}


def submission(attempt: int = 1, **sections: Any) -> Submission:
    settings = SETTINGS | sections
    return Submission(check(settings), settings, attempt=attempt)


@pytest.mark.parametrize(
    ("name", "short"),
    [("cells", "cells"), ("Cells_v2.1", "cells-v2-1"), ("7days", "run-7days"), ("...", "run"), ("-a-", "a")],
)
def test_names_fit_kubernetes(name: str, short: str) -> None:
    assert short_name(name) == short


def test_long_names_stay_apart() -> None:
    first, second = (short_name("x" * 60 + end) for end in "ab")
    assert first != second
    assert max(len(first), len(second)) <= LONGEST


def test_the_same_submission_has_the_same_digest_and_any_change_another() -> None:
    changed = [submission(attempt=2), submission(train={"num_train_epochs": 2}), submission()]
    assert len({each.digest for each in changed}) == 3
    assert submission().digest == submission().digest


@pytest.mark.parametrize(
    "section",
    [{"run": {"name": "x", "output": "runs"}}, {"data": {"dataset": "./cells.dataset"}}],
    ids=["output", "dataset"],
)
def test_relative_paths_are_refused(section: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="relative path is another one on a cluster"):
        submission(**section).require_reachable_paths()
    submission(run={"name": "x", "output": "/mounted/runs"}).require_reachable_paths()


def test_values_files_are_merged_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("head: {scratch: 1Gi, labels: {a: b}}\nmode: job\n")
    (tmp_path / "b.yaml").write_text("head: {scratch: 2Gi}\n")
    merged = read_values([str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")])
    assert merged == {"mode": "job", "head": {"scratch": "2Gi", "labels": {"a": "b"}}}
    (tmp_path / "c.yaml").write_text("[1]")
    with pytest.raises(ConfigError, match=r"c\.yaml"):
        read_values([str(tmp_path / "c.yaml")])


class Api(Kubernetes):
    """Of which only the calls to the API server are replaced."""

    def __init__(self, jobs: list[dict[str, Any]]):
        self.namespace, self.jobs, self.calls = "ml", jobs, []

    def job(self, name: str) -> dict[str, Any] | None:
        return next((job for job in self.jobs if job["metadata"]["name"] == name), None)

    def jobs_of(self, release: str) -> list[dict[str, Any]]:
        return self.jobs

    def _rayjobs(self, verb: str, *arguments: Any, **options: Any) -> Any:
        self.calls.append(verb)
        return {"metadata": {"name": arguments[0]["metadata"]["name"], "uid": "1"}}

    def _there(self, each: Any) -> Any:
        return None

    def _create(self, each: Any, **options: Any) -> None:
        owned = " owned" if "ownerReferences" in each["metadata"] else ""
        self.calls.append(f"{each['kind']}{owned}{' tried' if options else ''}")


def objects(name: str) -> list[dict[str, Any]]:
    labels = {"app.kubernetes.io/instance": "cells"}
    kinds = ("ConfigMap", "NetworkPolicy", "RayJob")
    return [{"kind": kind, "metadata": {"name": name, "labels": labels}} for kind in kinds]


def test_what_a_job_needs_goes_with_it_and_its_configuration_comes_last() -> None:
    """Without it no head starts, so none is without its policy."""
    api = Api([])
    assert api.submit(objects("cells-1"))
    tried = ["NetworkPolicy tried", "ConfigMap tried"]
    assert api.calls == [*tried, "create", "NetworkPolicy owned", "ConfigMap owned"]


def test_the_same_again_is_attached_to_and_another_is_refused_while_one_runs() -> None:
    running = {"metadata": {"name": "cells-1"}, "status": {"jobDeploymentStatus": "Running"}}
    assert Api([running]).submit(objects("cells-1")) is False
    refused = Api([running])
    with pytest.raises(ExistingOutputError, match="RayJob cells-1 works on this run"):
        refused.submit(objects("cells-2"))
    assert refused.calls == []
    over = {**running, "status": {"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}}
    assert Api([over]).submit(objects("cells-2")) is True


def test_times_of_log_lines_are_ordered() -> None:
    stamps = [
        "2026-11-24T00:07:07Z",
        "2026-11-24T00:07:07.12Z",
        "2026-11-24T00:07:07.123Z",
        "2026-11-24T02:07:08+02:00",
    ]
    assert sorted(stamps, key=moment) == stamps
    assert moment("no time") < moment(stamps[0])


def test_a_log_is_read_on_from_its_last_line() -> None:
    api = Api([])
    api._last_seen = moment("2026-11-24T00:00:01Z")
    lines = [f"2026-11-24T00:00:0{second}.5Z line {second}" for second in range(4)]
    assert list(api._unseen("\n".join(lines[:3]))) == ["line 1\n", "line 2\n"]
    assert list(api._unseen("\n".join(lines[1:]))) == ["line 3\n"]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SETTINGS))
    (tmp_path / "values.yaml").write_text("run: {run: {name: x}}\n")
    return [str(tmp_path / "run.yaml"), str(tmp_path / "values.yaml")]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["submit", "-c", "{run}", "--address", "localhost:8265"], "must be that of Ray's dashboard"),
        (["submit", "-c", "{run}", "--address", "http://x:8265", "-n", "ml"], "belong to Kubernetes"),
        (["submit", "-c", "{run}", "-f", "{values}"], "given twice"),
        (["submit", "-c", "{run}", "-n", "ml", "--image", "sortase"], "has no tag"),
        (
            ["status", "-c", "{run}", "--set", "labels.colum=1"],
            "run.yaml: unknown key 'labels.colum'; did you mean 'column'?",
        ),
    ],
)
def test_bad_options_end_with_2_and_are_named(
    words: list[str], told: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    named = [word.format(run=files[0], values=files[1]) for word in words]
    assert main(named) == 2
    assert told in capsys.readouterr().err


def test_a_plan_names_everything_that_stands_in_the_way(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine, without a cluster; nothing is written."""
    monkeypatch.chdir(tmp_path)
    settings = SETTINGS | {
        "run": {"name": "x", "output": "runs"},
        "data": {"dataset": "cells.dataset"},
        "train": {"output_dir": "models"},
    }
    Path("run.yaml").write_text(yaml.safe_dump(settings))
    assert main(["plan"]) == 2
    shown = capsys.readouterr().out
    assert "passed   training arguments of the installed version" in shown
    assert "note     these training arguments have no effect here: output_dir" in shown
    assert "FAILED   data, columns, classes and model: cells.dataset does not exist" in shown
    assert "stage    train: to do" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize("name", ["registry:5000/team/sortase:1", f"registry:5000/team/sortase@sha256:{'ab' * 32}"])
def test_the_image_of_the_command_takes_the_place_of_the_values(name: str, files: list[str], tmp_path: Path) -> None:
    """Whole: a digest of the values would otherwise win over a tag."""
    (tmp_path / "values.yaml").write_text(f"image: {{repository: other, tag: '2', digest: 'sha256:{'cd' * 32}'}}\n")
    options = parser().parse_args(["submit", "-c", files[0], "-f", files[1], "--image", name])
    made = rendered(*submission_of(options), "ml")
    (job,) = [each for each in made if each["kind"] == "RayJob"]
    (container,) = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"]
    assert container["image"] == name


def target(folder: Path) -> Any:
    from sortase.deploy.targets import Target

    given = submission(run={"name": "x", "output": str(folder)})
    return Target(given, SimpleNamespace(namespace="ml"), "x-sortase-2", [])


def outcome(folder: Path, attempt: int, of: str, code: int) -> None:
    from sortase import storage

    told = {"attempt": attempt, "state": "x", "exit_code": code, "error": "words", "submission": of}
    storage.write_json(str(folder / "x" / "logs" / f"attempt-{attempt}" / "outcome.json"), told)


def test_of_what_is_gone_only_its_own_outcome_counts(tmp_path: Path) -> None:
    gone = State("absent", "gone")
    outcome(tmp_path, 1, "x-sortase-1", 0)
    with pytest.raises(CancelledError, match="deleted before it ended"):
        end_as(gone, target(tmp_path))
    outcome(tmp_path, 2, "x-sortase-2", 3)
    with pytest.raises(InfrastructureError, match="words"):
        end_as(gone, target(tmp_path))
    outcome(tmp_path, 3, "x-sortase-2", 0)
    end_as(gone, target(tmp_path))


def test_output_may_be_cut_short(tmp_path: Path) -> None:
    """As by `| head`."""
    log = tmp_path / "x" / "logs" / "attempt-1" / "driver.log"
    log.parent.mkdir(parents=True)
    log.write_text("a line\n" * 100_000)
    command = f"{sys.executable} -m sortase logs {tmp_path / 'x'} | head -n 1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a line\n", "")


def test_a_folder_without_a_run_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("status", "logs", "cancel"):
        assert main([command, str(tmp_path / "nothing")]) == 2
        assert str(tmp_path / "nothing") in capsys.readouterr().err


def test_the_way_back_is_a_command() -> None:
    from sortase.deploy.targets import again

    words = ["submit", "-c", "my run.yaml", "-f", "a.yaml", "-n", "ml", "--set", "run.name=it's", "--attempt", "2"]
    options = parser().parse_args(words)
    import shlex

    back = parser().parse_args(shlex.split(again(options, "status"))[1:])
    assert (back.config, back.values, back.namespace, back.set, back.attempt) == (
        options.config,
        options.values,
        options.namespace,
        options.set,
        2,
    )
