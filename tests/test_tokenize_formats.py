"""Counts in other formats than .h5ad and tables: the same cells give the same tokens, and what is broken is refused."""

from __future__ import annotations

import gzip
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import hdf5plugin
import numpy as np
import pytest
import scanpy
from datasets import load_from_disk
from scipy import sparse
from scipy.io import mmwrite

from sortase import storage
from sortase.config.tokenize import TokenizeSpec
from sortase.errors import InputError
from sortase.pipeline.preflight_inputs import check_counts
from tokenize_data import CELLS, annotated, gene, matrix, run, saved

ANTIBODIES = 3


def result(source: str, folder: Path, **settings: Any) -> tuple[list[list[int]], list[str], list[float]]:
    """Tokens, ids and totals."""
    rows = load_from_disk(run(source, folder, **settings).dataset_path)
    return rows["input_ids"][:], rows["cell_id"][:], rows["n_counts"][:]


def as_zarr(folder: Path, data: anndata.AnnData, version: int = 2, shards: bool = False) -> str:
    path = folder / "cells.zarr"
    settings = anndata.settings.override(zarr_write_format=version, auto_shard_zarr_v3=shards)
    with settings, warnings.catch_warnings(action="ignore"):
        data.write_zarr(path)
    return str(path)


def as_zip(folder: Path, data: anndata.AnnData) -> str:
    made = shutil.make_archive(str(folder / "cells.zarr"), "zip", as_zarr(folder, data, 3))
    shutil.rmtree(folder / "cells.zarr")
    return made


def as_anndata_loom(folder: Path, data: anndata.AnnData) -> str:
    data = data.copy()
    del data.obs["type"]
    data.write_loom(folder / "cells.loom")
    return str(folder / "cells.loom")


def as_loom(folder: Path, data: anndata.AnnData) -> str:
    with warnings.catch_warnings(action="ignore"):
        import loompy
    rows = {"Gene": data.var["symbol"].to_numpy(), "Accession": data.var_names.to_numpy()}
    columns = {"CellID": data.obs_names.to_numpy(), "age": data.obs["age"].to_numpy(), "_2d": np.zeros((data.n_obs, 2))}
    loompy.create(str(folder / "b.loom"), data.X.toarray().T, rows, columns)
    return str(folder / "b.loom")


def as_10x(folder: Path, data: anndata.AnnData, version: int = 3, name: str = "cells.h5") -> str:
    """As Cell Ranger writes it; in version 3 with antibodies in between, which are no genes."""
    genes, kinds = list(data.var_names), ["Gene Expression"] * data.n_vars
    counts = sparse.csr_matrix(data.X).astype(np.int32)
    if version == 3:
        more = sparse.csr_matrix(np.full((data.n_obs, ANTIBODIES), 1000, np.int32))
        counts = sparse.hstack([counts[:, :5], more, counts[:, 5:]], "csr")
        genes[5:5], kinds[5:5] = [f"CD{place}" for place in range(ANTIBODIES)], ["Antibody Capture"] * ANTIBODIES
    with h5py.File(folder / name, "w") as file:
        group = file.create_group("matrix" if version == 3 else "GRCh38")
        for part in ("data", "indices", "indptr"):
            group.create_dataset(part, data=getattr(counts, part), compression="gzip", shuffle=True)
        group["shape"] = np.array(counts.shape[::-1], np.int32)
        group["barcodes"] = np.array([name.encode() for name in data.obs_names])
        if version == 3:
            features = group.create_group("features")
            features["_all_tag_keys"] = np.array([b"genome"])
            texts = {
                "id": genes,
                "name": [f"N{name}" for name in genes],
                "feature_type": kinds,
                "genome": ["G"] * len(genes),
            }
        else:
            features, texts = group, {"genes": genes, "gene_names": genes}
        for column, values in texts.items():
            features[column] = np.array([value.encode() for value in values])
    return str(folder / name)


