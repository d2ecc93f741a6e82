"""Figures and the public plotting functions: files, orders, names that are user data."""

import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers.trainer_utils import PredictionOutput

from report_data import COUNTS, NAMES, evaluation, events, measured, prepared
from sortase import GenericClassifier, storage
from sortase.api.plots import file_names
from sortase.errors import InputError, InputTypeError, SortaseError, UnsafePickleError
from sortase.report.figures import data as figures
from sortase.report.figures import results
from sortase.report.figures.labels import compact, labels, plain, short
from sortase.report.figures.style import render
from sortase.report.matrices import named_matrices
from sortase.report.read_predictions import read_predictions

LONG = [f"CD8-positive, alpha-beta {kind} T cell (donor {d})" for kind in ("memory", "naive") for d in range(1, 26)]
FRAME = pd.DataFrame(COUNTS, NAMES, NAMES)
NESTED = {t: dict(zip(NAMES, r, strict=True)) for t, r in zip(NAMES, COUNTS, strict=True)}


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(COUNTS, id="array"),
        pytest.param(COUNTS.tolist(), id="lists"),
        pytest.param(FRAME, id="frame"),
        pytest.param(NESTED, id="dict"),
        pytest.param(COUNTS / COUNTS.sum(axis=1, keepdims=True), id="shares"),
    ],
)
def test_confusion_matrix_is_drawn_from_any_form(given: Any, root: str) -> None:
    GenericClassifier("cell_type").plot_confusion_matrix(given, root, "blood", NAMES)
    assert storage.read_bytes(storage.join(root, "blood_confusion_matrix.png"))[:4] == b"\x89PNG"
    assert b"<svg" in storage.read_bytes(storage.join(root, "blood_confusion_matrix.svg"))


@pytest.mark.parametrize("given", [pytest.param(FRAME, id="frame"), pytest.param(NESTED, id="dict")])
def test_a_part_of_the_classes_keeps_the_totals_of_all(given: Any) -> None:
    matrix = named_matrices(given, ["T", "B"])[""]
    assert matrix.counts.tolist() == [[9, 0], [0, 5]]
    assert matrix.totals.tolist() == [9, 6]


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"conf_mat": COUNTS}, id="stFormer's plot_confusion_matrix"),
        pytest.param({"conf_matrix": {"Geneformer": FRAME}, "macro_f1": [0.5]}, id="Geneformer's validate"),
        pytest.param({"conf_matrix": FRAME, "macro_f1": 0.5, "acc": 0.6}, id="Geneformer's evaluate_saved_model"),
        pytest.param({"confusion_matrix": COUNTS.tolist(), "eval_loss": 1.0}, id="stFormer's evaluate_model"),
        pytest.param({"confusion_matrix": COUNTS.tolist(), "classes": NAMES, "units": 20}, id="an evaluation.json"),
        pytest.param(torch.tensor(COUNTS), id="tensor"),
        pytest.param(torch.tensor(COUNTS, dtype=torch.float32, requires_grad=True), id="tensor that learns"),
        pytest.param(pd.DataFrame(COUNTS), id="frame of an array"),
        pytest.param({"Geneformer": NESTED}, id="nested dict of a model"),
        pytest.param({"V1": COUNTS.tolist()}, id="lists of a model"),
    ],
)
def test_matrices_of_other_packages(given: Any) -> None:
    (matrix,) = named_matrices(given, NAMES).values()
    assert matrix.counts.tolist() == COUNTS.tolist()


def test_an_evaluation_is_taken_by_its_path_and_in_another_order(tmp_path: Path) -> None:
    url = str(tmp_path / "evaluation.json")
    storage.write_json(url, {"confusion_matrix": COUNTS.tolist(), "classes": NAMES})
    matrix = named_matrices(url, ["T", "B"])[""]
    assert matrix.counts.tolist() == [[9, 0], [0, 5]]
    assert named_matrices(url, None)[""].classes == NAMES


def test_a_crosstab_lacks_the_classes_that_nobody_predicted() -> None:
    table = pd.crosstab(np.array(["B", "T", "T"]), np.array(["T", "T", "T"]))
    matrix = named_matrices(table, ["T", "B"])[""]
    assert matrix.counts.tolist() == [[2, 0], [1, 0]]


def test_each_model_has_its_figure(root: str) -> None:
    models = {"Geneformer": FRAME, "../../our model/v2": FRAME * 2, "geneformer": FRAME}
    GenericClassifier("cell_type").plot_confusion_matrix(models, root, "blood", ["T", "B"])
    names = ["blood_Geneformer", "blood_our_model_v2", "blood_geneformer_2"]
    wanted = {f"{name}_confusion_matrix.{kind}" for name in names for kind in ("png", "svg")}
    assert set(storage.list_files(root)) == wanted
    svg = storage.read_bytes(storage.join(root, "blood_our_model_v2_confusion_matrix.svg"))
    assert b"Confusion matrix: ../../our model/v2" in svg


