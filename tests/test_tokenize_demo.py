"""The demonstrations' cells, from the packages that carry them."""

from pathlib import Path
from typing import Any

import pytest
from datasets import load_from_disk

from sortase.demo import sources
from sortase.errors import MissingExtraError
from tokenize_data import medians_of, run


def test_blood_cells_are_tokenized_with_their_labels(tmp_path: Path) -> None:
    columns = ["bulk_labels", "louvain", "phase"]
    made = run(sources.blood_cells(), tmp_path, layer="raw", values="log1p", columns=columns)
    data = load_from_disk(made.dataset_path)
    assert len(data) == 700 and made.summary["dropped"] == 0
    assert len(set(data["bulk_labels"])) == 10
    assert set(data["phase"]) == {"G1", "S", "G2M"}
    assert all(len(set(row)) == len(row) for row in data["input_ids"])


def test_immune_cells_express_genes_of_both_classes(tmp_path: Path) -> None:
    made = run(sources.immune_cells(), tmp_path, gene_names=sources.gene_names(), columns=[], max_length=512)
    classes = sources.dosage_classes()
    assert {name: len(genes) for name, genes in classes.items()} == {"dosage_sensitive": 122, "dosage_insensitive": 368}
    assert made.summary["cells"] == 559 and made.summary["counts_are_whole"]
    assert all(len(set(genes) & set(medians_of(made))) > 20 for genes in classes.values())


@pytest.mark.parametrize("found", [pytest.param(None, id="no package"), pytest.param("elsewhere", id="no data")])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: str | None) -> None:
    def find(name: str) -> Any:
        return None if found is None else type("Spec", (), {"origin": str(tmp_path / "__init__.py")})

    monkeypatch.setattr(sources, "find_spec", find)
    with pytest.raises(MissingExtraError, match=r"scanpy.*sortase\[demo\]"):
        sources.blood_cells()
