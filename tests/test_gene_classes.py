"""Classes of genes as users have them: sets that overlap, in any container, with genes that the vocabulary lacks."""

import json
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from datasets import Dataset, load_from_disk

from sortase import GenericClassifier, label_classes
from sortase.config.check import validate
from sortase.config.prepare import DataSpec, LabelSpec, SplitSpec
from sortase.data.gene_classes import read_gene_classes
from sortase.errors import InputError, SortaseError
from sortase.prepare.prepare import inputs_digest, prepare

# Of the Molecular Signatures Database 7.0, collection H (Liberzon et al. 2015, Cell Systems 1:417), CC BY 4.0.
HALLMARK = Path(__file__).with_name("hallmark.gmt").read_text().splitlines()
SETS = {name: genes for name, _, *genes in (line.split("\t") for line in HALLMARK)}
SHARED = {"JAG1", "NOTCH1", "FZD1", "PSEN2", "DLL1", "CUL1", "PPARD", "KAT2A", "CTNNB1", "NCOR2"}
GENES = sorted({gene for genes in SETS.values() for gene in genes})
TOKENS = {"<pad>": 0, "<mask>": 1, **{gene: i + 2 for i, gene in enumerate(GENES)}}
WNT, TGF, NOTCH = SETS


@pytest.fixture
def dictionary(tmp_path: Path) -> str:
    path = tmp_path / "token_dictionary.pickle"
    path.write_bytes(pickle.dumps(TOKENS))
    return str(path)


def cells(n: int = 30) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset.from_dict(
        {"input_ids": [rng.permutation(list(TOKENS.values())[2:])[:40].tolist() for _ in range(n)]}
    )


def hallmark_classifier(dictionary: str, **changes: Any) -> GenericClassifier:
    """As the notebook of stFormer makes it."""
    settings: dict[str, Any] = {
        "metadata_column": None,
        "gene_class_dict": SETS,
        "classifier_type": "token",
        "freeze_layers": 2,
        "forward_batch_size": 64,
        "nproc": 2,
        "token_dictionary_file": dictionary,
    }
    return GenericClassifier(**settings | changes)


def labels_by_gene(dataset: Dataset) -> dict[str, int]:
    names = {token: gene for gene, token in TOKENS.items()}
    return {
        names[token]: label for row in dataset for token, label in zip(row["input_ids"], row["labels"], strict=True)
    }


def test_overlapping_sets_are_refused_with_the_genes_and_the_ways_out(dictionary: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        hallmark_classifier(dictionary).prepare_data(cells(), str(tmp_path / "out"), "h")
    words = str(caught.value)
    assert words.startswith("10 genes are in several classes: 'CTNNB1' ('HALLMARK_WNT_BETA_CATENIN_SIGNALING', 'HALLM")
    assert all(
        part in words for part in ("and 5 more", "'drop'", "'first'", "'last'", "labels.overlap", "not there yet")
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        pytest.param("drop", {"JAG1": None, "CTNNB1": None}, id="drop"),
        pytest.param("first", {"JAG1": WNT, "CTNNB1": WNT}, id="first"),
        pytest.param("last", {"JAG1": NOTCH, "CTNNB1": TGF}, id="last"),
    ],
)
def test_overlap_says_what_becomes_of_shared_genes(
    overlap: str, expected: dict[str, str | None], dictionary: str, tmp_path: Path
) -> None:
    """``last`` is what stFormer does: a gene keeps the class that comes last in the dictionary."""
    with pytest.warns(UserWarning, match="10 genes are in several classes and"):
        path, _ = hallmark_classifier(dictionary, overlap=overlap).prepare_data(cells(), str(tmp_path / "out"), "h")
    by_hand, class_map = label_classes_quietly(dictionary, overlap)
    found = labels_by_gene(load_from_disk(path))
    assert found == labels_by_gene(by_hand)
    assert class_map == {name: i for i, name in enumerate(sorted(SETS))}
    for gene, name in expected.items():
        assert found[gene] == (-100 if name is None else class_map[name])
    assert all(found[gene] == class_map[TGF] for gene in SETS[TGF] if gene not in SHARED)


def label_classes_quietly(dictionary: str, overlap: str) -> tuple[Dataset, dict[str, int]]:
    with pytest.warns(UserWarning, match="10 genes are in several classes and"):
        return label_classes("gene", cells(), SETS, dictionary, 1, overlap=overlap)


def test_stformers_labels_are_those_of_overlap_last(dictionary: str) -> None:
    found, class_map = label_classes_quietly(dictionary, "last")
    token2class: dict[int, int] = {}  # as its documentation says: each set in turn writes its genes
    for name, genes in SETS.items():
        token2class.update({TOKENS[gene]: class_map[name] for gene in genes})
    assert found["labels"] == [[token2class[token] for token in row] for row in cells()["input_ids"]]


