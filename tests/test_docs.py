"""The documents: links, commands, settings and values that they name exist; what is made of the code is up to date."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
from collections.abc import Iterator
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from pages import blocks, commands
from sortase import GenericClassifier, errors
from sortase.cli import parser
from sortase.config.gate import GateSpec
from sortase.config.load import parse
from sortase.config.run import Config
from sortase.config.training_arguments import TABLE
from sortase.runs import layout

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BESIDE = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *(ROOT / name / "README.md" for name in ("k8s", "helm/sortase", "benchmarks", "src/sortase/demo")),
]
CHART = ROOT / "helm" / "sortase"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
OF_KUBERNETES = {  # what it means stands in the documentation of Kubernetes
    *("nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "annotations", "labels"),
    *("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "allowPrivilegeEscalation", "readOnlyRootFilesystem"),
}
# ends of names that are those of files
FILES = {"json", "parquet", "pkl", "yaml", "csv", "dataset", "yml", "predict", "md", "safetensors"}
WHOLE = yaml.safe_load(blocks((DOCS / "runs.md").read_text(), "yaml")[0].code)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())


def script(path: str) -> Any:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def anchors(path: Path) -> set[str]:
    """Of a page's headings, as code hosts and the site name them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", [*PAGES, *BESIDE], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!https://)([^)#\s]*)#?([^)\s]*)\)", page.read_text()):
        path = (page.parent / target).resolve() if target else page
        assert path.is_file(), target
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


def test_every_page_is_linked_from_another_one() -> None:
    linked = {
        (page.parent / target).resolve()
        for page in [*PAGES, *BESIDE]
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text())
        if (page.parent / target).resolve() != page
    }
    assert [page.name for page in PAGES if page not in linked] == []


@each_page
def test_commands_are_understood(page: Path) -> None:
    for block in blocks(page.read_text(), "bash"):
        for arguments in commands(block.code):
            parser().parse_args(arguments)


@each_page
def test_configurations_and_values_are_valid(page: Path) -> None:
    """Whole ones, and sections that take the place of those of the first one in the documents."""
    for block in blocks(page.read_text(), "yaml"):
        content = yaml.safe_load(block.code)
        if block.title == "values.yaml":
            jsonschema.validate(content, SCHEMA)
            continue
        assert block.title == "run.yaml", f"which file is this? {block.code[:60]}"
        without = {"data", "tokenize"} & content.keys()
        base = {name: section for name, section in WHOLE.items() if not (without and name in ("data", "tokenize"))}
        parse(block.code if "model" in content and "run" in content else yaml.safe_dump(base | content))


@each_page
def test_settings_and_values_that_are_named_exist(page: Path) -> None:
    known = {name for name, _ in fields(Config)}
    prefixes = {name.rpartition(".")[0] + "." for name in known}
    sections = "|".join({*Config.model_fields, *VALUES})
    for name in re.findall(rf"`((?:{sections})(?:\.[A-Za-z_*]+)+)(?=[`:=])", page.read_text()):
        if name.rpartition(".")[2] in FILES or in_values(name):
            continue
        section, _, rest = name.partition(".")
        parent = name.rpartition(".")[0]
        is_within = parent in known and f"{parent}." not in prefixes  # a mapping's own keys
        assert name in known or is_within or (section == "train" and rest in TABLE), name


def in_values(name: str) -> bool:
    value: Any = VALUES
    for part in re.sub(r"^groups\.\*|^groups\.train", "groups.train", name).split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def fields(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str | None]]:
    """Every setting by its dotted name, sections included, and its description."""
    for name, field in model.model_fields.items():
        full = f"{path}{name}"
        yield full, field.description
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from fields(kind, f"{full}.")


def test_every_setting_is_described() -> None:
    text = (DOCS / "settings.md").read_text()
    cells = [re.split(r" ?(?<!\\)\| ?", row) for row in re.findall(r"^\| (`\w+\..*)$", text, re.MULTILINE)]
    told = {name.strip("`"): words for name, _, _, _, words, *_ in cells}
    sections = {name for name, _ in fields(Config) if any(other.startswith(f"{name}.") for other, _ in fields(Config))}
    sections.remove("compute.workers")  # which may also be a number
    assert len(told) > 150
    assert told.keys() == {name for name, _ in fields(Config)} - sections
    assert [name for name, words in told.items() if not words] == []
    assert [name for name in Config.model_fields if f"\n## {name}\n" not in text] == []


def test_pages_made_of_the_code_are_up_to_date() -> None:
    made = script("docs/reference.py")
    assert (DOCS / "settings.md").read_text() == made.settings(), "run: python docs/reference.py"
    assert (DOCS / "command-line.md").read_text() == made.commands(), "run: python docs/reference.py"
    assert (DOCS / "metrics.md").read_text() == made.metrics(), "run: python docs/reference.py"


def test_every_section_has_an_example() -> None:
    assert script("docs/reference.py").examples().keys() == Config.model_fields.keys()


def test_the_charts_readme_is_what_its_values_say() -> None:
    assert (CHART / "README.md").read_text() == script("helm/readme.py").readme(), "run: python helm/readme.py"


def test_every_value_is_described() -> None:
    bare = {name for name, _, words in script("helm/readme.py").rows() if words == "as Kubernetes has it"}
    assert bare
    assert {name.rpartition(".")[2] for name in bare} <= OF_KUBERNETES, bare


