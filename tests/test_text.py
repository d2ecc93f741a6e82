"""Text as people save it: byte order marks (Excel), UTF-16, Latin-1, and blanks around names.

The kinds are those of public reports: biolab/orange3 #7000, docling-project/docling #4097, VertNet/bels #39.
"""

from __future__ import annotations

import codecs
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from datasets import Dataset

from sortase.config.load import parse, settings_of
from sortase.config.prepare import DataSpec, LabelSpec
from sortase.config.tokenize import TokenizeSpec
from sortase.data.counts.counts import Asked
from sortase.data.counts.genes import read_names
from sortase.data.counts.medians import given_medians
from sortase.data.counts.tables import read_table
from sortase.data.gene_classes import read_gene_classes
from sortase.data.vocabulary import read as read_vocabulary
from sortase.deploy.chart import read_values
from sortase.errors import InputError, InputTypeError
from sortase.prepare.prepare import prepare
from sortase.storage import read_text
from sortase.text import decode

ENCODINGS = [
    pytest.param("utf-8", id="UTF-8"),
    pytest.param("utf-8-sig", id="Excel"),
    pytest.param("utf-16", id="UTF-16"),
    pytest.param("utf-32", id="UTF-32"),
    pytest.param("cp1252", id="Windows", marks=pytest.mark.filterwarnings("ignore:.*is not UTF-8")),
    pytest.param("latin-1", id="Latin-1", marks=pytest.mark.filterwarnings("ignore:.*is not UTF-8")),
]


def saved(path: Path, text: str, encoding: str) -> str:
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return str(path)


def asked(table: str, scratch: Path) -> Asked:
    return Asked(path=Path(table), name=table, spec=TokenizeSpec(input=table), scratch=scratch)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_gene_lists(encoding: str, end: str, tmp_path: Path) -> None:
    table = saved(tmp_path / "classes.csv", end.join(["sensitive,Zürich", "A,C", "B,D", ""]), encoding)
    assert read_gene_classes(table) == {"sensitive": ["A", "B"], "Zürich": ["C", "D"]}
    content = {"sensitive": ["A"], "Zürich": ["é"]}
    listed = saved(tmp_path / "classes.json", json.dumps(content, ensure_ascii=False), encoding)
    assert read_gene_classes(listed) == content


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_names_vocabularies_and_medians(encoding: str, tmp_path: Path) -> None:
    names = saved(tmp_path / "names.tsv", "ENSG1\té1\nENSG2\tb\n", encoding)
    assert read_names(names) == {"é1": ["ENSG1"], "b": ["ENSG2"]}
    tokens = saved(
        tmp_path / "tokens.json", json.dumps({"<pad>": 0, "<mask>": 1, "é": 2}, ensure_ascii=False), encoding
    )
    assert read_vocabulary(tokens)["é"] == 2
    medians = saved(tmp_path / "medians.json", json.dumps({"é": 2.5}, ensure_ascii=False), encoding)
    assert given_medians(medians, ["é"]).tolist() == [2.5]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_tables_of_counts(encoding: str, ending: str, tmp_path: Path) -> None:
    rows = "".join(f"cell{row},Zürich,{row},{row + 1}\n" for row in range(20))
    table = saved(tmp_path / f"counts{ending}", "cell,Stadt é,GENE1,GENE2\n" + rows, encoding)
    counts = read_table(asked(table, tmp_path))
    assert counts.genes == ["GENE1", "GENE2"]
    about = pa.Table.from_batches([counts.metadata(0, 20)])
    assert about.column("Stadt é").to_pylist() == ["Zürich"] * 20
    assert about.column(0).to_pylist()[:2] == ["cell0", "cell1"]


RUN = "run: {name: a}\ndata: {dataset: d}\nlabels: {column: Zelltyp é}\nmodel: {checkpoint: m}\n"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_run_yaml_and_values(encoding: str, tmp_path: Path) -> None:
    assert parse(read_text(saved(tmp_path / "run.yaml", RUN, encoding))).labels.column == "Zelltyp é"
    indented = "".join(f"  {line}\n" for line in RUN.splitlines())
    values = read_values([saved(tmp_path / "values.yaml", f"run:\n{indented}", encoding)])
    assert values == {"run": settings_of(RUN)}


@pytest.mark.parametrize(("encoding", "said"), [("cp1252", "cp1252"), ("latin-1", "cp1252")])
def test_a_guess_is_said(encoding: str, said: str) -> None:
    with pytest.warns(UserWarning, match=rf"names\.csv is not UTF-8 \(line 2\) and is read as {said}"):
        assert decode("a,b\né,ü\n".encode(encoding), "names.csv") == "a,b\né,ü\n"


def test_bytes_that_code_page_1252_lacks_are_latin_1() -> None:
    with pytest.warns(UserWarning, match="latin-1"):
        assert decode(b"a\x81\xe9", "x") == "a\x81é"


def test_a_last_letter_that_is_cut_is_no_utf_8() -> None:
    with pytest.warns(UserWarning, match="not UTF-8"):
        decode("né".encode()[:-1], "x")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param("a,b\n".encode("utf-16-le"), "UTF-16 without a byte order mark", id="no mark"),
        pytest.param(b"PK\x03\x04\x14\x00" + b"abcdef" * 9, "looks like a binary file", id="spreadsheet"),
        pytest.param(codecs.BOM_UTF16_LE + b"a", "not text in UTF-16", id="half a letter"),
    ],
)
def test_what_is_not_text_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=f"genes.csv .*{words}"):
        decode(data, "genes.csv")


def test_blanks_around_names_are_left_out_and_said(tmp_path: Path) -> None:
    table = saved(tmp_path / "classes.csv", "sensitive , other\nA ,C\nB, D\n", "utf-8")
    with pytest.warns(UserWarning, match="blanks around names are left out: 'sensitive ', ' other'"):
        assert read_gene_classes(table) == {"sensitive": ["A", "B"], "other": ["C", "D"]}
    counts = saved(tmp_path / "counts.csv", "cell , GENE1,GENE2 \na,1,2\n", "utf-8")
    with pytest.warns(UserWarning, match="' GENE1', 'GENE2 '"):
        assert read_table(asked(counts, tmp_path)).genes == ["GENE1", "GENE2"]


@pytest.mark.filterwarnings("ignore:.*blanks around names")
def test_classes_that_differ_by_blanks_alone_are_noticed(tmp_path: Path) -> None:
    table = saved(tmp_path / "classes.csv", "B,B \nA,C\n", "utf-8")
    with pytest.raises(InputTypeError, match="two classes of the name 'B'"):
        read_gene_classes(table)
    listed = saved(tmp_path / "classes.json", '{"B": ["A"], " B": ["C"]}', "utf-8")
    with pytest.raises(InputTypeError, match="two classes of the name 'B'"):
        read_gene_classes(listed)


def test_labels_that_differ_by_blanks_alone_are_noticed(tmp_path: Path) -> None:
    cells = Dataset.from_dict({"input_ids": [[5, 6]] * 40, "kind": ["B", "B ", "T", " B"] * 10})
    made = prepare(cells, DataSpec(nproc=1), LabelSpec(column="kind"), str(tmp_path / "out"), "x")
    assert "classes ' B', 'B', 'B ' differ by blanks alone" in "\n".join(made.summary["notes"])
    apart = Dataset.from_dict({"input_ids": [[5, 6]] * 40, "kind": ["B", "b", "T", "T B"] * 10})
    made = prepare(apart, DataSpec(nproc=1), LabelSpec(column="kind"), str(tmp_path / "apart"), "x")
    assert "blanks" not in "\n".join(made.summary["notes"])
