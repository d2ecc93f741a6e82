"""Every public call leaves the process of its caller as it was, whether it succeeds or refuses."""

from __future__ import annotations

import logging
import os
import pickle
import random
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from datasets import load_from_disk

import sortase
from odd_values import CELLS
from refusal_data import ARGUMENTS, Ground, prepare_ground
from sortase import GenericClassifier, SortaseError


def snapshot() -> dict[str, Any]:
    loggers = [it for it in logging.Logger.manager.loggerDict.values() if isinstance(it, logging.Logger)]
    return {
        "random": random.getstate(),
        "numpy": pickle.dumps(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "flags": (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.backends.cudnn.deterministic,
            torch.backends.cudnn.benchmark,
            torch.backends.cuda.matmul.allow_tf32,
        ),
        "matplotlib": {name: repr(value) for name, value in dict.items(matplotlib.rcParams)},
        "levels": {it.name: (it.level, it.propagate, tuple(map(id, it.handlers))) for it in loggers},
        "root": (logging.root.level, tuple(map(id, logging.root.handlers))),
        "warnings": list(warnings.filters),
        "environment": dict(os.environ),
        "folder": Path.cwd(),
    }


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return prepare_ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(autouse=True)
def unusual() -> Iterator[None]:
    """What nobody would reach by chance."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(11)
    np.random.seed(12)
    torch.manual_seed(13)
    yield
    random.setstate(before[0])
    np.random.set_state(before[1])
    torch.set_rng_state(before[2])


def unchanged(call: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """The call's result; what it left of the caller's process is compared with what it met."""
    before = snapshot()
    try:
        return call(*arguments, **named)
    except SortaseError as error:
        return error
    finally:
        after = snapshot()
        after["levels"] = {name: after["levels"][name] for name in before["levels"]}
        assert not [name for name in before if before[name] != after[name]]


def test_notebook_from_data_to_figures(ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DS_ACCELERATOR", raising=False)
    unchanged(GenericClassifier, "cell_type", classifier_type="neither")
    arguments = {**ARGUMENTS, "full_determinism": True}
    classifier = unchanged(GenericClassifier, "cell_type", training_args=arguments, nproc=2)
    prepared = unchanged(classifier.prepare_data, ground.cells, tmp_path, "blood")
    data, class_map = prepared
    refused = unchanged(classifier.prepare_data, ground.cells, tmp_path, "..")
    assert isinstance(refused, SortaseError)
    assert isinstance(unchanged(classifier.train, ground.nothing, data, tmp_path / "none"), SortaseError)
    output = tmp_path / "model"
    trainer = unchanged(classifier.train, ground.checkpoint, data, output)
    unchanged(trainer.predict, load_from_disk(data))
    metrics = unchanged(classifier.evaluate, output, data, class_map, tmp_path / "scores")
    assert metrics["eval_samples"] == 60
    assert isinstance(
        unchanged(classifier.evaluate, output, ground.foreign_token, class_map, tmp_path / "none"), SortaseError
    )
    assert len(unchanged(sortase.predict_from_checkpoint, output, data)) == 60
    order = ["B", "NK", "T"]
    assert unchanged(classifier.plot_confusion_matrix, np.eye(3), tmp_path, "x", order) is None
    predictions = output / "predictions.pkl"
    assert unchanged(classifier.plot_predictions, predictions, class_map, "t", tmp_path, "x", order) is None
    assert (tmp_path / "x_predictions.svg").exists()


def test_functions(ground: Ground) -> None:
    (rows,) = [unchanged(sortase.load_and_filter, {"kind": "a"}, 1, CELLS)]
    assert len(rows) == 6
    unchanged(sortase.remove_rare, CELLS, 0.1, "kind", 1)
    unchanged(sortase.downsample_and_shuffle, CELLS, 4, 2, {"state_key": "kind"})
    assert unchanged(sortase.subsample_by_class, ["a", "a"], 1) in ([0], [1])
    renamed = unchanged(sortase.rename_cols, CELLS, "kind")
    unchanged(sortase.label_classes, "cell", renamed, None, None, 1)
    assert isinstance(unchanged(sortase.flatten_list, 3), SortaseError)


def restless() -> None:
    """What some library might do."""
    random.random()
    np.random.random()
    torch.rand(1)
    torch.set_default_dtype(torch.float64)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
    matplotlib.rcParams["lines.linewidth"] = 17.0
    logging.getLogger("sortase").setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("ignore")
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    os.environ.pop("OMP_NUM_THREADS", None)
    os.chdir("/")
    raise SortaseError("and then it fails")


def test_whatever_a_library_does_is_undone() -> None:
    from sortase.arguments import public

    logging.getLogger("sortase")
    assert str(unchanged(public()(restless))) == "and then it fails"