def as_mtx(folder: Path, data: anndata.AnnData, version: int = 3, by_genes: bool = False) -> str:
    """By cells, as Cell Ranger does, or by genes, as SciPy writes what lies by genes."""
    place = folder / "cells"
    place.mkdir()
    counts = sparse.csr_matrix(data.X).T.astype(int)
    if version == 3:
        counts = sparse.vstack([counts[:5], np.full((ANTIBODIES, data.n_obs), 1000), counts[5:]])
    counts = counts.tocsr().tocoo() if by_genes else counts.tocsc().tocoo()
    names = list(data.var_names)
    lines = [f"{name}\tN{name}" + "\tGene Expression" * (version == 3) for name in names]
    lines[5:5] = [f"CD{i}\tCD{i}\tAntibody Capture" for i in range(ANTIBODIES)] if version == 3 else []
    mmwrite(place / "matrix.mtx", counts)
    (place / ("features.tsv" if version == 3 else "genes.tsv")).write_text("".join(f"{line}\n" for line in lines))
    (place / "barcodes.tsv").write_text("".join(f"{name}\n" for name in data.obs_names))
    for path in list(place.iterdir()) if version == 3 else []:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    return str(place)


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(as_zarr, id="zarr 2"),
        pytest.param(lambda folder, data: as_zarr(folder, data, 3), id="zarr 3"),
        pytest.param(as_zip, id="zarr 3 in zip"),
        pytest.param(lambda folder, data: as_zarr(folder, data, 3, True), id="zarr 3 in shards"),
        pytest.param(as_anndata_loom, id="loom of AnnData"),
        pytest.param(as_loom, id="loom"),
        pytest.param(as_10x, id="Cell Ranger 3"),
        pytest.param(lambda folder, data: as_10x(folder, data, 2), id="Cell Ranger 2"),
        pytest.param(as_mtx, id="mtx"),
        pytest.param(lambda folder, data: as_mtx(folder, data, 2), id="mtx of version 2"),
        pytest.param(lambda folder, data: as_mtx(folder, data, 3, True), id="mtx by genes"),
    ],
)
def test_every_format_gives_what_the_h5ad_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., str]
) -> None:
    for reader in ("anndata_file", "loom", "mtx", "spill"):
        monkeypatch.setattr(f"sortase.data.counts.{reader}.BLOCK_VALUES", 100)
    wanted = result(saved(tmp_path, annotated()), tmp_path / "h5ad")
    source = write(tmp_path, annotated())
    assert result(source, tmp_path / "out", chunk_cells=7) == wanted
    assert {"cell_id", "n_counts"} < set(check_counts(TokenizeSpec(input=source)).names)


@pytest.mark.parametrize("kind", ["csc", "dense"])
def test_matrices_of_zarr_by_columns_and_dense(tmp_path: Path, kind: str) -> None:
    wanted = result(saved(tmp_path, annotated()), tmp_path / "h5ad")
    assert result(as_zarr(tmp_path, annotated(kind=kind)), tmp_path / "out") == wanted


def test_obs_of_zarr_is_that_of_h5ad(tmp_path: Path) -> None:
    data = annotated()
    data.obs["few"] = data.obs["batch"].astype("Int64").where(data.obs["batch"] == 1)
    rows = [
        load_from_disk(run(source, tmp_path / str(number)).dataset_path)
        for number, source in enumerate((saved(tmp_path, data), as_zarr(tmp_path, data, 3)))
    ]
    assert rows[0].column_names == rows[1].column_names
    assert rows[0].to_dict() == rows[1].to_dict()


def test_the_data_of_scanpy_in_zarr(tmp_path: Path) -> None:
    """Symbols as index, as scanpy has them; the same tokens as from its own .h5ad."""
    data = scanpy.datasets.pbmc68k_reduced().raw.to_adata()
    given = {"values": "log1p"}
    assert result(as_zarr(tmp_path, data), tmp_path / "a", **given) == result(
        saved(tmp_path, data), tmp_path / "b", **given
    )


