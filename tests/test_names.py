"""Names stay names: scalars of run.yaml follow YAML 1.2, and where text is wanted they are taken as they were typed.

The cases are of public reports: yaml/pyyaml #107 (010), #417 and hydra-ecosystem/hydra #2599 (12e4567), and the tables
of https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Value

from sortase import GenericClassifier
from sortase.config.load import check, dump, parse, settings_of
from sortase.config.train import TrainSpec
from sortase.errors import ConfigError, InputError

BASE = """
run: {name: blood}
data: {dataset: cells.dataset}
labels: {column: plate}
model: {checkpoint: models/geneformer}
"""
TYPED = [
    "12e4567",
    "1_2",
    "12:30",
    "2024-01-01",
    "on",
    "no",
    "0x10",
    "007",
    "1e3",
    "0o17",
    "true",
    "4711",
    ".5",
    "1.10",
]


@pytest.mark.parametrize("typed", TYPED)
def test_text_is_taken_as_typed(typed: str) -> None:
    changed = BASE.replace("models/geneformer", typed).replace("column: plate", f"column: {typed}")
    settings = settings_of(changed, [f"compute.namespace={typed}"])
    config = check(settings)
    assert (config.model.checkpoint, config.labels.column, config.compute.namespace) == (typed, typed, typed)
    assert settings_of(dump(settings)) == settings
    listed = parse(f"{BASE}predict: {{dataset: d, columns: [{typed}, b]}}\n")
    assert listed.predict is not None
    assert listed.predict.columns == [typed, "b"]


@pytest.mark.parametrize("typed", [name for name in TYPED if name not in ("true", "no", "on")])
def test_keys_mean_the_label_of_that_text(typed: str) -> None:
    text = (
        BASE.replace("column: plate", f"column: plate, rename: {{{typed}: x}}, mapping: {{x: 0, {typed}: 1}}")
        + f"train: {{class_weights: {{{typed}: 5, x: 1}}}}\n"
        + f"split: {{strategy: column, column: side, sides: {{test: [{typed}]}}}}\n"
    )
    config = parse(text, ["train.max_steps=1"])
    assert (config.labels.rename, config.labels.mapping) == ({typed: "x"}, {"x": 0, typed: 1})
    assert config.train.class_weights == {typed: 5.0, "x": 1.0}
    assert config.split.sides == {"test": [typed]}


def test_zeros_in_front_tell_classes_apart() -> None:
    config = parse(BASE, ["labels.mapping={010: 0, 10: 1, 8: 2}", "labels.rename={08: 010, 0x8: 8}"])
    assert config.labels.mapping == {"010": 0, "10": 1, "8": 2}
    assert config.labels.rename == {"08": "010", "0x8": "8"}


def test_overrides_name_labels_too() -> None:
    assert parse(BASE, ["labels.rename.010=007", "labels.rename.8=x"]).labels.rename == {"010": "007", "8": "x"}


def test_truth_values_are_the_labels_of_a_column_of_truth_values() -> None:
    config = parse(BASE, ["labels.mapping={true: 0, false: 1}"])
    assert config.labels.mapping == {"True": 0, "False": 1}


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("+12", 12),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-1.5E-3", -0.0015),
        (".inf", float("inf")),
        ("True", True),
        ("~", None),
        ("no", "no"),
        ("12:30", "12:30"),
        ("190:20:30", "190:20:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("=", "="),
    ],
)
def test_other_values_follow_yaml_1_2(typed: str, value: Any) -> None:
    found = settings_of(BASE, [f"data.filter={{column: {typed}}}"])["data"]["filter"]["column"]
    assert (type(found), found) == (type(value), value)


def test_training_arguments_that_are_text() -> None:
    settings = settings_of(BASE, ["train.hub_model_id=12e45", "train.run_name=4711", "train.max_steps=0x10"])
    assert settings["train"] == {"hub_model_id": "12e45", "run_name": "4711", "max_steps": 16}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(
            "run:\n  name: a\n  output: b\n  name: c\n", "line 4: the key 'name' is given twice, .* line 2", id="name"
        ),
        pytest.param("run: {name: a}\ntrain: {}\nrun: {name: b}\n", "line 3: the key 'run' .* line 1", id="section"),
        pytest.param("labels:\n  rename:\n    8: a\n    '8': b\n", "line 4: the key '8' is given twice", id="label"),
        pytest.param("train: &a {x: *a}\n", "far more than here holds", id="alias of itself"),
        pytest.param("run: !other x\n", "'!other' is not supported", id="tag"),
        pytest.param("run: !!python/name:os.system x\n", "is not supported", id="object"),
        pytest.param("run: !!int x\n", "'x' is not of the type int", id="type"),
        pytest.param("run: {[a]: b}\n", "a key must be a name", id="list as a key"),
        pytest.param("[" * 3000, "without end", id="deep"),
    ],
)
def test_what_cannot_be_meant_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=f"^here.*{words}"):
        settings_of(text, name="here")


def test_a_key_given_twice_on_the_command_line() -> None:
    with pytest.raises(ConfigError, match=r"--set labels\.rename=.* the key 'a' is given twice"):
        parse(BASE, ["labels.rename={a: b, a: c}"])


def test_settings_taken_in_give_way_to_own_ones() -> None:
    settings = settings_of("data: &d {dataset: x, nproc: 2}\npredict: {<<: *d, dataset: 007}\n")
    assert settings["predict"] == {"dataset": "007", "nproc": 2}


def test_an_empty_section_is_an_empty_section() -> None:
    config = parse(BASE + "train:\n  # num_train_epochs: 5\nsplit:\ntune: null\n")
    assert config.train == TrainSpec()
    assert config.split.strategy == "random"
    assert config.tune is None
    with pytest.raises(ConfigError, match="gate has no rule"):
        parse(BASE + "gate:\n")
    assert parse(BASE, ["train=", "train.num_train_epochs=2"]).train.arguments["num_train_epochs"] == 2
    assert parse(BASE.replace("column: plate", "column: plate, rename: ")).labels.rename == {}
    with pytest.raises(ConfigError, match=r"'predict\.dataset' is required"):
        parse(BASE + "predict:\n  # dataset: other.dataset\n")


def test_python_callers_name_classes_by_numbers_too() -> None:
    spec = TrainSpec(class_weights={0: 1.0, 8: 5.0})  # type: ignore[dict-item]
    assert spec.class_weights == {"0": 1.0, "8": 5.0}


def test_a_filter_that_lost_its_zeros_is_refused_with_the_way_out(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"input_ids": [[5, 6]] * 4, "plate": ["010", "020"] * 2})
    value = parse(BASE, ["data.filter={plate: 010}"]).data.filter
    classifier = GenericClassifier("plate", filter_data=value, nproc=1)
    with pytest.raises(InputError, match="quotes, as '010'"):
        classifier.prepare_data(rows.cast_column("plate", Value("string")), str(tmp_path / "out"), "x")
