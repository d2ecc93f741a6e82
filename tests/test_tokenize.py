"""Ranks, medians, vocabularies: what becomes of counts."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk

from sortase import storage
from sortase.config.load import check
from sortase.config.tokenize import TokenizeSpec
from sortase.data.counts.medians import Medians
from sortase.data.counts.ranking import ranked
from sortase.errors import ExistingOutputError
from sortase.pipeline.run import run as run_stages
from sortase.prepare.tokenize import tokenize
from tokenize_data import (
    CELLS,
    annotated,
    as_of_2020,
    expected_medians,
    expected_rows,
    gene,
    matrix,
    medians_of,
    rows_of,
    run,
    saved,
    table,
)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_pickle(folder: Path, content: Any, name: str) -> str:
    (folder / name).write_bytes(pickle.dumps(content))
    return str(folder / name)


def test_medians_and_ranks_are_those_worked_out_cell_by_cell(tmp_path: Path) -> None:
    made = run(saved(tmp_path, annotated()), tmp_path / "out")
    medians = expected_medians(table())
    assert medians_of(made) == pytest.approx(medians, rel=1e-6)
    assert rows_of(made) == expected_rows(table(), medians_of(made))


def test_the_dataset_has_lengths_counts_cells_and_metadata(tmp_path: Path) -> None:
    made = run(saved(tmp_path, annotated()), tmp_path / "out", columns=["type", "age"])
    data = load_from_disk(made.dataset_path)
    assert data.column_names == ["input_ids", "length", "n_counts", "cell_id", "type", "age"]
    assert data["length"][:] == [len(row) for row in data["input_ids"]]
    assert data["n_counts"][:] == matrix().sum(axis=1).tolist()
    assert data["cell_id"][:] == table().index.to_list()
    assert data["type"][:5] == ["β cell", "T cell", "T cell", None, "T cell"]
    assert data.with_format("torch")[0]["input_ids"].dtype.is_floating_point is False


@pytest.mark.parametrize("chunk", [11, 250, 10_000])
def test_the_bytes_do_not_depend_on_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    source = saved(tmp_path, annotated(matrix(1300)))
    run(source, tmp_path / "whole")
    monkeypatch.setattr("sortase.data.counts.counts.CHUNK_VALUES", 4000 if chunk == 250 else 10**9)
    monkeypatch.setattr("sortase.prepare.tokenize_plan.MEDIAN_CELLS", 50 * chunk)
    monkeypatch.setattr("sortase.data.counts.medians.BLOCK_VALUES", 100 * chunk)
    monkeypatch.setattr("sortase.data.counts.medians.PART_VALUES", 30 * chunk)
    run(source, tmp_path / "cut", chunk_cells=chunk)
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def test_long_cells_are_cut_and_counted(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    whole, cut = run(source, tmp_path / "whole"), run(source, tmp_path / "cut", max_length=8)
    assert rows_of(cut) == [row[:8] for row in rows_of(whole)]
    assert cut.summary["truncated"] == sum(len(row) > 8 for row in rows_of(whole)) > 0
    assert cut.summary["lengths"]["max"] == 8


def test_cls_and_sep_count_towards_the_length(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    plain, marked = (
        run(source, tmp_path / "p", max_length=6),
        run(source, tmp_path / "m", max_length=8, special_tokens=True),
    )
    assert rows_of(marked) == [["<cls>", *row, "<sep>"] for row in rows_of(plain)]
    assert marked.summary["lengths"]["max"] == 8


@pytest.mark.parametrize(
    ("last", "known"), [("<eos>", {"<eos>": 91}), ("<sep>", {}), ("<sep>", {"<eos>": 5, "<sep>": 91})]
)
def test_a_given_vocabulary_keeps_its_ids_and_its_own_ends(tmp_path: Path, last: str, known: dict[str, int]) -> None:
    given = {gene(place): 90 - place for place in range(20)} | known
    source, path = saved(tmp_path, annotated()), write_pickle(tmp_path, given, "v.pkl")
    made = run(source, tmp_path / "out", vocabulary=path, special_tokens=True)
    assert {row[-1] for row in rows_of(made)} == {last}
    written = pickle.loads(Path(made.vocabulary_path).read_bytes())
    assert {token: written[token] for token in given} == given
    assert json.loads(Path(made.vocabulary_path).with_suffix(".json").read_text()) == written
    assert made.summary["unknown_genes"] == 10
    assert made.summary["unknown_examples"] == [gene(place) for place in range(20, 30)]


def test_equal_values_follow_the_token_ids(tmp_path: Path) -> None:
    counts = np.ones((3, 5), np.float32)
    given = write_pickle(tmp_path, {gene(place): 10 + (place * 3) % 5 for place in range(5)}, "v.pkl")
    medians = write_pickle(tmp_path, {gene(place): 0.1 for place in range(5)}, "m.pkl")
    made = run(saved(tmp_path, annotated(counts)), tmp_path / "out", vocabulary=given, medians=medians)
    assert load_from_disk(made.dataset_path)["input_ids"][:] == [[10, 11, 12, 13, 14]] * 3


def test_given_medians_decide_and_genes_without_one_are_not_ranked(tmp_path: Path) -> None:
    medians = {f"{gene(place)}.4": 1.0 + place for place in range(10)}
    made = run(saved(tmp_path, annotated()), tmp_path / "o", medians=write_pickle(tmp_path, medians, "m.pkl"))
    plain = {name.removesuffix(".4"): value for name, value in medians.items()}
    assert rows_of(made) == expected_rows(table(), plain)
    assert (made.summary["known_genes"], made.summary["genes_with_median"]) == (30, 10)


def test_id_to_token_vocabulary_versions_and_duplicates(tmp_path: Path) -> None:
    counts = matrix(genes=6)
    names = [f"{gene(0)}.1", gene(1), f"{gene(0)}.2", "unknown", gene(2), f"{gene(1)}.7"]
    vocabulary = write_pickle(tmp_path, {np.int16(7 + place): gene(place) for place in range(3)}, "v.pkl")
    made = run(saved(tmp_path, annotated(counts, genes=names)), tmp_path / "o", vocabulary=vocabulary)
    summed = np.stack([counts[:, 0] + counts[:, 2], counts[:, 1] + counts[:, 5], counts[:, 4]], 1)
    frame = table(summed).assign(unknown=counts[:, 3])
    medians = {name: value for name, value in expected_medians(frame).items() if name != "unknown"}
    assert medians_of(made) == pytest.approx(medians, rel=1e-6)
    assert rows_of(made) == expected_rows(frame, medians_of(made))
    assert made.summary["duplicates_summed"] == 2
    assert made.summary["unknown_examples"] == ["unknown"]


@pytest.mark.parametrize("name", ["names.csv", "names.tsv", "names.pkl"])
def test_symbols_become_identifiers(tmp_path: Path, name: str) -> None:
    ids = [gene(place) for place in range(30)]
    symbols = [f"S{place}" for place in range(30)]
    if name.endswith(".pkl"):
        names = write_pickle(tmp_path, dict(zip(symbols, ids, strict=True)), name)
    else:
        separator = "," if name.endswith("csv") else "\t"
        lines = [f"{gene(100)}.3{separator}S0", *(f"{i}.2{separator}{s}" for i, s in zip(ids, symbols, strict=True))]
        (tmp_path / name).write_text("\n".join(lines))
        names = str(tmp_path / name)
    vocabulary = write_pickle(tmp_path, {i: place for place, i in enumerate(ids)}, "v.pkl")
    by_id = run(saved(tmp_path, annotated()), tmp_path / "ids", vocabulary=vocabulary)
    by_symbol = run(
        saved(tmp_path, annotated(genes=symbols)), tmp_path / "symbols", vocabulary=vocabulary, gene_names=names
    )
    assert rows_of(by_symbol) == rows_of(by_id)


def test_a_vocabulary_built_with_names_holds_identifiers(tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text(f"{gene(1)},S0\n{gene(2)},S0\n{gene(3)},S1\n")
    source = saved(tmp_path, annotated(matrix(genes=4), genes=["S0", "S1", gene(2), "other"]))
    made = run(source, tmp_path / "out", gene_names=str(tmp_path / "names.csv"))
    assert set(medians_of(made)) == {gene(1), gene(3), gene(2), "other"}


def test_log1p_is_taken_back(tmp_path: Path) -> None:
    counts = matrix().astype(np.float64)
    logged = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 10_000)
    plain = run(saved(tmp_path, annotated(counts), "a.h5ad"), tmp_path / "plain")
    back = run(saved(tmp_path, annotated(logged), "b.h5ad"), tmp_path / "back", values="log1p")
    assert rows_of(back) == rows_of(plain)
    assert medians_of(back) == pytest.approx(medians_of(plain), rel=1e-6)


def test_nearly_whole_counts_are_whole_and_others_are_noted(tmp_path: Path) -> None:
    exact = run(saved(tmp_path, annotated(), "a.h5ad"), tmp_path / "a")
    noisy = annotated(matrix().astype(np.float64) * (1 - 1e-12))
    near = run(saved(tmp_path, noisy, "b.h5ad"), tmp_path / "b")
    assert rows_of(near) == rows_of(exact)
    assert near.summary["counts_are_whole"] and not near.summary["notes"]
    half = run(saved(tmp_path, annotated(matrix() + 40 + 0.5 * (matrix() > 3)), "c.h5ad"), tmp_path / "c")
    assert not half.summary["counts_are_whole"]
    assert "not whole numbers" in half.summary["notes"][0]


def test_cells_without_a_known_gene_are_dropped_and_counted(tmp_path: Path) -> None:
    counts = matrix()
    counts[[2, 9], :] = 0
    counts[5, :] = 0
    counts[5, 25] = 3
    vocabulary = write_pickle(tmp_path, {gene(place): place for place in range(20)}, "v.pkl")
    made = run(saved(tmp_path, annotated(counts)), tmp_path / "out", vocabulary=vocabulary)
    kept = [f"cell{row}" for row in range(CELLS) if row not in (2, 5, 9)]
    data = load_from_disk(made.dataset_path)
    assert data["cell_id"][:] == kept
    assert (made.summary["cells"], made.summary["dropped"], len(data)) == (CELLS, 3, CELLS - 3)


def test_genes_never_seen_are_not_in_a_built_vocabulary(tmp_path: Path) -> None:
    counts = matrix()
    counts[:, 7] = 0
    made = run(saved(tmp_path, annotated(counts)), tmp_path / "out")
    assert gene(7) not in pickle.loads(Path(made.vocabulary_path).read_bytes())
    assert (made.summary["known_genes"], made.summary["genes_with_median"]) == (30, 29)


def test_the_same_again_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    source, out = saved(tmp_path, annotated()), tmp_path / "out"
    first = run(source, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    again = run(source, out, chunk_cells=3)
    assert again.skipped and not first.skipped
    assert again.summary == first.summary
    with pytest.raises(ExistingOutputError, match=r"tokenized\.dataset"):
        run(source, out, max_length=5)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before
    replaced = tokenize(TokenizeSpec(input=source, max_length=5), str(out), replace=True)
    assert replaced.summary["lengths"]["max"] == 5


def test_remote_input_and_output_give_the_same_bytes(tmp_path: Path, s3_url: str) -> None:
    local = saved(tmp_path, annotated())
    storage.upload(Path(local), f"{s3_url}/in/cells.h5ad")
    run(local, tmp_path / "out")
    run(f"{s3_url}/in/cells.h5ad", f"{s3_url}/out")
    storage.download(f"{s3_url}/out", tmp_path / "back")
    back, out = files(tmp_path / "back"), files(tmp_path / "out")
    named = {"tokenize.json", "tokenized.dataset/state.json"}  # the input's identity: its hash here, its ETag there
    assert back.keys() == out.keys() > named
    assert all(back[name] == out[name] for name in back.keys() - named)


def test_the_stage_takes_input_from_storage(tmp_path: Path, s3_url: str) -> None:
    storage.upload(Path(saved(tmp_path, annotated())), f"{s3_url}/in/cells.h5ad")
    settings = {
        "run": {"name": "remote", "output": f"{s3_url}/runs"},
        "tokenize": {"input": f"{s3_url}/in/cells.h5ad", "max_length": 16},
        "labels": {"column": "cell_type"},
        "model": {"config": {"model_type": "bert"}},
    }
    run_stages(check(settings), only="tokenize")
    assert storage.exists(f"{s3_url}/runs/remote/data/tokenized.dataset/state.json")
    missing = settings | {"tokenize": {"input": f"{s3_url}/in/cell.h5ad"}}
    with pytest.raises(FileNotFoundError, match=r"cells\.h5ad"):
        run_stages(check(missing), only="tokenize")


def test_the_geneformer_dictionaries_rank_real_genes(tmp_path: Path, geneformer_dir: Path) -> None:
    tokens = pickle.loads((geneformer_dir / "geneformer_v1_token_dictionary.pkl").read_bytes())
    medians = pickle.loads((geneformer_dir / "geneformer_v1_gene_medians.pkl").read_bytes())
    genes = [str(tokens[place]) for place in range(100, 130)]
    made = run(
        saved(tmp_path, annotated(genes=genes)),
        tmp_path / "out",
        vocabulary=str(geneformer_dir / "geneformer_v1_token_dictionary.pkl"),
        medians=str(geneformer_dir / "geneformer_v1_gene_medians.pkl"),
    )
    assert rows_of(made) == expected_rows(table(genes=genes), {name: float(medians[name]) for name in genes})


def test_ranking_orders_any_positive_numbers() -> None:
    rng = np.random.default_rng(3)
    values = np.exp(rng.normal(0, 20, 500))
    slots = rng.permutation(70_000)[:500].astype(np.int32)
    order = ranked(values, slots, np.array([0, 200, 200, 500]), 70_000)
    for part in (slice(0, 200), slice(200, 500)):
        assert order[part].tolist() == slots[part][np.argsort(-values[part])].tolist()


def test_medians_of_many_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.data.counts.medians.BLOCK_VALUES", 50)
    monkeypatch.setattr("sortase.data.counts.medians.PART_VALUES", 150)
    rng = np.random.default_rng(0)
    slots, values = rng.integers(0, 9, 1000).astype(np.int32), rng.random(1000).astype(np.float32)
    medians = Medians(10, tmp_path)
    for part in np.array_split(np.arange(1000), 13):
        medians.add(slots[part], values[part])
    wanted = [np.median(values[slots == slot].astype(np.float64)) for slot in range(9)]
    assert medians.result().tolist() == [*wanted, 0.0]


def test_files_of_2020_read_the_same(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    new, old = run(source, tmp_path / "new"), run(as_of_2020(source), tmp_path / "old")
    assert load_from_disk(old.dataset_path).to_dict() == load_from_disk(new.dataset_path).to_dict()
