"""Arguments by the names that the field's notebooks use."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from makers import rows
from sortase import GenericClassifier, arguments, load_and_filter
from sortase.errors import ConfigError

CLASSIFIER = GenericClassifier("kind", nproc=1)


def test_stformers_names_are_understood(tmp_path: Path) -> None:
    data = Dataset.from_dict({"input_ids": rows(12), "kind": ["a", "b"] * 6})
    prepared, _ = CLASSIFIER.prepare_data(input_data_file=data, output_directory=str(tmp_path), output_prefix="x")
    assert len(load_and_filter({"kind": "a"}, nproc=1, input_data_file=prepared)) == 6


@pytest.mark.parametrize(
    ("function", "arguments", "names"),
    [
        pytest.param(CLASSIFIER.prepare_data, ("x",), ("input_data", "input_data_file"), id="prepare"),
        pytest.param(CLASSIFIER.train, ("m", "d", "o", "x"), ("eval_dataset", "eval_dataset_path"), id="train"),
        pytest.param(load_and_filter, (None, 1, "x"), ("input_data", "input_data_file"), id="filter"),
    ],
)
def test_one_argument_under_two_names(
    function: Callable[..., object], arguments: tuple[object, ...], names: tuple[str, str]
) -> None:
    name, former = names
    for given in (arguments, ()):
        named = {former: "x"} if given else {name: "x", former: "x"}
        with pytest.raises(ConfigError, match=f"{name} and {former} are two names of one argument"):
            function(*given, **named)


@pytest.mark.parametrize("name", ["final_model", "best_model", "final_model/"])
def test_the_folder_of_a_trained_model(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the output, as stFormer has it, unless there is such a folder."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    assert arguments.model("model_directory", f"{tmp_path}/out/{name}") == f"{tmp_path}/out"
    assert arguments.model("model_directory", f"{tmp_path}/other/{name}") == f"{tmp_path}/other/{name}".rstrip("/")
    monkeypatch.chdir(tmp_path / "out")
    assert arguments.model("model_directory", name) == str(tmp_path / "out")
    (tmp_path / "out" / name).mkdir()
    assert arguments.model("model_directory", f"{tmp_path}/out/{name}") == f"{tmp_path}/out/{name}".rstrip("/")
