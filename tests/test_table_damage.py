"""Damaged tables of counts end in rows or in sentences that name the file, never in a traceback, a crash or a flood."""

from __future__ import annotations

import codecs
import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sortase.config.tokenize import TokenizeSpec
from sortase.data.counts.open import open_counts
from sortase.errors import InputError
from test_tokenize_formats import as_mtx
from tokenize_data import annotated, run, saved, table


@pytest.mark.slow
def test_changed_bytes_end_in_counts_or_in_sentences(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "table_fuzzer.py"), str(tmp_path / "tables"), "400", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"exit {ended.returncode}: {ended.stderr[-3000:]}"
    assert int(ended.stdout.split()[0]) > 150


def test_a_broken_page_names_its_column(tmp_path: Path) -> None:
    source = Path(saved(tmp_path, table(), "cells.parquet"))
    place = pq.ParquetFile(source).metadata.row_group(0).column(4)
    start = place.dictionary_page_offset or place.data_page_offset
    data = bytearray(source.read_bytes())
    data[start : start + place.total_compressed_size] = bytes([255]) * place.total_compressed_size
    source.write_bytes(data)
    with pytest.raises(
        InputError, match=rf"cells\.parquet is a broken Parquet file in column '{place.path_in_schema}'"
    ):
        run(str(source), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_text_that_is_none_names_its_column_and_row(tmp_path: Path) -> None:
    wrong = pa.Array.from_buffers(
        pa.string(), 2, [*pa.array(["fine", "ab"]).buffers()[:2], pa.py_buffer(b"fine\xff\xfe")]
    )
    pq.write_table(pa.table({"cell": ["a", "b"], "type": wrong, "G1": [1.0, 2.0]}), tmp_path / "cells.parquet")
    with pytest.raises(InputError, match=r"cells\.parquet is damaged in column 'type' at row 1"):
        run(str(tmp_path / "cells.parquet"), tmp_path / "out")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        pytest.param({"G1": pa.repeat(1.0, 12_000_000)}, "it claims 12,000,000 rows of 1 columns", id="numbers"),
        pytest.param(
            {"type": pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int8()), 2000), ["x" * (1 << 17)])},
            "its text is far longer than the file",
            id="text",
        ),
    ],
)
def test_a_small_file_that_holds_very_much_is_refused(tmp_path: Path, columns: dict[str, pa.Array], words: str) -> None:
    """Runs of one value take no room in the file, and all of it in the memory and on the disk of who reads them."""
    made = pa.table(
        {"G0": pa.repeat(1.0, len(next(iter(columns.values())))), **columns} if "type" in columns else columns
    )
    rows = len(made)
    whole = {"row_group_size": rows, "write_batch_size": rows, "data_page_size": 1 << 30, "max_rows_per_page": rows}
    pq.write_table(made, tmp_path / "cells.parquet", compression="zstd", store_schema=False, **whole)
    with pytest.raises(InputError, match=rf"cells\.parquet is broken: {words}"):
        run(str(tmp_path / "cells.parquet"), tmp_path / "out")


def test_a_description_by_pandas_that_is_no_json_is_told(tmp_path: Path) -> None:
    described = pa.table({"cell": ["a"], "G1": [1.0]}).replace_schema_metadata({"pandas": '{"index_columns": ['})
    pq.write_table(described, tmp_path / "cells.parquet")
    with pytest.raises(InputError, match=r"cells\.parquet is not a readable Parquet file"):
        run(str(tmp_path / "cells.parquet"), tmp_path / "out")


@pytest.fixture
def nothing_is_always_let(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sortase.data.counts.remote_path.ALWAYS", 0)


@pytest.mark.usefixtures("nothing_is_always_let")
def test_text_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    """A thousand times its bytes, which deflate reaches with equal letters only."""
    source = str(tmp_path / "t.csv.gz")
    Path(source).write_bytes(gzip.compress(b"cell,A\n" + b"0" * 10_000_000 + b",0\n"))
    with pytest.raises(InputError, match=r"t\.csv\.gz .* it unpacks to more than 400 times its bytes"):
        run(source, tmp_path / "out")
    marked = tmp_path / "marked.csv.gz"  # whose encoding the first bytes tell
    marked.write_bytes(gzip.compress(codecs.BOM_UTF8) + Path(source).read_bytes())
    with pytest.raises(InputError, match="it unpacks to more than 400 times"):
        run(str(marked), tmp_path / "out")


@pytest.mark.usefixtures("nothing_is_always_let")
def test_a_matrix_that_unpacks_to_far_more_is_refused(tmp_path: Path) -> None:
    folder = Path(as_mtx(tmp_path, annotated()))
    comments = b"%%MatrixMarket matrix coordinate integer general\n" + b"%%%%%%%\n" * 1_000_000
    (folder / "matrix.mtx.gz").write_bytes(gzip.compress(comments))
    with pytest.raises(InputError, match=r"matrix\.mtx\.gz cannot be read: it unpacks to more than 400 times"):
        run(str(folder), tmp_path / "out")


@pytest.mark.usefixtures("nothing_is_always_let")
@pytest.mark.parametrize("density", [0.05, 0.003])
def test_real_tables_are_packed_far_below_the_limit(tmp_path: Path, density: float) -> None:
    """Counts as single cells have them, written as numbers with a point, as pandas does."""
    rng = np.random.default_rng(0)
    often = rng.gamma(0.3, 1, 8000)
    shares = np.minimum(often / often.mean() * density, 1)
    counts = (rng.random((200, 8000)) < shares) * (1.0 + rng.poisson(0.4, (200, 8000)))
    counts[:, 0] += 1
    source = saved(tmp_path, table(counts), "t.csv.gz")
    unpacked = len(gzip.decompress(Path(source).read_bytes()))
    assert unpacked > 16 * Path(source).stat().st_size
    assert run(source, tmp_path / "out").summary["cells"] == 200


def test_columns_of_long_names_are_read_from_parquet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fifty times the bytes of the file, and in memory each name once."""
    monkeypatch.setattr("sortase.data.counts.tables.ALWAYS", 0)
    names = [f"CL:{number:07d} CD4-positive, alpha-beta memory T cell {number}" for number in range(40)]
    columns = {f"m{place}": [names[(row * 7 + place) % 40] for row in range(4000)] for place in range(25)}
    frame = table(np.ones((4000, 3)), **columns)
    source = saved(tmp_path, frame, "t.parquet")
    assert 30 * Path(source).stat().st_size < 4000 * 25 * 50
    with open_counts(TokenizeSpec(input=source)) as counts:
        assert counts.schema.field("m3").type == pa.string()
        assert counts.metadata(3990, 4000).column("m3").to_pylist() == columns["m3"][3990:]