def test_shared_and_skipped_genes_are_reported(dictionary: str, tmp_path: Path) -> None:
    classes = SETS | {WNT: [*SETS[WNT], "nowhere"]}
    labels = LabelSpec(task="token", gene_class_dict=classes, vocabulary=dictionary, overlap="drop")
    told = prepare(cells(), DataSpec(), labels, str(tmp_path), "h").summary
    assert told["genes"]["in_several_classes"]["count"] == 10
    assert told["genes"]["in_several_classes"]["examples"]["JAG1"] == [WNT, NOTCH]
    assert told["genes"]["per_class"][WNT] == {"given": 43, "known": 42, "seen": 32, "missing": ["nowhere"]}
    assert told["genes"]["per_class"][TGF] == {"given": 54, "known": 54, "seen": 52, "missing": []}
    skipped, shared = told["notes"][-2:]
    assert skipped == f"1 gene is not in the vocabulary and skipped: class '{WNT}' 1 of 43 (nowhere)"
    assert shared.startswith("10 genes are in several classes and have no label: 'CTNNB1' (")


@pytest.mark.parametrize(
    ("overlap", "words"),
    [
        pytest.param(
            "multilabel", "'multilabel'.*is not there yet; allowed now: 'error', 'drop', 'first', 'last'", id="later"
        ),
        pytest.param("max", "overlap must be one of 'error', 'drop', 'first', 'last', got 'max'", id="unknown"),
        pytest.param(None, "overlap must be one of .* got None", id="none"),
        pytest.param(["drop"], "overlap must be one of .* got", id="list"),
    ],
)
def test_other_overlaps_are_refused(overlap: Any, words: str, dictionary: str) -> None:
    with pytest.raises(SortaseError, match=words):
        hallmark_classifier(dictionary, overlap=overlap)
    with pytest.raises(SortaseError, match=words):
        label_classes("gene", cells(), SETS, dictionary, 1, overlap=overlap)
    with pytest.raises(SortaseError, match=words):
        validate(LabelSpec, {"task": "token", "gene_class_dict": SETS, "overlap": overlap}, "labels")


def test_a_class_that_overlap_leaves_nothing_is_named(dictionary: str) -> None:
    classes = {"all": ["JAG1", "MYC"], "one": ["JAG1"]}
    with pytest.raises(
        InputError, match="all 1 known genes of class 'one' are in other classes as well, and overlap 'first'"
    ):
        label_classes("gene", cells(), classes, dictionary, 1, overlap="first")


def test_a_gene_beside_itself_with_a_version_is_shared(tmp_path: Path) -> None:
    (tmp_path / "v.json").write_text(json.dumps({"ENSG00000101384": 5, "ENSG00000148400": 6}))
    classes = {"a": ["ENSG00000101384.12"], "b": ["ENSG00000101384", "ENSG00000148400"]}
    data = Dataset.from_dict({"input_ids": [[5, 6]]})
    with pytest.raises(InputError, match=r"1 gene is in several classes: 'ENSG00000101384.12' \('a', 'b'\)"):
        label_classes("gene", data, classes, str(tmp_path / "v.json"), 1)


def test_skipped_genes_are_told_by_class(dictionary: str) -> None:
    classes = {"known": ["MYC", "TP53"], "partly": ["SMAD7", "nowhere1", "nowhere2"], "half": ["JUNB", "nowhere1"]}
    with pytest.warns(UserWarning) as caught:
        label_classes("gene", cells(), classes, dictionary, 1)
    (message,) = [str(warning.message) for warning in caught]
    assert message == (
        "2 genes are not in the vocabulary and skipped: class 'partly' 2 of 3 (nowhere1, nowhere2); class 'half' 1 of "
        "2 (nowhere1)"
    )


CONTAINERS: list[Any] = [
    pytest.param(set, id="set"),
    pytest.param(frozenset, id="frozenset"),
    pytest.param(tuple, id="tuple"),
    pytest.param(np.array, id="array"),
    pytest.param(lambda genes: np.array(genes, dtype=object), id="array of objects"),
    pytest.param(pd.Series, id="Series"),
    pytest.param(pd.Index, id="Index"),
    pytest.param(lambda genes: pd.Series([*genes, None, np.nan]), id="column of a ragged table"),
    pytest.param(lambda genes: dict.fromkeys(genes).keys(), id="keys"),
    pytest.param(lambda genes: genes[::-1], id="reversed"),
    pytest.param(lambda genes: genes + genes, id="each twice"),
    pytest.param(lambda genes: [f" {gene} " for gene in genes], id="blanks around"),
    pytest.param(lambda genes: (gene for gene in genes), id="generator"),
]


@pytest.mark.parametrize("container", CONTAINERS)
def test_any_collection_of_the_same_genes_is_the_same_class(
    container: Callable[[list[str]], Any], dictionary: str
) -> None:
    plain = LabelSpec(task="token", gene_class_dict=SETS, vocabulary=dictionary, overlap="drop")
    given = {name: container(list(genes)) for name, genes in SETS.items()}
    other = LabelSpec(task="token", gene_class_dict=given, vocabulary=dictionary, overlap="drop")
    assert other.model_dump(mode="json") == plain.model_dump(mode="json")
    assert inputs_digest(cells(), DataSpec(), other) == inputs_digest(cells(), DataSpec(), plain)