def test_links_of_the_site_lead_to_its_pages() -> None:
    site = script("docs/site.py")
    assert site.in_site("[a](docs/ray.md#x) [b](LICENSE) [c](k8s/README.md)", "index.md") == (
        "[a](ray.md#x) [b](LICENSE.txt) [c](around-the-chart.md)"
    )
    assert site.in_site("[a](../docs/ci.md)", "around-the-chart.md") == "[a](ci.md)"
    assert site.in_site("[a](../inputs.md) [b](https://x.org/README.md)", "tutorials/genes.md") == (
        "[a](../inputs.md) [b](https://x.org/README.md)"
    )


def test_every_variable_of_ours_is_documented() -> None:
    """Those that the sources read or set, and what else they read of the environment."""
    places = [
        *(ROOT / "src" / "sortase").rglob("*.py"),
        *(ROOT / "jobs").glob("*.py"),
        *(CHART / "templates").iterdir(),
    ]
    sources = "".join(path.read_text() for path in [*places, ROOT / "docker" / "Dockerfile"])
    read = set(re.findall(r"\bSORTASE_[A-Z_]+[A-Z]\b", sources))
    read |= set(re.findall(r"(?:environ\.get\(|environ\[|getenv\(|\benv\.get\()[\"']([A-Z][A-Z0-9_]+)[\"']", sources))
    told = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", (DOCS / "environment.md").read_text()))
    assert len(read) > 20
    assert read - told - SET_FOR_LIBRARIES == set()


SET_FOR_LIBRARIES = {"RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "TUNE_MAX_PENDING_TRIALS_PG"}  # whatever a person says


def test_every_exit_code_is_documented() -> None:
    text = (DOCS / "exit-codes.md").read_text()
    classes = [
        each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, errors.SortaseError)
    ]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(\w+)`)? ?\| (\d+) \|", text, re.MULTILINE)
    assert {name: int(code) for name, _, code in rows} == {
        each.__name__: each.exit_code for each in classes if each is not errors.SortaseError
    }
    for name, builtin, _ in rows:
        assert not builtin or builtin in {base.__name__ for base in getattr(errors, name).__mro__}, name
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert codes == {0, *(each.exit_code for each in classes)}


def test_events_and_files_of_a_run_folder_are_documented() -> None:
    """What the sources write, by the names in their calls."""
    text = (DOCS / "run-folder.md").read_text()
    sources = "".join(path.read_text() for path in (ROOT / "src" / "sortase").rglob("*.py"))
    written = set(re.findall(r"events\.write\(\s*\"\w+\", \"(\w+)\"", sources)) | {"start", "end"}
    assert len(written) > 3
    assert [name for name in written if f"`{name}`" not in text] == []
    files = {name for key, name in vars(layout).items() if key.isupper() and re.fullmatch(r"[a-z]+\.[a-z]+", name)}
    assert len(files) > 5
    assert [name for name in files if name not in text] == []


def test_rules_of_the_gate_that_are_named_exist() -> None:
    table = (DOCS / "retraining.md").read_text().partition("| rule |")[2].partition("\n\n")[0]
    named = {name for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)}
    assert {"macro_f1", "ece", "max_slowdown"} <= named <= set(GateSpec.model_fields)


def test_words_that_are_said_to_be_ours_are_ours() -> None:
    """The first words of each row, among the strings of the sources."""
    text = (DOCS / "troubleshooting.md").read_text()
    table = text.partition("## Troubles in sortase's words")[2].partition("\n## ")[0] + text.partition("## Training")[2]
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


def test_arguments_to_migrate_to_exist() -> None:
    text = (DOCS / "migrating.md").read_text()
    arguments = {
        name
        for method in ("__init__", "prepare_data", "train", "plot_confusion_matrix")
        for name in signature(getattr(GenericClassifier, method)).parameters
    }
    cells = [cell for line in text.splitlines() if line.startswith("| ") for cell in line.split(" | ")[1:]]
    named = {name for cell in cells for name in re.findall(r"`([a-z_]+)=", cell)}
    assert len(named) > 12
    assert named <= arguments, named - arguments


def test_the_public_names_are_documented() -> None:
    import sortase

    text = (DOCS / "python.md").read_text()
    assert [name for name in sortase.__all__ if f"`{name}`" not in text] == []
    made = set(re.findall(r"^::: sortase\.(\w+)$", text, re.MULTILINE))
    assert made == {*sortase.__all__} - {"SortaseError"} | {"errors"}


def public() -> Iterator[Any]:
    """The functions of the API, classes by what makes them, and the methods of these."""
    import sortase

    for name in sortase.__all__:
        each = getattr(sortase, name)
        yield each
        if isinstance(each, type):
            yield from (own for key, own in vars(each).items() if callable(own) and not key.startswith("_"))


@pytest.mark.parametrize("each", list(public()), ids=lambda each: each.__qualname__)
def test_the_api_tells_parameters_results_and_errors(each: Any) -> None:
    words = each.__doc__
    if isinstance(each, type) and issubclass(each, Exception):
        assert words
        return
    shown = signature(each)
    for name in shown.parameters.keys() - {"self"}:
        assert re.search(rf"^ +{name}: ", words, re.MULTILINE), name
    assert "Raises:" in words
    gives = shown.return_annotation not in ("None", None, shown.empty)
    assert isinstance(each, type) or ("Returns:" in words) == gives


def test_the_map_of_the_code_has_every_package() -> None:
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## Map of the code")[2].partition("\n\nThe command")[0]
    packages = {path.parent.name for path in (ROOT / "src" / "sortase").glob("*/__init__.py")}
    assert packages == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
