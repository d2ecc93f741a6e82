"""Files as people have them: matrices and names that are read rightly, or losses and mistakes that are said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scanpy
from datasets import load_from_disk
from scipy import sparse

from sortase.config.load import check
from sortase.errors import InputError, MissingExtraError
from sortase.pipeline.run import run as run_stages
from tokenize_data import (
    CELLS,
    GENES,
    annotated,
    as_of_2020,
    expected_rows,
    gene,
    matrix,
    medians_of,
    rows_of,
    run,
    saved,
    table,
)


def total_of(source: str, folder: Path, **settings: Any) -> list[float]:
    return list(load_from_disk(run(source, folder, **settings).dataset_path)["n_counts"])


def stored_twice(path: str, kind: str) -> None:
    """Every value above 1 as two entries of its gene, the second at the end of its cell (or of its column)."""
    made = getattr(sparse, f"{kind}_matrix")(anndata.read_h5ad(path).X)
    data, indices, indptr = [], [], [0]
    for start, stop in zip(made.indptr[:-1], made.indptr[1:], strict=True):
        values, places = made.data[start:stop], made.indices[start:stop]
        more = values > 1
        data += [np.where(more, values - 1, values), np.ones(more.sum())]
        indices += [places, places[more]]
        indptr.append(indptr[-1] + len(values) + int(more.sum()))
    with h5py.File(path, "r+") as file:
        group = file["X"]
        for name, values in (("data", np.concatenate(data)), ("indices", np.concatenate(indices)), ("indptr", indptr)):
            kind_of = group[name].dtype
            del group[name]
            group[name] = np.asarray(values).astype(kind_of)


@pytest.mark.parametrize("kind", ["csr", "csc"])
@pytest.mark.parametrize("stored", ["f4", "u1"])
def test_a_gene_that_is_stored_twice_in_a_cell_is_summed(tmp_path: Path, kind: str, stored: str) -> None:
    counts = matrix()
    counts[0, 3] = 200
    source = saved(tmp_path, annotated(counts.astype(stored), kind))
    stored_twice(source, kind)
    made = run(source, tmp_path / "out")
    assert rows_of(made) == expected_rows(table(counts), medians_of(made))
    assert load_from_disk(made.dataset_path)["n_counts"][:] == counts.sum(axis=1).tolist()


def test_small_integers_do_not_overflow_in_the_sum(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated(np.array([[200, 1], [1, 1]], "u1")))
    with h5py.File(source, "r+") as file:
        for name, values in (("data", [200, 100, 1, 1, 1]), ("indices", [0, 0, 1, 0, 1]), ("indptr", [0, 3, 5])):
            kind = file["X"][name].dtype
            del file["X"][name]
            file["X"][name] = np.array(values, kind)
    assert total_of(source, tmp_path / "out") == [301, 2]


def scaled(base: float | None = None, target: float = 1e4) -> anndata.AnnData:
    data = annotated()
    scanpy.pp.normalize_total(data, target_sum=target)
    scanpy.pp.log1p(data, base=base)
    return data


@pytest.mark.parametrize("base", [None, 2, 10])
def test_the_base_that_scanpy_notes_is_turned_back(tmp_path: Path, base: float | None) -> None:
    made = run(saved(tmp_path, scaled(base)), tmp_path / "out", values="log1p")
    assert load_from_disk(made.dataset_path)["n_counts"][:] == pytest.approx([1e4] * CELLS, rel=1e-4)
    assert medians_of(made) == pytest.approx(medians_of(run(saved(tmp_path, annotated()), tmp_path / "c")), rel=1e-4)
    assert ["base" in note for note in made.summary["notes"]] == [True] * (base is not None)


def test_a_lost_base_is_noticed_by_the_sums_of_cells(tmp_path: Path) -> None:
    """Files that went through other tools have no uns/log1p."""
    data = scaled(2)
    del data.uns["log1p"]
    source = saved(tmp_path, data)
    with pytest.raises(InputError, match=r"logarithms of base 2: .*base e \(the default\).*tokenize.log_base: 2$"):
        run(source, tmp_path / "out", values="log1p")
    assert total_of(source, tmp_path / "out", values="log1p", log_base=2) == pytest.approx([1e4] * CELLS, rel=1e-4)


@pytest.mark.parametrize("base", [1.0, -2.0, "two", np.nan])
def test_a_base_that_is_none_is_refused(tmp_path: Path, base: Any) -> None:
    data = scaled()
    data.uns["log1p"] = {"base": base}
    source = saved(tmp_path, data)
    with pytest.raises(InputError, match=r"uns/log1p/base is .*a number above 1"):
        run(source, tmp_path / "out", values="log1p")
    run(source, tmp_path / "out", values="log1p", log_base=np.e)


def test_logarithms_taken_for_counts_name_the_base(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"look like logarithms, not counts \(uns/log1p says so, with base 2\)"):
        run(saved(tmp_path, scaled(2)), tmp_path / "out")


@pytest.mark.parametrize("target", [20, 1e4])
def test_counts_that_were_normalised_are_noticed(tmp_path: Path, target: float) -> None:
    """Also where they are as small as logarithms."""
    data = annotated()
    scanpy.pp.normalize_total(data, target_sum=target)
    made = run(saved(tmp_path, data), tmp_path / "out")
    assert f"normalised before: each cell adds up to {target:,.6g}" in made.summary["notes"][0]
    raw = run(saved(tmp_path, annotated()), tmp_path / "raw")
    assert medians_of(made) == pytest.approx(medians_of(raw), rel=1e-4)


def vocabulary_of(folder: Path, *genes: str) -> str:
    path = folder / "vocabulary.json"
    path.write_text(json.dumps({"<pad>": 0, "<mask>": 1, **{name: place + 2 for place, name in enumerate(genes)}}))
    return str(path)


def test_data_of_another_species_are_refused(tmp_path: Path) -> None:
    mouse = [gene(0), *(f"ENSMUSG{place:011d}" for place in range(1, GENES))]
    source = saved(tmp_path, annotated(genes=mouse))
    human = vocabulary_of(tmp_path, *(gene(place) for place in range(300)))
    with pytest.raises(InputError, match=r"only 1 of 30 genes .*vocabulary\.json.*0\.033.*min_known is 0\.2.*ENSMUSG"):
        run(source, tmp_path / "out", vocabulary=human)
    assert not (tmp_path / "out").exists()
    assert run(source, tmp_path / "out", vocabulary=human, min_known=0.03).summary["known_share"] == 0.0333


def test_medians_of_another_species_are_refused(tmp_path: Path) -> None:
    (tmp_path / "medians.json").write_text(json.dumps({gene(0): 1.0, "ENSMUSG00000000001": 1.0}))
    with pytest.raises(InputError, match=r"only 1 of 30 genes .* are in .*medians\.json"):
        run(saved(tmp_path, annotated()), tmp_path / "out", medians=str(tmp_path / "medians.json"))


@pytest.mark.parametrize("column", ["gene_ids", "ensembl_id", "feature_id", "Ensembl"])
def test_identifiers_are_taken_from_columns_that_tools_write_them_to(tmp_path: Path, column: str) -> None:
    """As scanpy's readers of 10x files and CELLxGENE do: symbols, or numbers, in the index."""
    data = annotated(genes=[f"SYMBOL{place}" for place in range(GENES)])
    data.var[column] = [gene(place) for place in range(GENES)]
    known = vocabulary_of(tmp_path, *(gene(place) for place in range(GENES)))
    made = run(saved(tmp_path, data), tmp_path / "out", vocabulary=known)
    assert rows_of(made) == expected_rows(table(), medians_of(made))
    assert f"var column '{column}'" in made.summary["notes"][0]