@pytest.mark.parametrize("write", [as_10x, as_mtx])
def test_features_that_are_no_genes_are_left_out_and_said(tmp_path: Path, write: Callable[..., str]) -> None:
    source = write(tmp_path, annotated())
    made = run(source, tmp_path / "out", gene_column="name")
    assert made.summary["genes"] == annotated().n_vars
    assert "3 features that are not genes are left out: ['Antibody Capture']" in made.summary["notes"]
    vocabulary = json.loads((tmp_path / "out" / "vocabulary.json").read_text())
    assert f"N{gene(0)}" in vocabulary
    assert "CD0" not in vocabulary
    with pytest.raises(InputError, match="unknown gene_column 'symbol'"):
        run(source, tmp_path / "other", gene_column="symbol")
    (tmp_path / "ids.json").write_text(json.dumps({gene(place): place for place in range(30)}))
    with pytest.raises(InputError, match=r"unknown column 'donor' in tokenize\.columns"):
        run(source, tmp_path / "other", columns=["donor"])


def test_one_genome_of_several_is_chosen(tmp_path: Path) -> None:
    source = as_10x(tmp_path, annotated(), 2)
    with h5py.File(source, "r+") as file:
        file.copy("GRCh38", "mm10")
        del file["mm10/genes"]
        file["mm10/genes"] = np.array([f"M{place}".encode() for place in range(30)])
    with pytest.raises(InputError, match=r"several genomes; set tokenize.layer to one of \['GRCh38', 'mm10'\]"):
        run(source, tmp_path / "out")
    run(source, tmp_path / "out", layer="mm10")
    assert "M3" in json.loads((tmp_path / "out" / "vocabulary.json").read_text())
    newer = as_10x(tmp_path, annotated(), 3, "newer.h5")
    with h5py.File(newer, "r+") as file:
        genomes = file["matrix/features/genome"]
        genomes[...] = np.array([b"G", b"H"] * 17)[: len(genomes)]
    assert run(newer, tmp_path / "v3", layer="H").summary["genes"] == 14
    with pytest.raises(InputError, match=r"no genome 'X'; set tokenize.layer to one of \['G', 'H'\]"):
        run(newer, tmp_path / "none", layer="X")


def rewritten(place: Path, name: str, change: Callable[[str], str]) -> None:
    path = place / name
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        pytest.param("matrix.mtx", lambda t: t.replace("general", "symmetric"), "integer or real, general", id="kind"),
        pytest.param("matrix.mtx", lambda t: t.replace("30 57 ", "31 57 "), "of 31 genes and 57 cells", id="genes"),
        pytest.param("matrix.mtx", lambda t: t.replace("30 57 ", "57 30 "), "cells x genes, transpose", id="turned"),
        pytest.param("matrix.mtx", lambda t: t.replace("30 57 ", "30 57 9"), "values, it has", id="fewer"),
        pytest.param("matrix.mtx", lambda t: t + "1 1 1\n", "values, it has more", id="more"),
        pytest.param("matrix.mtx", lambda t: t.replace("\n1 1 ", "\n31 1 "), "gene number 31, but only 30", id="gene"),
        pytest.param("matrix.mtx", lambda t: t.replace("\n1 1 ", "\n1 0 "), "cell number 0, but only 57", id="cell"),
        pytest.param("matrix.mtx", lambda t: t.replace("\n1 1 ", "\n1 one "), "gene, cell and value", id="text"),
        pytest.param("matrix.mtx", lambda t: t.replace("\n1 1 ", "\n1 1 -"), r"the value -\d for gene", id="negative"),
        pytest.param("matrix.mtx", lambda t: t.replace("30 57 ", "30 " + "9" * 5000 + " "), "line of sizes", id="huge"),
        pytest.param("matrix.mtx", lambda t: t + "1" * 100_000, "line of more than", id="long line"),
        pytest.param("barcodes.tsv", lambda t: t + "one\n", "of 30 genes and 57 cells", id="barcodes"),
        pytest.param("genes.tsv", lambda t: "\n" + t, r"line 1 of genes.tsv is empty", id="empty line"),
    ],
)
def test_broken_matrices_of_text_are_refused(tmp_path: Path, name: str, change: Any, words: str) -> None:
    source = as_mtx(tmp_path, annotated(), 2)
    rewritten(Path(source), name, change)
    with pytest.raises(InputError, match=words):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_any_blanks_and_comments_stand_in_a_matrix_of_text(tmp_path: Path) -> None:
    wanted = result(saved(tmp_path, annotated()), tmp_path / "h5ad")
    source = as_mtx(tmp_path, annotated(), 2)
    rewritten(Path(source), "matrix.mtx", lambda text: text.replace("\n", " \r\n  ").replace("1 ", "1\t"))
    assert result(source, tmp_path / "out") == wanted


