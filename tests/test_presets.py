"""What a preset fills in, from the files of a clone of Geneformer's repository as it lies on a disk."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk

from model_families import pretrained
from sortase import GenericClassifier
from sortase.config.load import check, parse
from sortase.config.presets import PRESETS, table
from sortase.config.run import Config
from sortase.errors import ConfigError, InputError, MissingInputError
from sortase.prepare.presets import filled
from sortase.prepare.tokenize import tokenize

V1, V2 = PRESETS["geneformer-v1"], PRESETS["geneformer-v2-316m"]
GENES = 4100  # more than a cell may have


def gene(number: int) -> str:
    return f"ENSG{number:011d}"


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dictionaries with as many tokens as the published ones, where these lie."""
    root = tmp_path_factory.mktemp("Geneformer")
    folder = root / "geneformer"
    (folder / "gene_dictionaries_30m").mkdir(parents=True)
    specials = {"V1": ["<pad>", "<mask>"], "V2": ["<pad>", "<mask>", "<cls>", "<eos>"]}
    for preset, place in ((V1, folder / "gene_dictionaries_30m"), (V2, folder)):
        first = specials[preset.version]
        tokens = [*first, *(gene(number) for number in range(len(first), preset.vocab_size))]
        contents: dict[str, Any] = {
            "token_dictionary": {token: index for index, token in enumerate(tokens)},
            "gene_median_dictionary": dict.fromkeys(tokens[len(first) :], 1.0),
            "ensembl_mapping_dict": {"TP53": gene(100), gene(100): gene(100)},
        }
        for name, content in contents.items():
            (place / f"{name}_{preset.release}.pkl").write_bytes(pickle.dumps(content))
    for preset in (V1, V2):
        shape = {"hidden_size": 4, "num_hidden_layers": 1, "intermediate_size": 4, "vocab_size": preset.vocab_size}
        pretrained(root / preset.model, "bert", "AutoModelForMaskedLM", **shape)
    return root


def config_of(model: dict[str, Any], **sections: Any) -> Config:
    data = {} if "tokenize" in sections else {"data": {"dataset": "cells.dataset"}}
    return check({"run": {"name": "r"}, "labels": {"column": "c"}, "model": model, **data, **sections})


@pytest.mark.parametrize(
    ("name", "preset"), [pytest.param("geneformer-v1", V1, id="V1"), pytest.param("geneformer-v2-316m", V2, id="V2")]
)
def test_a_clone_of_the_repository_is_enough(clone: Path, name: str, preset: Any) -> None:
    model = {"checkpoint": str(clone / preset.model), "preset": name}
    spec = filled(config_of(model, tokenize={"input": "cells.h5ad"})).tokenize
    assert spec is not None
    below = clone / "geneformer" / ("gene_dictionaries_30m" if preset is V1 else "")
    assert spec.vocabulary == str(below / f"token_dictionary_{preset.release}.pkl")
    assert spec.medians == str(below / f"gene_median_dictionary_{preset.release}.pkl")
    assert spec.gene_names == str(below / f"ensembl_mapping_dict_{preset.release}.pkl")
    assert (spec.max_length, spec.special_tokens) == ((2048, False) if preset is V1 else (4096, True))
    assert filled(config_of(model)).labels.vocabulary == spec.vocabulary
    assert filled(config_of({**model, "files": str(clone)})).labels.vocabulary == spec.vocabulary


def test_what_the_user_says_stays(clone: Path) -> None:
    own = {
        "input": "c.h5ad",
        "vocabulary": "mine.pkl",
        "max_length": 512,
        "special_tokens": False,
        "gene_names": "n.csv",
    }
    model = {"checkpoint": str(clone / V2.model), "preset": "geneformer-v2-316m"}
    spec = filled(config_of(model, tokenize=own)).tokenize
    assert spec is not None
    assert {name: getattr(spec, name) for name in own} == own
    assert spec.medians is not None
    labelled = config_of(model, labels={"column": "c", "vocabulary": "mine.pkl"})
    assert filled(labelled).labels.vocabulary == "mine.pkl"


