"""A retraining as a job elsewhere: what CI learns of it, when it is the same job, and when another one.

The cluster is one that runs the job's command in this process when it is submitted, and again when it fails, as KubeRay
does.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from retrain_data import sequences
from retrain_place import Place
from sortase import storage
from sortase.cli import main
from sortase.deploy.state import State, failed
from sortase.deploy.submission import Submission
from sortase.deploy.targets import Target
from sortase.errors import ConfigError
from sortase.retrain import steps, submitted, summary

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Death(BaseException):
    """Of a driver."""


@dataclass
class Cluster:
    """``codes``: exit codes of every start, by the job's name. ``patch``: of the environment of a job."""

    patch: pytest.MonkeyPatch
    folder: Path
    tries: int = 2
    address: str = "http://nowhere"
    codes: dict[str, list[int]] = field(default_factory=dict)

    def target(self, submission: Submission, options: Any) -> Target:
        return Target(submission, self, f"job-{submission.name}-{submission.digest}")

    def submit(self, submission: Submission) -> bool:
        name = self.target(submission, None).name
        if name in self.codes:
            return False
        config = self.folder / f"{name}.yaml"
        config.write_text(submission.run_yaml)
        self.codes[name] = []
        with self.patch.context() as patch:
            patch.setenv("SORTASE_SUBMISSION", name)
            for _ in range(self.tries):
                try:
                    code = main([submission.command, "--config", str(config), *submission.arguments])
                except Death:
                    code = 137
                self.codes[name].append(code)
                if code == 0:
                    break
        return True

    def state(self, name: str) -> State:
        if name not in self.codes:
            return State("absent", "not there")
        code = self.codes[name][-1]
        return failed(f"failed with {code}", code) if code else State("succeeded", "succeeded", 0)

    def new_log(self, name: str) -> str:
        return ""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    folder = tmp_path / "jobs"
    folder.mkdir()
    made = Cluster(monkeypatch, folder)
    monkeypatch.setattr(submitted, "target_for", made.target)
    return made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path), tmp_path)


@pytest.fixture
def retrain(place: Place) -> Callable[..., tuple[int, dict[str, Any]]]:
    return lambda *options: place.retrain("--address", "http://nowhere", *options)


Retrain = Callable[..., tuple[int, dict[str, Any]]]


def test_generations(place: Place, cluster: Cluster, retrain: Retrain) -> None:
    place.data(n=60)
    code, first = retrain("--who", "ann")
    assert (code, first["state"]) == (0, "promoted"), first["words"]
    assert first["moved"]["context"]["who"] == "ann"
    assert retrain()[1]["state"] == "nothing"
    place.data(n=240, seed=2, shuffled=True)
    code, bad = retrain()
    assert (code, bad["state"]) == (6, "refused"), bad["words"]
    assert bad["verdict"]["passed"] is False, "the retry of the job does not hide it"
    assert cluster.codes[bad["submission"]] == [6, 6]
    code, again = retrain()
    assert (code, again) == (6, bad), "attached to"
    assert len(cluster.codes) == 2


def test_what_was_rolled_back_needs_no_job(place: Place, cluster: Cluster, retrain: Retrain) -> None:
    """Nor is the old one's end told as news."""
    place.data(n=60)
    first = retrain()[1]
    place.data(n=240, seed=1)
    second = retrain()[1]
    assert second["champion"] == first["version"]
    assert main(["rollback", "small", "-c", place.config]) == 0
    code, undone = retrain()
    assert (code, undone["state"]) == (0, "waiting"), undone["words"]
    assert "rolled back" in undone["words"]
    assert len(cluster.codes) == 2


def test_what_was_refused_is_judged_again_once_the_champion_has_moved(
    place: Place, cluster: Cluster, retrain: Retrain
) -> None:
    place.data(n=60)
    first = retrain()[1]
    place.data(n=240, seed=1)
    second = retrain()[1]
    place.data(n=240, seed=2, shuffled=True)
    code, bad = retrain()
    assert (code, bad["champion"]) == (6, second["version"])
    assert main(["rollback", "small", "-c", place.config]) == 0
    code, again = retrain()
    assert (code, again["champion"]) == (6, first["version"])
    assert again["submission"] != bad["submission"]
    assert again["version"] == bad["version"], "it is not trained again"