def test_what_lies_beside_the_matrix_of_text(tmp_path: Path) -> None:
    source = Path(as_mtx(tmp_path, annotated(), 2))
    for path in list(source.iterdir()):
        path.rename(path.with_name(f"GSM1_{path.name}"))
    assert len(result(str(source), tmp_path / "out")[0]) == CELLS
    (source / "GSM1_barcodes.tsv").rename(tmp_path / "outside.tsv")
    with pytest.raises(InputError, match=r"no GSM1_barcodes.tsv, also not as .gz"):
        run(str(source), tmp_path / "none")
    (source / "GSM1_barcodes.tsv").symlink_to(tmp_path / "outside.tsv")
    with pytest.raises(InputError, match="link that leads out of its folder"):
        run(str(source), tmp_path / "none")
    (source / "b_matrix.mtx").touch()
    with pytest.raises(InputError, match="several matrices"):
        run(str(source), tmp_path / "none")


@pytest.mark.parametrize(
    ("write", "where", "values", "words"),
    [
        pytest.param(as_10x, "matrix/shape", [31, 57], "names 33 and 57", id="shape"),
        pytest.param(as_10x, "matrix/indptr", [0] * 58, "arrays do not fit together", id="indptr"),
        pytest.param(as_10x, "matrix/features/feature_type", [b"Peaks"] * 33, "no feature of the type", id="types"),
        pytest.param(as_loom, "row_attrs/Accession", [b"x"] * 29, "of 29 and 57", id="loom attributes"),
        pytest.param(as_loom, "matrix", np.zeros(3), "is of", id="loom dimensions"),
    ],
)
def test_broken_files_of_hdf5_are_refused(
    tmp_path: Path, write: Callable[..., str], where: str, values: Any, words: str
) -> None:
    source = write(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        del file[where]
        file[where] = np.array(values)
    with pytest.raises(InputError, match=words):
        run(source, tmp_path / "out")


@pytest.mark.parametrize(("write", "where"), [(as_10x, "matrix/features/name"), (as_loom, "col_attrs/age")])
def test_links_and_claims_of_hdf5_are_refused_in_every_layout(
    tmp_path: Path, write: Callable[..., str], where: str
) -> None:
    source = write(tmp_path, annotated())
    shutil.copy(source, tmp_path / "other.h5")
    with h5py.File(source, "r+") as file:
        del file[where]
        file[where] = h5py.ExternalLink(str(tmp_path / "other.h5"), where)
    with pytest.raises(InputError, match="link to another file; nothing outside of it is read"):
        run(source, tmp_path / "out")
    with h5py.File(source, "r+") as file:
        del file[where]
        matrix = "matrix/data" if write is as_10x else "matrix"
        shape = file[matrix].shape
        del file[matrix]
        file.create_dataset(matrix, (10**10, *shape[1:]), "f8", chunks=(100, *shape[1:]))
    with pytest.raises(InputError, match=r"claims|is of"):
        run(source, tmp_path / "out")


def pickled_codec(path: Path) -> None:
    metadata = json.loads((path / "X/data/.zarray").read_text())
    (path / "X/data/.zarray").write_text(json.dumps({**metadata, "filters": [{"id": "pickle"}]}))


def outside(path: Path) -> None:
    (path / "X/data/0").rename(path.parent / "elsewhere")
    (path / "X/data/0").symlink_to(path.parent / "elsewhere")


def claimed(path: Path) -> None:
    metadata = json.loads((path / "X/data/.zarray").read_text())
    (path / "X/data/.zarray").write_text(json.dumps({**metadata, "shape": [10**11], "chunks": [10**11]}))


def bomb(path: Path) -> None:
    """A head of Blosc that says what it unpacks to."""
    chunk = bytearray((path / "X/data/0").read_bytes())
    chunk[4:8] = (2**31 - 1).to_bytes(4, "little")
    (path / "X/data/0").write_bytes(chunk)


def index_elsewhere(path: Path) -> None:
    attributes = json.loads((path / "obs/.zattrs").read_text())
    (path / "obs/.zattrs").write_text(json.dumps({**attributes, "_index": "../../other/obs/_index"}))


def no_json(path: Path) -> None:
    (path / "obs/.zattrs").write_text("[" * 100_000)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pickled_codec, r"/X/data is encoded by \['pickle'\], which is not read"),
        (outside, "is a link that leads out of the store"),
        (claimed, "claims 400,000,000,000 bytes"),
        (bomb, "claims 2,147,483,647 bytes"),
        (index_elsewhere, "obs has no index"),
        (no_json, r"obs/.zattrs is not valid JSON"),
    ],
)
def test_hostile_zarr_is_refused(tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    source = as_zarr(tmp_path, annotated())
    as_zarr(Path(shutil.copytree(source, tmp_path / "other")).parent / "x", annotated())
    change(Path(source))
    with pytest.raises(InputError, match=words):
        run(source, tmp_path / "out")


def test_a_chunk_in_a_shard_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    """A head of Zstandard that says 2 GB, before the shard is unpacked."""
    source = as_zarr(tmp_path, annotated(), 3, shards=True)
    shard = Path(source) / "X/data/c/0"
    content = bytearray(shard.read_bytes())
    place = content.index(b"\x28\xb5\x2f\xfd")
    content[place + 4 : place + 13] = b"\xe0" + (1 << 31).to_bytes(8, "little")
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"X/data/c/0 claims 2,147,483,648 bytes"):
        run(source, tmp_path / "out")


