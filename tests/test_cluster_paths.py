"""Relative paths on Ray, whose workers have folders of their own, and paths that other nodes do not see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from datasets import load_from_disk

from sortase import GenericClassifier
from sortase.cluster.visible import check_visible
from sortase.errors import ConfigError, InfrastructureError
from test_paths import ARGUMENTS, make_inputs

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def two_nodes() -> Iterator[None]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, namespace="sortase", log_to_driver=False)
    yield
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    make_inputs(folder)
    return folder


def test_the_notebook_on_a_worker_and_as_a_search(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(inputs)
    compute = {"workers": 1, "device": "cpu"}
    classifier = GenericClassifier("cell_type", nproc=1, training_args=ARGUMENTS, compute=compute)
    data, _ = classifier.prepare_data("cells.dataset", "tmp", "x")
    trainer = classifier.train(
        "pretrained", "tmp/x_labeled.dataset", "output/worker", tokenizer_name_or_path="vocabulary.pkl"
    )
    preds = trainer.predict(load_from_disk(data).shuffle(seed=42).select(range(20)))
    assert preds.predictions.shape == (20, 2)
    assert [entry for entry in trainer.state.log_history if "eval_loss" in entry]

    searching = GenericClassifier(
        "cell_type",
        nproc=1,
        training_args=ARGUMENTS,
        compute={"device": "cpu"},
        ray_config={"learning_rate": [1e-3, 2e-3]},
    )
    best = searching.train("pretrained", "tmp/x_labeled.dataset", "output/search", n_trials=1)
    assert (inputs / "output" / "search" / "tune" / "leaderboard.csv").is_file()
    again = searching.train("./pretrained", "./tmp/x_labeled.dataset", "./output/search", n_trials=1)
    found, wanted = (t.predict(load_from_disk(data)).predictions for t in (again, best))
    assert np.array_equal(found, wanted)
    assert again.state.log_history == best.state.log_history[: len(again.state.log_history)]
    assert best.state.log_history


def test_what_only_this_process_sees_is_named(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc/self/cwd is another folder in each process, as /home is on each machine."""
    monkeypatch.chdir(inputs)
    monkeypatch.setenv("SORTASE_LIMITS", "nodes-answer=600")  # a busy machine takes its time to start a process
    assert not check_visible({"dataset_path": str(inputs / "cells.dataset")}, str(inputs / "not" / "there" / "yet"))
    assert not check_visible({"dataset_path": "s3://bucket/cells.dataset"}, "s3://bucket/runs")
    with pytest.raises(
        ConfigError, match=r"^dataset_path /proc/self/cwd/cells\.dataset is on this machine only: node "
    ):
        check_visible({"dataset_path": "/proc/self/cwd/cells.dataset"}, None)
    with pytest.raises(ConfigError, match="the output folder /proc/self/cwd/runs is on this machine only"):
        check_visible({}, "/proc/self/cwd/runs")
    classifier = GenericClassifier("cell_type", training_args=ARGUMENTS, compute={"workers": 1, "device": "cpu"})
    data, _ = classifier.prepare_data("cells.dataset", "here", "x")
    before = sorted(path.name for path in inputs.iterdir())
    with pytest.raises(ConfigError, match="model_checkpoint /proc/self/cwd/pretrained"):
        classifier.train("/proc/self/cwd/pretrained", data, str(inputs / "refused"))
    assert sorted(path.name for path in inputs.iterdir()) == before


def test_a_node_that_cannot_look_has_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_LIMITS", "nodes-answer=600")
    with pytest.raises(InfrastructureError, match=r"node \S+ cannot look for paths: .*File name too long"):
        check_visible({"dataset_path": f"/tmp/{'x' * 300}"}, None)


def test_a_node_that_does_not_answer_in_time_is_not_known(inputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORTASE_LIMITS", "nodes-answer=0.000001")
    (line,) = check_visible({"dataset_path": "/proc/self/cwd/cells.dataset"}, str(inputs / "runs"))
    assert line.endswith("whether it sees dataset_path, the output folder")