def test_a_driver_that_dies_after_the_promotion(
    place: Place, cluster: Cluster, retrain: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retry finds that all is done, and says what was done."""
    actual, deaths = steps.promote, []

    def promote(*arguments: Any, **options: Any) -> Any:
        moved = actual(*arguments, **options)
        if not deaths:
            deaths.append(1)
            monkeypatch.setattr(summary, "keep", lambda outcome, folder: None)
            raise Death
        return moved

    keep = summary.keep
    monkeypatch.setattr(steps, "promote", promote)
    actual_nothing = steps._nothing
    monkeypatch.setattr(
        steps, "_nothing", lambda *given: monkeypatch.setattr(summary, "keep", keep) or actual_nothing(*given)
    )
    place.data(n=60)
    code, out = retrain()
    assert deaths
    assert (code, out["state"]) == (0, "promoted"), out["words"]
    assert cluster.codes[out["submission"]] == [137, 0]
    assert out["verdict"]["passed"] is True
    assert out["moved"]["version"] == out["version"] == place.aliases["champion"]


def test_a_cause_that_lies_outside_is_followed_by_another_attempt(
    place: Place, cluster: Cluster, retrain: Retrain, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 is final for its attempt, however often it is asked."""
    place.data(n=60)
    assert retrain()[0] == 0
    test = sequences(n=60).select(range(60))
    renamed = test.rename_column("cell_type", "other")
    renamed.save_to_disk(f"{place.root}/frozen")
    place.data(n=80, seed=3)
    frozen = ("--set", f"gate.dataset={place.root}/frozen")
    code, out = retrain(*frozen)
    assert code == 2, out["words"]
    capsys.readouterr()
    code, again = retrain(*frozen)
    assert (code, again["words"]) == (2, out["words"])
    assert "--attempt 2 starts another one" in capsys.readouterr().err
    shutil.rmtree(f"{place.root}/frozen")
    test.save_to_disk(f"{place.root}/frozen")
    code, out = retrain(*frozen)
    assert code in (0, 6), f"another set is another job: {out['words']}"


def test_another_attempt_is_followed_from_then_on(
    place: Place, cluster: Cluster, retrain: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.data(n=60)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "require", lambda uri: (_ for _ in ()).throw(ConfigError("the image lacks it")))
        code, out = retrain()
    assert code == 2
    assert "the image lacks it" in out["words"]
    assert retrain()[0] == 2
    assert [code for codes in cluster.codes.values() for code in codes] == [2, 2]
    code, out = retrain("--attempt", "2")
    assert (code, out["state"]) == (0, "promoted"), out["words"]
    assert main(["rollback", "small", "-c", place.config, "--to", out["version"]]) == 0
    assert retrain()[1]["state"] == "nothing"


def test_a_failure_that_may_pass_is_tried_again(
    place: Place, cluster: Cluster, retrain: Retrain, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.data(n=60)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "register", lambda *given: (_ for _ in ()).throw(Death()))
        code, out = retrain()
        assert (code, out["state"]) == (3, "failed")
    code, out = retrain()
    assert (code, out["state"]) == (0, "promoted"), out["words"]
    assert len(cluster.codes) == 2


def test_what_another_job_left_is_not_believed(place: Place, cluster: Cluster, retrain: Retrain) -> None:
    place.data(n=60)
    assert retrain()[0] == 0
    place.data(n=240, seed=2, shuffled=True)
    bad = retrain()[1]
    told = storage.read_json(storage.join(bad["run"], "retrain.json"))
    other = {**told, "state": "promoted", "submission": "another", "moon": "full"}
    storage.write_json(storage.join(bad["run"], "retrain.json"), other)
    cluster.submit = lambda submission: (  # type: ignore[method-assign]
        cluster.codes.setdefault(cluster.target(submission, None).name, [3]) and True
    )
    code, out = retrain("--set", "gate.accuracy=0.7")
    assert (code, out["state"]) == (3, "failed"), "not promoted, as the file of the other job says"


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        pytest.param("run.output=runs", "run.output", id="output"),
        pytest.param("registry.url=registry", "registry.url", id="registry"),
        pytest.param("gate.dataset=frozen", "gate.dataset", id="frozen"),
    ],
)
def test_paths_that_pods_do_not_have(
    place: Place, cluster: Cluster, retrain: Retrain, setting: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.root)
    place.data(n=60)
    Path("frozen").mkdir()
    Path("frozen", "x").touch()
    code, out = retrain("--set", setting)
    assert code == 2
    assert f"{name} is '{setting.partition('=')[2]}': a relative path is another one on a cluster" in out["words"]
    assert cluster.codes == {}


def test_a_base_model_of_the_registry_is_the_one_that_was_submitted(
    place: Place, cluster: Cluster, retrain: Retrain
) -> None:
    """Its alias may move before the job begins; another version is another generation."""
    place.data(n=60)
    first = retrain()[1]
    base = ["--set", "model={checkpoint: registry://small@champion}", "--set", "registry.name=other"]
    code, out = retrain(*base)
    assert code == 0, out["words"]
    come = storage.read_json(storage.join(out["run"], "run.json"))["config"]["model"]["checkpoint"]
    assert first["version"] in come
    assert retrain(*base)[1]["state"] == "nothing"
    place.data(n=80, seed=1)
    assert retrain()[0] == 0
    place.data(n=60)
    assert "settings" in retrain(*base)[1]["news"]
