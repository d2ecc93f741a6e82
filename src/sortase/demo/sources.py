"""Where the demonstrations' data lies: real cells that installed Python packages carry."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path

from ..errors import MissingExtraError

DOSAGE_TABLE = Path(__file__).with_name("dosage_sensitivity_tf.csv")


def packaged(package: str, *parts: str) -> str:
    """The path of a data file inside an installed package, which is not imported for it."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError(f"the demo needs the {package} package: pip install 'sortase[demo]'")
    path = Path(spec.origin).parent.joinpath(*parts)
    if not path.is_file():
        raise MissingExtraError(f"the installed {package} has no {'/'.join(parts)}; pip install 'sortase[demo]'")
    return str(path)


def blood_cells() -> str:
    """700 blood cells with 10 expert labels (10x Genomics PBMC 68k, reduced), log-normalised counts in ``raw``."""
    return packaged("scanpy", "datasets", "10x_pbmc68k_reduced.h5ad")


def immune_cells() -> str:
    """559 human immune cells x 32,786 genes, whole counts, symbols as names."""
    return packaged("celltypist", "data", "samples", "sample_cell_by_gene.csv")


def gene_names() -> str:
    """GENCODE 44: Ensembl identifier and symbol of each human gene."""
    return packaged("celltypist", "data", "samples", "GENCODEv44_Gene_id2name.csv")


def dosage_classes() -> dict[str, list[str]]:
    """490 transcription factors by how much their dosage matters; see the table's source in README.md beside it."""
    with DOSAGE_TABLE.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: sorted({row[name] for row in rows if row[name]}) for name in rows[0]}