def test_losses_are_on_the_line_that_tokenize_is_done(tmp_path: Path) -> None:
    counts = matrix()
    counts[4, :20] = 0  # a cell without a known gene
    counts[4, 25] = 3
    source = saved(tmp_path, annotated(counts))
    known = vocabulary_of(tmp_path, *(gene(place) for place in range(20)))
    settings = {"input": source, "vocabulary": known, "max_length": 9}
    cut = int((np.delete(counts, 4, 0)[:, :20] > 0).sum(axis=1).__gt__(9).sum())
    lines: list[str] = []
    config = {"run": {"name": "r", "output": str(tmp_path / "runs")}, "tokenize": settings}
    model = {"config": {"model_type": "bert"}}
    run_stages(check({**config, "labels": {"column": "type"}, "model": model}), only="tokenize", log=lines.append)
    done = next(line for line in lines if line.startswith("tokenize: done"))
    assert "20 of 30 genes are known (66.7 %)" in done
    assert "1 of 57 cells have none of them and are dropped" in done
    assert cut > 0 and f"{cut} are cut to 9 tokens" in done


def test_a_column_with_a_slash_in_its_name_is_carried(tmp_path: Path) -> None:
    data = annotated()
    data.obs["CD4/CD8 ratio"] = np.arange(CELLS) / 4
    data.obs["panel/of/markers"] = pd.Categorical(["low", None, "high"] * (CELLS // 3))
    with pytest.warns(FutureWarning, match="slashes"):
        source = saved(tmp_path, data)
    rows = load_from_disk(run(source, tmp_path / "out").dataset_path)
    assert rows["CD4/CD8 ratio"][:3] == [0, 0.25, 0.5]
    assert rows["panel/of/markers"][:3] == ["low", None, "high"]
    named = run(source, tmp_path / "named", columns=["CD4/CD8 ratio"])
    assert load_from_disk(named.dataset_path).column_names[4:] == ["CD4/CD8 ratio"]


def test_text_in_another_encoding_is_read(tmp_path: Path) -> None:
    """Latin-1 as R on Windows writes it, of fixed and of variable length, in columns, categories, indices and genes."""
    data = annotated()
    source = saved(tmp_path, data)
    foreign = "Müller glia".encode("latin-1")
    with h5py.File(source, "r+") as file:
        obs = file["obs"]
        obs["fixed"] = np.array([foreign, *[b"rod"] * (CELLS - 1)])
        obs.create_dataset("variable", data=[foreign, *[b"rod"] * (CELLS - 1)], dtype=h5py.string_dtype("ascii"))
        del obs["type/categories"]
        obs["type/categories"] = np.array([b"rod", foreign])
        names = [name.encode() for name in data.obs_names]
        del obs["_index"]
        obs["_index"] = np.array(["Zelle ä".encode("latin-1"), *names[1:]])
    made = run(source, tmp_path / "out")
    rows = load_from_disk(made.dataset_path)
    assert [rows[name][0] for name in ("fixed", "variable", "type", "cell_id")] == [*["Müller glia"] * 3, "Zelle ä"]
    assert rows["fixed"][1] == "rod"
    assert any("'fixed'" in note and "Latin-1" in note for note in made.summary["notes"])


def test_text_that_is_utf_8_stays_so(tmp_path: Path) -> None:
    """One name of another encoding does not change how the others are read."""
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        file["obs"]["name"] = np.array(["β-Zelle".encode(), "Müller".encode("latin-1"), *[b"x"] * (CELLS - 2)])
    assert load_from_disk(run(source, tmp_path / "out").dataset_path)["name"][:3] == ["β-Zelle", "Müller", "x"]


def test_codes_whose_names_lie_beside_them_are_read_by_name(tmp_path: Path) -> None:
    """As SeuratDisk writes factors: without the attribute that leads from the codes to their names."""
    source = as_of_2020(saved(tmp_path, annotated()))
    with h5py.File(source, "r+") as file:
        del file["obs/type"].attrs["categories"]
    rows = load_from_disk(run(source, tmp_path / "out", columns=["type"]).dataset_path)
    assert rows["type"][:4] == ["β cell", "T cell", "T cell", None]


def test_factors_as_r_numbers_them_are_read_by_name(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        file["obs/state/levels"] = ["resting", "active"]
        file["obs/state/values"] = np.array([1, 2, -(2**31)] * (CELLS // 3), "i4")
    rows = load_from_disk(run(source, tmp_path / "out", columns=["state"]).dataset_path)
    assert rows["state"][:3] == ["resting", "active", None]


def test_nullable_types_are_read(tmp_path: Path) -> None:
    data = annotated()
    data.obs["count"] = pd.array([None, *range(CELLS - 1)], "Int64")
    data.obs["dead"] = pd.array([None, True, False] * (CELLS // 3), "boolean")
    data.obs["note"] = pd.array([None, "β", "b"] * (CELLS // 3), "string")
    with anndata.settings.override(allow_write_nullable_strings=True):
        source = saved(tmp_path, data)
    rows = load_from_disk(run(source, tmp_path / "out", columns=["count", "dead", "note"]).dataset_path)
    assert rows["count"][:3] == [None, 0, 1]
    assert rows["dead"][:3] == [None, True, False]
    assert rows["note"][:3] == [None, "β", "b"]


def emptied(layers: dict[str, Any]) -> anndata.AnnData:
    data = annotated()
    data.X = None
    for name, values in layers.items():
        data.layers[name] = values
    return data


@pytest.mark.parametrize("null", [True, False], ids=["null", "absent"])
def test_counts_of_a_layer_are_taken_where_x_is_empty(tmp_path: Path, null: bool) -> None:
    counts = sparse.csr_matrix(matrix())
    for name, layers in (("one", {"umi": counts}), ("named", {"counts": counts, "scaled": matrix() - 3})):
        source = saved(tmp_path, emptied(layers), f"{name}.h5ad")
        with h5py.File(source, "r+") as file:
            if "X" in file:
                del file["X"]
            if null:
                file["X"] = h5py.Empty("f")
                file["X"].attrs.update({"encoding-type": "null", "encoding-version": "0.1.0"})
        made = run(source, tmp_path / name)
        assert rows_of(made) == expected_rows(table(), medians_of(made))
        assert "X is empty" in made.summary["notes"][0]
    with pytest.raises(InputError, match=r"no X; set tokenize.layer to one of \['a', 'b'\]"):
        run(saved(tmp_path, emptied({"a": counts, "b": counts})), tmp_path / "two")


@pytest.mark.parametrize("where", ["X/data", "obs/age"])
def test_a_filter_that_hdf5_lacks_is_named(tmp_path: Path, where: str) -> None:
    """A number that no plugin has; its chunks are written as if it had been applied."""
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        values = file[where][:]
        del file[where]
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk(values.shape)
        created.set_filter(32999, h5py.h5z.FLAG_OPTIONAL)
        kind, space = h5py.h5t.py_create(values.dtype), h5py.h5s.create_simple(values.shape)
        made = h5py.h5d.create(file.id, where.encode(), kind, space, created)
        made.write_direct_chunk((0,), values.tobytes())
    with pytest.raises(MissingExtraError, match=f"/{where} is compressed by filter 32999 .*pip install hdf5plugin"):
        run(source, tmp_path / "out", columns=["age"])
