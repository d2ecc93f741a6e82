"""Nothing is left behind by a refusal, and the caller's process is as it was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refusal_data import FITTING, RUNS, TRAININGS, Ground, prepare_ground, run, state, train
from sortase import SortaseError
from sortase.errors import LONGEST, InputError


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def trained(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a training is finished."""
    output = tmp_path_factory.mktemp("trained")
    train(ground, FITTING, output)
    return output


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before Ray starts."""

    def start(*arguments: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("sortase.cluster.connect.imported", start)


@pytest.mark.parametrize("name", TRAININGS)
def test_a_refused_training_leaves_no_folder(name: str, ground: Ground, tmp_path: Path) -> None:
    before = state(tmp_path), state(ground.root)
    with pytest.raises(SortaseError, match=re.compile(TRAININGS[name][2], re.DOTALL)) as refused:
        train(ground, TRAININGS[name], tmp_path / "a" / "b")
    assert refused.value.exit_code == 2, refused.value
    assert (state(tmp_path), state(ground.root)) == before


@pytest.mark.parametrize("name", TRAININGS)
def test_a_refused_training_leaves_a_finished_one_as_it_is(name: str, ground: Ground, trained: Path) -> None:
    before = state(trained)
    with pytest.raises(SortaseError):
        train(ground, TRAININGS[name], trained, replace=True)
    assert state(trained) == before


@pytest.mark.parametrize("name", RUNS)
def test_a_refused_run_leaves_no_folder(
    name: str, ground: Ground, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    assert run(ground, tmp_path / "a" / "b", RUNS[name][0]) == 2
    assert RUNS[name][1] in capsys.readouterr().err
    assert state(tmp_path) == {"a": None, "a/run.yaml": b"run: {}\n"}


@pytest.fixture(scope="module")
def finished(ground: Ground, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that is finished."""
    output = tmp_path_factory.mktemp("finished") / "runs"
    assert run(ground, output, {}) == 0
    return output


@pytest.mark.parametrize("name", RUNS)
def test_a_refused_run_leaves_a_finished_one_as_it_is(name: str, ground: Ground, finished: Path) -> None:
    before = state(finished)
    assert run(ground, finished, RUNS[name][0]) == 2
    assert state(finished) == before


def test_a_message_is_bounded_and_keeps_both_ends() -> None:
    error = InputError("genes.h5ad cannot be read: " + "x" * 10_000 + "; copy it again")
    assert str(error).startswith("genes.h5ad cannot be read: xxx")
    assert str(error).endswith("xxx; copy it again")
    assert " [6,042 characters left out] " in str(error)
    assert str(InputError("a" * LONGEST)) == "a" * LONGEST
