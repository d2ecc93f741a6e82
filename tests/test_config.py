"""run.yaml: typed, closed, with errors in the user's words."""

import pytest

from sortase.config.load import parse
from sortase.config.run import Config
from sortase.errors import ConfigError

BASE = """
run: {name: blood}
data: {dataset: cells.dataset}
labels: {task: sequence, column: cell_type}
model: {checkpoint: models/geneformer}
"""


def test_defaults_are_filled_in() -> None:
    config = parse(BASE)
    assert config.run.output == "runs"
    assert config.split.test_size == 0.2
    assert config.compute.workers == 0
    assert config.train.arguments["num_train_epochs"] == 3


@pytest.mark.parametrize(
    ("override", "value"),
    [
        pytest.param("train.learning_rate=5e-4", 5e-4, id="number without a point"),
        pytest.param("train.learning_rate=0.001", 0.001, id="number"),
        pytest.param("train.learning_rate=1.5E-3", 0.0015, id="capital exponent"),
    ],
)
def test_overrides_are_yaml(override: str, value: float) -> None:
    assert parse(BASE, [override]).train.arguments["learning_rate"] == value


def test_overrides_reach_sections_that_the_file_leaves_out() -> None:
    config = parse(BASE, ["split.strategy=group", "split.column=donor", "train.class_weights={B: 2.0}"])
    assert (config.split.strategy, config.split.column) == ("group", "donor")
    assert config.train.class_weights == {"B": 2.0}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(BASE + "trian: {}\n", "unknown key 'trian'; did you mean 'train'?", id="section"),
        pytest.param(BASE.replace("column", "colum"), "did you mean 'column'?", id="key"),
        pytest.param(BASE.replace("task: sequence", "task: cells"), "labels.task", id="choice"),
        pytest.param(BASE.replace("run: {name: blood}", ""), "'run' is required", id="missing section"),
        pytest.param(BASE.replace("blood", "../blood"), "must be made of letters", id="name that is a path"),
        pytest.param(BASE + "tokenize: {input: a.h5ad}\n", "either data.dataset", id="two sources"),
        pytest.param(BASE.replace("{checkpoint: models/geneformer}", "{}"), "model.checkpoint", id="no model"),
        pytest.param("- a\n- b\n", "sections", id="list"),
        pytest.param("run: [unclosed", "not valid YAML", id="yaml"),
        pytest.param(
            BASE + "gate: {macro_f1: >= champion}\n", 'Quote .* macro_f1: ">= champion - 0.005"', id="in line"
        ),
        pytest.param(BASE + "gate:\n  macro_f1: >= champion\n", 'macro_f1: ">= champion - 0.005"', id="rule"),
        pytest.param(BASE + "gate:\n  macro_f1: > champion\n", 'macro_f1: ">= champion - 0.005"', id="other rule"),
        pytest.param(BASE + "gate:\n  min_class_recall: '>= 0.6'\n", "give a plain number", id="number"),
    ],
)
def test_bad_configurations_are_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match="(?s)" + words.replace("?", r"\?")) as caught:
        parse(text)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("override", ["train", "=3", "run.name.first=x", "train..x=1", "train.x={"])
def test_bad_overrides_are_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        parse(BASE, [override])


def test_rules_on_the_command_line_have_to_be_quoted() -> None:
    with pytest.raises(ConfigError, match=r"(?s)--set gate\.macro_f1=> champion.*Quote a rule that begins with >"):
        parse(BASE, ["gate.macro_f1=> champion"])
    with pytest.raises(ConfigError) as caught:
        parse(BASE, ["gate.macro_f1=[x"])
    assert "Quote" not in str(caught.value)


def test_several_mistakes_are_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)run.nam.*test_sise"):
        parse(BASE.replace("name", "nam"), ["split.test_sise=0.1"])


def test_schema_is_closed_and_described() -> None:
    schema = Config.model_json_schema()
    assert schema["additionalProperties"] is False
    for name, section in schema["$defs"].items():
        for key, field in section.get("properties", {}).items():
            assert field.get("description") or "$ref" in field or "allOf" in field, f"{name}.{key} has no description"


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(BASE).run.name = "other"  # type: ignore[misc]


def test_no_and_on_are_words() -> None:
    """A strategy is called no, and so may a class be."""
    config = parse(BASE, ["train.eval_strategy=no", "labels.mapping={no: 0, on: 1}", "train.keep_best=false"])
    assert config.train.arguments["eval_strategy"] == "no"
    assert config.labels.mapping == {"no": 0, "on": 1}
    assert config.train.keep_best is False