def test_names_of_models_are_safe_in_file_names() -> None:
    names = file_names(["a/b", "a b", "...", "", "x" * 300, "细胞"])
    assert list(names.values()) == ["_a_b", "_a_b_2", "_model", "_model_2", "_" + "x" * 80, "_细胞"]


@pytest.mark.parametrize(
    ("given", "order", "words"),
    [
        pytest.param(FRAME, ["B", "X"], r"\['X'\].*'NK'", id="unknown in a frame"),
        pytest.param({"B": {"B": 1}}, ["B", "T"], "'T'", id="unknown in a dict"),
        pytest.param(COUNTS, ["B", "T"], "must name all", id="array with fewer names"),
        pytest.param(COUNTS, ["B", "B", "T"], "once", id="repeated"),
        pytest.param(COUNTS, [], "once", id="none"),
        pytest.param(COUNTS, "BNT", "class_order must be a list", id="text"),
        pytest.param(-COUNTS, NAMES, "zero or more", id="negative"),
        pytest.param(COUNTS * np.nan, NAMES, "zero or more", id="undefined"),
        pytest.param([[1, 2], [3]], ["a", "b"], "equal length", id="ragged"),
        pytest.param({"a": 1, "b": 2}, ["a", "b"], r"\{name of a model: matrix\}, but 'a' holds int", id="flat dict"),
        pytest.param({"V1": FRAME, "V2": 3}, NAMES, "'V1' holds DataFrame", id="a model without a matrix"),
        pytest.param({"V1": FRAME, "V2": COUNTS[:2, :2]}, NAMES, r"conf_mat\['V2'\] has the shape", id="a smaller one"),
        pytest.param(COUNTS, None, "class_order must be a list", id="an array without names"),
        pytest.param(pd.DataFrame(np.eye(2), ["a", "a"], ["a", "b"]), ["a"], "more than once", id="twice in a frame"),
    ],
)
def test_impossible_matrices_and_orders_are_refused(given: Any, order: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, InputTypeError), match=words):
        GenericClassifier("cell_type").plot_confusion_matrix(given, str(tmp_path), "x", order)
    assert not list(tmp_path.iterdir())


def predictions(folder: Path, kind: str, label: str = "label") -> str:
    rng = np.random.default_rng(0)
    probabilities, found = rng.dirichlet(np.ones(3), 60).astype(np.float32), rng.integers(0, 3, 60)
    if kind == "pkl":
        content = {"labels": found, "probabilities": probabilities, "classes": NAMES}
        (folder / "p.pkl").write_bytes(pickle.dumps(content))
    else:
        columns = {f"p_{name}": probabilities[:, i] for i, name in enumerate(NAMES)}
        pq.write_table(pa.table({label: np.array(NAMES)[found], **columns}), folder / "p.parquet")
    return str(folder / f"p.{kind}")


@pytest.mark.parametrize("kind", ["pkl", "parquet"])
def test_predictions_are_drawn(kind: str, tmp_path: Path) -> None:
    (tmp_path / "map.pkl").write_bytes(pickle.dumps({0: "B", 1: "NK", 2: "T"}))
    file = predictions(tmp_path, kind)
    classifier = GenericClassifier("cell_type")
    classifier.plot_predictions(file, str(tmp_path / "map.pkl"), "Blood", str(tmp_path), "x", ["T", "B"])
    assert {"x_predictions.png", "x_predictions.svg"} <= {path.name for path in tmp_path.iterdir()}
    with pytest.raises(SortaseError, match=r"'Z'.*'NK'"):
        classifier.plot_predictions(file, str(tmp_path / "map.pkl"), "Blood", str(tmp_path), "y", ["Z"])