def test_zarr_is_read_from_storage(tmp_path: Path, s3_url: str) -> None:
    data = annotated()
    data.obs = data.obs[["age"]]
    wanted = result(saved(tmp_path, data), tmp_path / "h5ad")
    storage.upload(Path(as_zarr(tmp_path, data)), f"{s3_url}/in/cells.zarr")
    assert result(f"{s3_url}/i*/*.zarr", tmp_path / "out") == wanted


def test_a_zip_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    source = as_zip(tmp_path, annotated())
    with zipfile.ZipFile(source, "a", zipfile.ZIP_BZIP2) as file, file.open("X/data/c/9", "w") as item:
        for _ in range(10):
            item.write(bytes(10 << 20))
    with pytest.raises(InputError, match="X/data/c/9 claims 104,857,600 bytes"):
        run(source, tmp_path / "out")


def test_a_filter_of_hdf5plugin_is_read(tmp_path: Path) -> None:
    wanted = result(saved(tmp_path, annotated()), tmp_path / "h5ad")
    data = annotated()
    data.write_h5ad(tmp_path / "zstd.h5ad", compression=hdf5plugin.FILTERS["zstd"])
    assert result(str(tmp_path / "zstd.h5ad"), tmp_path / "out") == wanted


def test_what_is_no_count_by_columns_is_refused_before_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rows the first cells tell; by columns the values as they lie, where the matrix is large."""
    for number, wrong in enumerate((-1.0, np.nan, np.inf)):
        counts = matrix()
        counts[30, 3] = wrong
        source = saved(tmp_path, annotated(counts, "csc"), f"{number}.h5ad")
        with pytest.raises(InputError, match=r"gene 'ENSG00000000003' of cell 'cell30'"):
            check_counts(TokenizeSpec(input=source))
        with monkeypatch.context() as small:
            small.setattr("sortase.data.counts.anndata_file.BLOCK_VALUES", 100)
            with pytest.raises(InputError, match=r"has the value (-1|nan|inf) among its first ones"):
                check_counts(TokenizeSpec(input=source))
    source = saved(tmp_path, annotated(np.log1p(matrix()), "csc"), "log.h5ad")
    with pytest.raises(InputError, match="look like logarithms"):
        check_counts(TokenizeSpec(input=source))
