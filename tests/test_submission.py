"""What is noticed of a submission before anything is sent, and of troubles and wishes that are no longer true."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from patience import PATIENCE
from sortase import storage
from sortase.config.load import check
from sortase.deploy import pods
from sortase.deploy.submission import Submission
from sortase.errors import ConfigError
from sortase.runs.folder import RunFolder
from sortase.runs.stop import listening


def submission(model: dict[str, Any], **sections: Any) -> Submission:
    settings = {
        "run": {"name": "x", "output": "s3://bucket/runs"},
        "data": {"dataset": "s3://bucket/cells.dataset"},
        "labels": {"column": "kind"},
        "model": model,
        **sections,
    }
    return Submission(check(settings), settings)


@pytest.mark.parametrize(
    ("model", "sections", "name"),
    [
        ({"checkpoint": "./pretrained"}, {}, "model.checkpoint"),
        ({"checkpoint": "pretrained"}, {}, "model.checkpoint"),
        ({"checkpoint": "org/name", "tokenizer": "../tokens.pkl"}, {}, "model.tokenizer"),
        ({"checkpoint": "org/name"}, {"compute": {"workers": 2, "deepspeed": "zero.json"}}, "compute.deepspeed"),
    ],
)
def test_files_of_this_machine_are_not_the_clusters(
    model: dict[str, Any], sections: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pretrained").mkdir()
    with pytest.raises(ConfigError, match=f"^{name} is .*a relative path is another one"):
        submission(model, **sections).require_reachable_paths()


@pytest.mark.parametrize("checkpoint", ["org/name", "bert-base-uncased", "/mounted/model", "s3://bucket/model"])
def test_models_that_are_known_everywhere(checkpoint: str) -> None:
    submission({"checkpoint": checkpoint}).require_reachable_paths()


def event(at: int, name: str, reason: str, kind: str = "Warning") -> SimpleNamespace:
    where = SimpleNamespace(name=name)
    stamp = f"2026-01-01 00:00:{at:02}"
    return SimpleNamespace(
        involved_object=where, reason=reason, message="words", type=kind, last_timestamp=stamp, event_time=None
    )


def test_troubles_after_which_it_went_well_are_over() -> None:
    past = [event(1, "x-1", "FailedToCreateHeadPod"), event(2, "x-1", "CreatedHeadPod", "Normal")]
    assert pods.troubles([], past, ["x"]) == ()
    assert pods.troubles([], [*past, event(3, "x-1", "FailedToCreateWorkerPod")], ["x"]) == (
        "x-1: FailedToCreateWorkerPod: words",
    )
    assert pods.troubles([], [*past, event(0, "x-2", "FailedScheduling")], ["x"]) == ("x-2: FailedScheduling: words",)


def test_a_wish_to_stop_an_earlier_attempt_is_not_heard(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.runs.stop.EVERY", 0.01)
    RunFolder(f"{root}/x").begin()
    folder = RunFolder(f"{root}/x")
    folder.begin()
    storage.write_json(folder.path("stop.json"), {"attempt": 1})
    looks = threading.Semaphore(0)
    read = RunFolder.read

    def counted(self: RunFolder, name: str) -> Any:
        if name == "stop.json":
            looks.release()
        return read(self, name)

    monkeypatch.setattr(RunFolder, "read", counted)
    asked = threading.Event()
    with listening(folder, asked, pytest.fail):
        for _ in range(3):
            assert looks.acquire(timeout=PATIENCE)
        assert not asked.is_set()
        storage.write_json(folder.path("stop.json"), {"attempt": 2})
        assert asked.wait(PATIENCE)