def test_both_kinds_of_predictions_hold_the_same(tmp_path: Path) -> None:
    class_map = {name: i for i, name in enumerate(NAMES)}
    one, two = (read_predictions(predictions(tmp_path, kind), class_map) for kind in ("pkl", "parquet"))
    np.testing.assert_array_equal(one.classes, two.classes)
    np.testing.assert_array_equal(one.probabilities, two.probabilities)
    unlabelled = read_predictions(predictions(tmp_path, "parquet", "prediction"), class_map)
    assert (one.of, unlabelled.of) == ("true", "predicted")


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        pytest.param([1], InputTypeError, "'y_true' with 'y_pred'", id="a list"),
        pytest.param({"logits": [1]}, InputTypeError, r"\['logits'\]; expected 'labels'", id="other names"),
        pytest.param({"y_true": [0, 1], "y_pred": [0]}, InputError, r"\(2,\), y_pred \(1,\)", id="other lengths"),
        pytest.param({"y_true": [0, 2], "y_pred": [0, 1]}, InputError, "y_true holds 2", id="foreign id"),
        pytest.param({"y_true": ["B"], "y_pred": ["X"]}, InputError, "y_pred holds 'X'.*'B': 0", id="foreign name"),
        pytest.param({"y_true": [-100], "y_pred": [0]}, InputError, "holds no label", id="no label"),
        pytest.param({"y_true": 3, "y_pred": [0]}, InputTypeError, "got int", id="a number"),
        pytest.param({"y_true": [[0], [1, 0]], "y_pred": [0]}, InputError, "differ in length", id="ragged"),
        pytest.param(
            {"label_ids": [0], "predictions": [[1.0, 2, 3]]}, InputError, "3 classes, the class map 2", id="logits"
        ),
        pytest.param(PredictionOutput(np.ones((1, 2)), None, {}), InputError, "has no labels", id="no labels"),
        pytest.param({"labels": [0], "probabilities": None}, InputError, "parquet", id="too many to be kept"),
        pytest.param({"labels": [0], "probabilities": [[1.0]]}, InputError, "shape", id="other number of classes"),
        pytest.param({"labels": [], "probabilities": [], "classes": ["a"]}, InputError, "'a'", id="other classes"),
        pytest.param({"labels": Path(), "probabilities": 0}, UnsafePickleError, "athlib", id="other objects"),
    ],
)
def test_other_pickles_are_refused(content: Any, error: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(error, match=words):
        read_predictions(str(tmp_path / "p.pkl"), {"B": 0, "T": 1})


IDS, GUESSES = [2, 0, 1, 1, 0, 2], [2, 0, 1, 0, 0, 1]
LOGITS = np.log(np.eye(3)[GUESSES] * 0.7 + 0.1).astype(np.float32)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"y_true": np.array(IDS), "y_pred": np.array(GUESSES)}, id="stFormer's notebook"),
        pytest.param({"y_true": IDS, "y_pred": [np.int64(i) for i in GUESSES]}, id="lists"),
        pytest.param({"y_true": [NAMES[i] for i in IDS], "y_pred": [NAMES[i] for i in GUESSES]}, id="names"),
        pytest.param({"y_true": np.array(NAMES)[IDS], "y_pred": np.array(GUESSES)}, id="names and ids"),
        pytest.param({"y_true": np.array([[*IDS[:4], -100], [*IDS[4:], -100, -100, -100]]),
                      "y_pred": np.array([[*GUESSES[:4], 1], [*GUESSES[4:], 0, 2, 2]])}, id="tokens"),
    ],
)  # fmt: skip
def test_classes_alone_are_drawn_as_their_confusion_matrix(content: Any, tmp_path: Path) -> None:
    (tmp_path / "map.pkl").write_bytes(pickle.dumps(dict(zip(NAMES, range(3), strict=True))))
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(content))
    found = read_predictions(str(tmp_path / "p.pkl"), {name: i for i, name in enumerate(NAMES)})
    assert found.predicted is not None
    assert (found.classes.tolist(), found.predicted.tolist()) == (IDS, GUESSES)
    GenericClassifier("subtype").plot_predictions(
        predictions_file=str(tmp_path / "p.pkl"),
        id_class_dict_file=str(tmp_path / "map.pkl"),
        title="Visium Spot Subtype Predictions",
        output_directory=str(tmp_path),
        output_prefix="visium_spot",
        class_order=["T", "B"],
    )
    svg = (tmp_path / "visium_spot_predictions.svg").read_text()
    assert "Visium Spot Subtype Predictions" in svg
    assert "true class" in svg


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(PredictionOutput(LOGITS, np.array(IDS), {"test_loss": np.float64(1.0)}), id="PredictionOutput"),
        pytest.param({"pred_ids": GUESSES, "label_ids": IDS, "predictions": LOGITS.tolist()}, id="Geneformer"),
        pytest.param({"y_true": IDS, "y_pred": LOGITS}, id="logits"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_logits_become_probabilities(content: Any, protocol: int, tmp_path: Path) -> None:
    (tmp_path / "p.pickle").write_bytes(pickle.dumps(content, protocol))
    found = read_predictions(str(tmp_path / "p.pickle"), {name: i for i, name in enumerate(NAMES)})
    assert found.classes.tolist() == IDS
    np.testing.assert_allclose(found.probabilities, np.eye(3)[GUESSES] * 0.7 + 0.1, rtol=1e-6)


def test_logits_of_tokens_lose_what_has_no_label(tmp_path: Path) -> None:
    logits = np.full((2, 4, 3), -100, np.float32)
    logits[0], logits[1, :2] = LOGITS[:4], LOGITS[4:]
    labels = np.array([IDS[:4], [*IDS[4:], -100, -100]])
    (tmp_path / "p.pkl").write_bytes(pickle.dumps(PredictionOutput(logits, labels, None)))
    found = read_predictions(str(tmp_path / "p.pkl"), {name: i for i, name in enumerate(NAMES)})
    assert found.classes.tolist() == IDS
    assert found.probabilities.argmax(axis=1).tolist() == GUESSES


def test_other_parquet_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'p_Z'.*'p_NK'"):
        read_predictions(predictions(tmp_path, "parquet"), {"B": 0, "Z": 1})
    (tmp_path / "half.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputTypeError, match="not a whole Parquet file"):
        read_predictions(str(tmp_path / "half.parquet"), {"B": 0})


def drawings() -> dict[str, Any]:
    data, found = prepared(), evaluation()
    return {
        "class_balance": figures.class_balance({"train": {"B": 3, "T": 1}, "other": {"B": 2}}, "row"),
        "before_after": figures.before_after({"B": 9, "T": 100_000}, {"B": 9}),
        "lengths": figures.lengths(data["lengths"]["histogram"], 8),
        "learning_curves": figures.learning_curves(events(), 10, "mcc"),
        "no curves": figures.learning_curves([]),
        "confusion_matrix": results.confusion_matrix(np.eye(50), LONG),
        "per_class": results.per_class(found["per_class"]),
        "reliability": results.reliability(found["reliability"], 0.05),
        "comparison": results.comparison({"ours": measured(), "theirs": {"metrics": {}, "intervals": {}}}),
        "confidence": results.confidence({"B": np.array([0.1, 0.9]), "T": np.array([])}, "$title$"),
    }


def test_all_text_is_readable_and_inside_the_figure() -> None:
    from matplotlib.text import Text

    for name, figure in drawings().items():
        figure.draw_without_rendering()
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(drawn.x0, drawn.y0) > -0.01, name
        assert drawn.x1 < width + 0.01, name
        assert drawn.y1 < height + 0.01, name
        small = [t.get_text() for t in figure.findobj(Text) if t.get_text() and t.get_fontsize() < 8]
        assert not small, name


def test_labels_of_fifty_classes_do_not_overlap() -> None:
    figure = results.confusion_matrix(np.eye(50), LONG)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    for labels_, low, high in ((axes.get_xticklabels(), "x0", "x1"), (axes.get_yticklabels(), "y0", "y1")):
        spans = sorted((getattr(e, low), getattr(e, high)) for e in (label.get_window_extent() for label in labels_))
        assert len(spans) == 50
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_hundreds_of_classes_stay_within_bounds() -> None:
    names = [f"class {i}" for i in range(400)]
    figure = results.confusion_matrix(np.eye(400), names)
    assert max(figure.get_size_inches()) < 33
    rows = [{"class": n, "f1": i / 400, "precision": 1.0, "recall": None, "support": i} for i, n in enumerate(names)]
    assert results.per_class(rows).get_figheight() < 30
    assert figures.class_balance({"train": {n: i for i, n in enumerate(names)}}, "row").get_figheight() < 30


def test_figures_are_the_same_every_time() -> None:
    one, two = (render(results.confusion_matrix(COUNTS, NAMES), "svg") for _ in range(2))
    assert one == two
    assert b"<dc:date>" not in one


def test_figures_leave_no_trace_in_matplotlib() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    render(results.confusion_matrix(COUNTS, NAMES), "png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", ["T", "x" * 28, LONG[0]])
def test_short_names_keep_both_ends(name: str) -> None:
    assert len(short(name)) <= 28
    assert short(name)[:5] == name[:5]
    assert short(name)[-5:] == name[-5:]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(LONG, id="differ in the middle"),
        pytest.param([f"{'a' * 60}{i}{'b' * 60}" for i in range(3)], id="differ too deep inside"),
        pytest.param(NAMES, id="short"),
    ],
)
def test_labels_differ_where_names_do(names: list[str]) -> None:
    assert len(set(labels(names))) == len(names)
    assert max(map(len, labels(names))) < 28 + 4 * 6 + 4


def test_names_are_not_taken_for_formulas_or_lines() -> None:
    names = ["$x^2$", "two\nlines", "bell\a", "细胞"]
    svg = render(results.confusion_matrix(np.eye(4), names), "svg").decode()
    assert "$x^2$" in svg
    assert ">two lines<" in svg
    assert "\a" not in svg
    assert plain("a$") == r"a\$"


@pytest.mark.parametrize(
    ("value", "words"), [(0, "0"), (9999, "9999"), (12_345, "12k"), (1_234_567, "1.2M"), (0.25, "0.25"), (3e9, "3.0G")]
)
def test_counts_fit_their_cells(value: float, words: str) -> None:
    assert compact(value) == words
