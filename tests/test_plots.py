"""Public plots and the page: files, orders, names that are user data."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortase import GenericClassifier, storage
from sortase.errors import InputError, SortaseError
from sortase.report import result_figures
from sortase.report.names import short
from sortase.report.page import page
from sortase.report.plots import ordered_matrix
from sortase.report.style import render

NAMES = ["B", "NK", "T"]
COUNTS = np.array([[5, 1, 0], [2, 7, 1], [0, 0, 9]])


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(COUNTS, id="array"),
        pytest.param(COUNTS.tolist(), id="lists"),
        pytest.param(pd.DataFrame(COUNTS, NAMES, NAMES), id="frame"),
        pytest.param({t: dict(zip(NAMES, r, strict=True)) for t, r in zip(NAMES, COUNTS, strict=True)}, id="dict"),
    ],
)
def test_confusion_matrix_is_drawn_from_any_form(given: Any, root: str) -> None:
    GenericClassifier("cell_type").plot_confusion_matrix(given, root, "blood", NAMES)
    assert storage.read_bytes(storage.join(root, "blood_confusion_matrix.png"))[:4] == b"\x89PNG"
    assert b"<svg" in storage.read_bytes(storage.join(root, "blood_confusion_matrix.svg"))


def test_order_may_be_a_subset() -> None:
    frame = pd.DataFrame(COUNTS, NAMES, NAMES)
    assert ordered_matrix(frame, ["T", "B"])[0].tolist() == [[9, 0], [0, 5]]


@pytest.mark.parametrize(
    ("given", "order", "words"),
    [
        pytest.param(pd.DataFrame(COUNTS, NAMES, NAMES), ["B", "X"], "'X'", id="unknown in a frame"),
        pytest.param({"B": {"B": 1}}, ["B", "T"], "'T'", id="unknown in a dict"),
        pytest.param(COUNTS, ["B", "T"], "must name all", id="array with fewer names"),
        pytest.param(COUNTS, ["B", "B", "T"], "once", id="repeated"),
        pytest.param(COUNTS, [], "once", id="none"),
    ],
)
def test_impossible_orders_are_refused(given: Any, order: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        GenericClassifier("cell_type").plot_confusion_matrix(given, str(tmp_path), "x", order)
    assert not list(tmp_path.iterdir())


def predictions(folder: Path, kind: str) -> str:
    rng = np.random.default_rng(0)
    probabilities, labels = rng.dirichlet(np.ones(3), 60).astype(np.float32), rng.integers(0, 3, 60)
    if kind == "pkl":
        content = {"labels": labels, "probabilities": probabilities, "classes": NAMES}
        (folder / "p.pkl").write_bytes(pickle.dumps(content))
    else:
        columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(NAMES)}
        pq.write_table(pa.table({"label": np.array(NAMES)[labels], **columns}), folder / "p.parquet")
    return str(folder / f"p.{kind}")


@pytest.mark.parametrize("kind", ["pkl", "parquet"])
def test_predictions_are_drawn(kind: str, tmp_path: Path) -> None:
    (tmp_path / "map.pkl").write_bytes(pickle.dumps({0: "B", 1: "NK", 2: "T"}))
    file = predictions(tmp_path, kind)
    classifier = GenericClassifier("cell_type")
    classifier.plot_predictions(file, str(tmp_path / "map.pkl"), "Blood", str(tmp_path), "x", ["T", "B"])
    assert {"x_predictions.png", "x_predictions.svg"} <= {path.name for path in tmp_path.iterdir()}
    with pytest.raises(SortaseError, match="'Z'"):
        classifier.plot_predictions(file, str(tmp_path / "map.pkl"), "Blood", str(tmp_path), "y", ["Z"])


def test_figures_are_the_same_every_time() -> None:
    one, two = (render(result_figures.confusion_matrix(COUNTS, NAMES), "svg") for _ in range(2))
    assert one == two


@pytest.mark.parametrize("name", ["T", "x" * 28, "CD8-positive, alpha-beta memory T cell (donor 12)"])
def test_short_names_keep_both_ends(name: str) -> None:
    assert len(short(name)) <= 28
    assert short(name)[:5] == name[:5]
    assert short(name)[-5:] == name[-5:]


def test_names_from_users_cannot_become_markup() -> None:
    name = "<script>alert(1)</script>"
    steps = [{"step": "input", "rows": 3, "per_class": {name: 3, "$x$": 1}}]
    prepared = {
        "task": "sequence",
        "steps": steps,
        "notes": [name],
        "split": {
            "strategy": "random",
            "unit": "row",
            "sides": {"train": {"rows": 3, "per_class": {name: 3}}, "test": {"rows": 1, "per_class": {"$x$": 1}}},
            "groups": {"count": None, "crossing": 0},
            "near_duplicates": None,
            "missing": [],
        },
    }
    html, drawn = page({"name": name, "config": {"a": name}}, prepared, None, [])
    assert "<script" not in html
    assert "class_balance.png" in drawn