def test_entrez_numbers_are_genes() -> None:
    numbers = {"a": {7157, 4609}, "b": pd.Series([182.0, np.nan])}
    assert read_gene_classes(numbers) == {"a": ["4609", "7157"], "b": ["182"]}


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        pytest.param([["MYC"]], "gene_class_dict must be a dict", id="list"),
        pytest.param({"a": "MYC", "b": ["TP53"]}, r"\['a'\] must be a list of genes, got 'MYC'", id="text"),
        pytest.param({"a": 5, "b": ["TP53"]}, r"\['a'\] must be a list of genes, got 5", id="number"),
        pytest.param({"a": None, "b": ["TP53"]}, r"\['a'\] must be a list of genes, got None", id="none"),
        pytest.param(
            {"a": {"geneSymbols": ["MYC"]}}, r"\['a'\] must be a list of genes, got {'geneSymbols'", id="MSigDB's JSON"
        ),
        pytest.param(
            {"a": [["MYC"]], "b": ["TP53"]}, r"\['a'\] must hold names of genes, got \['MYC'\] in it", id="nested"
        ),
        pytest.param({"a": [True], "b": ["TP53"]}, r"\['a'\] must hold names of genes, got True in it", id="truth"),
        pytest.param(
            {"a": [7157.5], "b": ["TP53"]}, r"\['a'\] must hold names of genes, got 7157.5 in it", id="fraction"
        ),
        pytest.param({1: ["MYC"], "1": ["TP53"]}, "gene_class_dict has two classes of the name '1'", id="names"),
        pytest.param({None: ["MYC"], "1": ["TP53"]}, "must have a name for each class, got None", id="no name"),
        pytest.param({"a": [], "b": ["TP53"]}, "class 'a' has no gene", id="empty"),
        pytest.param({"a": [" ", None], "b": ["TP53"]}, "class 'a' has no gene", id="blank"),
        pytest.param({"a": ["TP53"]}, "at least two", id="one class"),
    ],
)
def test_classes_that_are_none(classes: Any, words: str, dictionary: str, tmp_path: Path) -> None:
    with pytest.raises(SortaseError, match=words):
        hallmark_classifier(dictionary, gene_class_dict=classes).prepare_data(cells(), str(tmp_path / "out"), "h")
    assert not (tmp_path / "out").exists()


def test_the_order_of_classes_counts_where_it_decides(dictionary: str) -> None:
    turned = dict(reversed(SETS.items()))
    digests = {
        (overlap, name): inputs_digest(
            cells(),
            DataSpec(),
            LabelSpec(task="token", gene_class_dict=classes, vocabulary=dictionary, overlap=overlap),
        )
        for overlap in ("drop", "first", "last")
        for name, classes in (("as is", SETS), ("turned", turned))
    }
    assert digests["drop", "as is"] == digests["drop", "turned"]
    assert len({digest for (overlap, _), digest in digests.items() if overlap != "drop"}) == 4


def test_settings_from_before_overlap_are_the_same() -> None:
    spec = LabelSpec(task="token", gene_class_dict={"a": ["x"], "b": ["y"]}, vocabulary="v")
    assert "overlap" not in spec.model_dump() and spec.overlap == "error"
    assert LabelSpec(**spec.model_dump()) == spec


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({0, 8}, {8, 0}, id="set"),
        pytest.param(frozenset({8, 0}), frozenset({0, 8}), id="frozenset"),
    ],
)
def test_sets_of_values_have_one_order(one: Any, other: Any) -> None:
    """These sets are equal and iterate in different orders, as sets of text do in different processes."""
    assert one == other and list(one) != list(other)
    first, second = (DataSpec(filter={"batch": values}).model_dump_json() for values in (one, other))
    assert first == second
    first, second = (
        SplitSpec(strategy="column", column="batch", sides={"train": values, "test": [9]}).model_dump_json()
        for values in (one, other)
    )
    assert first == second


SCRIPT = """
import pickle, sys
from datasets import Dataset
from sortase.config.prepare import DataSpec, LabelSpec
from sortase.prepare.prepare import inputs_digest, prepare

genes = [f"ENSG{i:011d}" for i in range(20)]
classes = {"sensitive": set(genes[:8]), "insensitive": frozenset(genes[8:16])}
open("classes.pkl", "wb").write(pickle.dumps(classes))
data = DataSpec(filter={"organ": {"liver", "heart", "lung", "spleen"}, "donor": {"d1", "d2", "d3"}})
for given in (classes, "classes.pkl"):
    labels = LabelSpec(task="token", gene_class_dict=given, vocabulary="v.json")
    rows = Dataset.from_dict({"input_ids": [[2]], "organ": ["liver"], "donor": ["d1"]})
    print(inputs_digest(rows, data, labels), labels.model_dump_json(), data.model_dump_json())
"""


def test_identity_is_the_same_in_processes_that_order_sets_differently(tmp_path: Path) -> None:
    genes = {f"ENSG{i:011d}": i + 2 for i in range(20)}
    (tmp_path / "v.json").write_text(json.dumps({"<pad>": 0, "<mask>": 1, **genes}))
    told = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(SCRIPT)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1] and told[0].count("\n") == 2
