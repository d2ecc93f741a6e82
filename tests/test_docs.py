"""The documents beside the README: links, commands and values that they name exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml

from sortase import GenericClassifier
from sortase.cli import parser
from sortase.config.compute import ComputeSpec
from sortase.config.gate import GateSpec
from sortase.config.load import parse
from sortase.config.run import Config

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    ROOT / "docs" / "operations.md",
    ROOT / "k8s" / "README.md",
    ROOT / "helm" / "sortase" / "README.md",
    ROOT / "docs" / "retraining.md",
    ROOT / "docs" / "training-arguments.md",
    ROOT / "docs" / "migrating.md",
]
VALUES = yaml.safe_load((ROOT / "helm" / "sortase" / "values.yaml").read_text())
SECTIONS = "|".join(name for name in VALUES if name != "run")
OF_KUBERNETES = {  # what it means stands in the documentation of Kubernetes
    *("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "annotations", "labels"),
    *("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "allowPrivilegeEscalation", "readOnlyRootFilesystem"),
}


def writer() -> Any:
    spec = importlib.util.spec_from_file_location("readme", ROOT / "helm" / "readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_charts_readme_is_what_its_values_say() -> None:
    assert DOCUMENTS[2].read_text() == writer().readme(), "run: python helm/readme.py"


def test_every_value_is_described() -> None:
    bare = {name for name, _, words in writer().rows() if words == "as Kubernetes has it"}
    assert bare
    assert {name.rpartition(".")[2] for name in bare} <= OF_KUBERNETES, bare


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_commands_are_understood(path: Path) -> None:
    blocks = re.findall(r"```bash\n(.*?)```", path.read_text(), re.DOTALL)
    for line in (line.strip() for block in blocks for line in block.splitlines()):
        if line.startswith("sortase "):
            parser().parse_args(shlex.split(line)[1:])


def test_values_that_are_named_exist() -> None:
    named = re.findall(rf"`((?:{SECTIONS})(?:\.[A-Za-z*]+)+)", DOCUMENTS[0].read_text())
    assert len(named) > 15
    for name in named:
        value: Any = VALUES
        for part in name.replace(".*.", ".train.").split("."):
            assert part in value, name
            value = value[part]


def test_settings_of_compute_that_are_named_exist() -> None:
    named = set(re.findall(r"`compute\.(\w+)", DOCUMENTS[0].read_text()))
    assert named
    assert named <= set(ComputeSpec.model_fields)


def test_the_values_of_the_readme_suit_the_chart() -> None:
    text = (ROOT / "README.md").read_text()
    (block,) = [each for each in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if each.startswith("image:")]
    schema = json.loads((ROOT / "helm" / "sortase" / "values.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(block), schema)


def test_the_settings_and_values_for_retraining_are_valid() -> None:
    settings, values = re.findall(r"```yaml\n(.*?)```", DOCUMENTS[3].read_text(), re.DOTALL)
    assert parse(settings).gate is not None
    schema = json.loads((ROOT / "helm" / "sortase" / "values.schema.json").read_text())
    jsonschema.validate(yaml.safe_load(values), schema)


def test_rules_of_the_gate_that_are_named_exist() -> None:
    table = DOCUMENTS[3].read_text().partition("| rule |")[2].partition("\n\n")[0]
    named = {name for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}
    assert {"macro_f1", "ece", "max_slowdown"} <= named <= set(GateSpec.model_fields)


def test_words_that_are_said_to_be_ours_are_ours() -> None:
    """The first words of each row, among the strings of the sources."""
    table = DOCUMENTS[0].read_text().partition("## Troubles in sortase's words")[2].partition("\n## ")[0]
    quoted = re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)
    assert len(quoted) > 20
    told = [
        node.value
        for path in (ROOT / "src" / "sortase").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    for words in quoted:
        assert any(words in each for each in told), words


def test_settings_and_arguments_to_migrate_to_exist() -> None:
    text = (ROOT / "docs" / "migrating.md").read_text()
    arguments = {
        name
        for method in ("__init__", "prepare_data", "train", "plot_confusion_matrix")
        for name in signature(getattr(GenericClassifier, method)).parameters
    }
    cells = [cell for line in text.splitlines() if line.startswith("| ") for cell in line.split(" | ")[1:]]
    named = {name for cell in cells for name in re.findall(r"`([a-z_]+)=", cell)}
    assert len(named) > 12
    assert named <= arguments, named - arguments
    settings = {name for cell in cells for name in re.findall(r"`([a-z]+\.[a-z_]+)(?:`|:)", cell)} - {"training_args"}
    settings = {name for name in settings if not name.endswith((".json", ".pkl", ".parquet", ".predict"))}
    assert len(settings) > 8
    for name in settings:
        section, field = name.split(".")
        annotation = Config.model_fields[section].annotation
        (spec,) = [kind for kind in (annotation, *get_args(annotation)) if hasattr(kind, "model_fields")]
        assert field in spec.model_fields, name