def test_cells_are_cut_as_geneformer_cuts_them(clone: Path, tmp_path: Path) -> None:
    """tokenizer.py keeps model_input_size - 2 genes, then puts <cls> before and <eos> behind them."""
    from anndata import AnnData

    names = ["TP53", *(gene(1000 + number) for number in range(GENES))]
    counts = np.arange(GENES + 1, 0, -1, dtype=np.float32)  # the first gene ranks first
    cells = AnnData(np.stack([counts, np.where(np.arange(GENES + 1) < 3, counts, 0)]))
    cells.var_names = names
    cells.write_h5ad(tmp_path / "cells.h5ad")
    model = {"checkpoint": str(clone / V2.model), "preset": "geneformer-v2-104m"}
    spec = filled(config_of(model, tokenize={"input": str(tmp_path / "cells.h5ad")})).tokenize
    assert spec is not None
    made = load_from_disk(tokenize(spec, str(tmp_path / "out")).dataset_path)["input_ids"]
    assert made[1] == [2, 100, 1000, 1001, 3]
    assert made[0] == [2, 100, *range(1000, 1000 + 4093), 3]
    assert len(made[0]) == 4096


@pytest.mark.parametrize(
    ("model", "error", "words"),
    [
        pytest.param({"preset": "geneformer-v1"}, ConfigError, "25,426; near: geneformer-v2-104m", id="other version"),
        pytest.param(
            {"preset": "geneformer-v2-104m", "files": "EMPTY"},
            MissingInputError,
            r"token_dictionary_gc104M\.pkl is not in .*model\.files",
            id="no dictionary",
        ),
        pytest.param(
            {"preset": "geneformer-v2-104m", "files": "OLD"},
            ConfigError,
            r"has 3 tokens, but the dictionary of Geneformer-V2-104M has 20,275",
            id="dictionary of another version",
        ),
        pytest.param({"preset": "geneformer-v2-104m", "files": "GONE"}, MissingInputError, "no folder", id="no folder"),
    ],
)
def test_what_does_not_belong_together_is_refused(
    clone: Path, tmp_path: Path, model: dict[str, Any], error: type[Exception], words: str
) -> None:
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "OLD").mkdir()
    (tmp_path / "OLD" / "token_dictionary.pkl").write_bytes(pickle.dumps({"<pad>": 0, "a": 1, "b": 2}))
    model = {**model, **({"files": str(tmp_path / model["files"])} if "files" in model else {})}
    with pytest.raises(error, match=words):
        filled(config_of({"checkpoint": str(clone / V2.model), **model}, tokenize={"input": "c.h5ad"}))


def test_an_unknown_preset_is_told_what_is_near() -> None:
    with pytest.raises(ConfigError, match="no preset 'geneformer_v1'; did you mean 'geneformer-v1'"):
        parse("run: {name: r}\ndata: {dataset: d}\nlabels: {column: c}\nmodel: {config: {}, preset: geneformer_v1}")


def test_from_python_the_version_brings_the_dictionary(clone: Path, tmp_path: Path) -> None:
    classes = {"sensitive": [gene(10), gene(11)], "insensitive": [gene(12), gene(13)]}
    classifier = GenericClassifier(None, "gene", classes, model_version="V1", model_files=str(clone), nproc=1)
    assert str(classifier.labels.vocabulary).endswith("token_dictionary_gc30M.pkl")
    with pytest.raises(MissingInputError, match="model_files in Python"):
        GenericClassifier(None, "gene", classes, model_version="V2", model_files=str(tmp_path))
    cells = GenericClassifier("cell_type", model_version="V2")
    assert cells.labels.vocabulary is None
    assert str(cells._dictionary(str(clone / V2.model))).endswith("token_dictionary_gc104M.pkl")
    with pytest.raises(ConfigError, match="has 25,426 tokens, but Geneformer-V2-104M has 20,275"):
        cells._dictionary(str(clone / V1.model))
    with pytest.raises(InputError, match="model_version"):
        GenericClassifier("cell_type", model_version="V3")


def test_the_installed_package_is_looked_at_and_not_imported(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "geneformer").symlink_to(clone / "geneformer")
    (clone / "geneformer" / "__init__.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = GenericClassifier("cell_type", model_version="V2").labels.vocabulary
    assert found == str(tmp_path / "geneformer" / "token_dictionary_gc104M.pkl")
    assert "geneformer" not in sys.modules


def test_the_table_of_the_documents_is_the_one_in_the_code() -> None:
    document = (Path(__file__).resolve().parents[1] / "docs" / "presets.md").read_text()
    assert table() in document


def test_the_published_files_are_what_the_table_says(geneformer_dir: Path) -> None:
    from sortase.data import vocabulary

    tokens = vocabulary.read(str(geneformer_dir / "geneformer_v1_token_dictionary.pkl"))
    assert len(tokens) == V1.vocab_size
    assert not {"<cls>", "<eos>"} & tokens.keys()
