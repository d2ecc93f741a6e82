"""AnnData files made to read other files, to crash their reader, or to fill the memory: refused, nothing is written."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from datasets import load_from_disk
from h5py import h5a, h5d, h5p, h5s, h5t

from sortase.errors import InputError
from tokenize_data import CELLS, GENES, annotated, run, saved

SECRET = b"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def other_file(folder: Path) -> Path:
    path = folder / "other.h5"
    with h5py.File(path, "w") as file:
        file["leak"] = np.array([SECRET] * CELLS)
        file["table/leak"] = np.array([SECRET] * CELLS)
    return path


def external(folder: Path, file: h5py.File, where: str = "obs/leak") -> None:
    (folder / "environ").write_bytes(SECRET * CELLS)
    file.create_dataset(
        where, (CELLS,), f"S{len(SECRET)}", external=[(str(folder / "environ"), 0, len(SECRET) * CELLS)]
    )


def virtual(folder: Path, file: h5py.File) -> None:
    layout = h5py.VirtualLayout((CELLS,), f"S{len(SECRET)}")
    layout[:] = h5py.VirtualSource(str(other_file(folder)), "leak", (CELLS,))
    file.create_virtual_dataset("obs/leak", layout)


def linked(where: str, to: str) -> Callable[[Path, h5py.File], None]:
    def link(folder: Path, file: h5py.File) -> None:
        if where in file:
            del file[where]
        file[where] = h5py.ExternalLink(str(other_file(folder)), to)

    return link


def through_a_soft_link(folder: Path, file: h5py.File) -> None:
    linked("uns/other", "/")(folder, file)
    file["obs/leak"] = h5py.SoftLink("/uns/other/leak")


def in_a_loop(folder: Path, file: h5py.File) -> None:
    """A group in itself ends the walk; what lies in it is seen all the same."""
    file["uns/loop"] = file["/"]
    file.create_group("uns/deep")["up"] = file["uns"]
    external(folder, file, "uns/deep/leak")


def behind_a_reference(folder: Path, file: h5py.File) -> None:
    """Names of codes, as older files have them, that no group holds: only the reference leads there."""
    external(folder, file, "uns/hidden")
    codes = file.create_dataset("obs/leak", data=np.arange(CELLS, dtype=np.int8))
    codes.attrs["categories"] = file["uns/hidden"].ref
    file.flush()
    del file["uns/hidden"]  # its description stays where it was, in space that is free


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        pytest.param(behind_a_reference, "a reference leads to what lies in none of its groups", id="reference"),
        pytest.param(external, "obs/leak has its values in another file", id="external storage"),
        pytest.param(virtual, "obs/leak is a virtual dataset", id="virtual dataset"),
        pytest.param(linked("obs/leak", "/leak"), "obs/leak is a link to another file", id="column"),
        pytest.param(linked("obs", "/table"), "obs is a link to another file", id="table"),
        pytest.param(linked("X", "/leak"), "X is a link to another file", id="matrix"),
        pytest.param(linked("layers/counts", "/leak"), "layers/counts is a link to another file", id="layer"),
        pytest.param(through_a_soft_link, "uns/other is a link to another file", id="soft link to a link"),
        pytest.param(in_a_loop, "has its values in another file", id="groups in a loop"),
    ],
)
def test_nothing_outside_the_file_is_read(
    tmp_path: Path, attack: Callable[[Path, h5py.File], None], words: str
) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        attack(tmp_path, file)
    with pytest.raises(InputError, match=rf"cells\.h5ad: {words}|cells\.h5ad: uns/.*{words}"):
        run(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_links_of_a_kind_that_a_plugin_would_follow_are_refused(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        linked("uns/leak", "/leak")(tmp_path, file)
    data = bytearray(Path(source).read_bytes())
    at = data.index(b"\x04leak")
    kinds = [place for place in range(at - 16, at) if data[place] == 64]
    data[kinds[-1]] = 200
    Path(source).write_bytes(data)
    with pytest.raises(InputError, match="uns/leak is a link to another file"):
        run(source, tmp_path / "out")


def test_links_inside_the_file_are_followed(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        file["obs/again"] = h5py.SoftLink("/obs/donor")
    data = load_from_disk(run(source, tmp_path / "out").dataset_path)
    assert data["again"][:] == data["donor"][:]


def opaque(location: Any, name: bytes, count: int) -> None:
    """Bytes under a name by which h5py makes NumPy take them for pointers to objects."""
    kind = h5t.create(h5t.OPAQUE, 8)
    kind.set_tag(b"NUMPY:|O8")
    made = h5d.create(location.id, name, kind, h5s.create_simple((count,)))
    made.write(h5s.ALL, h5s.ALL, np.full(count, b"AAAAAAAA", "V8"), kind)


def test_bytes_do_not_become_objects(tmp_path: Path) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        opaque(file["obs"], b"pointers", CELLS)
    with pytest.raises(InputError, match=r"'pointers' of .* holds neither text nor numbers"):
        run(source, tmp_path / "out", columns=["pointers"])
    run(source, tmp_path / "out")
    with h5py.File(source, "r+") as file:
        file["obs"].attrs["_index"] = "pointers"
    with pytest.raises(InputError, match="pointers holds neither text nor numbers"):
        run(source, tmp_path / "other")


@pytest.mark.parametrize("name", ["encoding-type", "shape"])
def test_attributes_do_not_become_objects(tmp_path: Path, name: str) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        kind = h5t.create(h5t.OPAQUE, 8)
        kind.set_tag(b"NUMPY:|O8")
        del file["X"].attrs[name]
        made = h5a.create(file["X"].id, name.encode(), kind, h5s.create_simple((2,)))
        made.write(np.full(2, b"AAAAAAAA", "V8"), kind)
    with pytest.raises(InputError, match=f"/X has an attribute '{name}' that AnnData does not write"):
        run(source, tmp_path / "out")


def replaced(file: h5py.File, name: str, **made: Any) -> None:
    del file[name]
    file.create_dataset(name, **made)


def twice_deflated(file: h5py.File, name: str, shape: tuple[int, ...]) -> None:
    """Zeros that are deflated, and deflated again: a million bytes in one."""
    del file[name]
    created = h5p.create(h5p.DATASET_CREATE)
    created.set_chunk((10**8,))
    created.set_deflate(9)
    created.set_deflate(9)
    made = h5d.create(file.id, name.encode(), h5t.NATIVE_INT8, h5s.create_simple(shape), created)
    made.write(h5s.ALL, h5s.ALL, np.zeros(shape, np.int8))


def wide(file: h5py.File) -> None:
    """A dense matrix of 22 GB, of which nothing is stored."""
    replaced(file, "X", shape=(CELLS, 10**8), dtype="f4", chunks=(1, 10**6))


def long_indptr(file: h5py.File) -> None:
    replaced(file, "X/indptr", shape=(27 * 10**8,), dtype="i8", chunks=(10**6,))


def many_cells(file: h5py.File) -> None:
    file["X"].attrs["shape"] = [27 * 10**8, GENES]


def bomb(file: h5py.File) -> None:
    twice_deflated(file, "X/indptr", (10**8,))


def wide_text(file: h5py.File) -> None:
    replaced(file, "obs/donor", shape=(CELLS,), dtype="S100000000", chunks=(1,))


def long_chunk(file: h5py.File) -> None:
    """Few values in a chunk of a gigabyte."""
    replaced(file, "obs/age", shape=(CELLS,), maxshape=(None,), dtype="f8", chunks=(2**27,))


def cell_of_nowhere(file: h5py.File) -> None:
    file["X"].attrs["encoding-type"] = "csc_matrix"
    counts = np.zeros(GENES + 1, np.int64)
    counts[1:] = 1
    for name, values in (("indptr", counts), ("indices", np.array([2**40])), ("data", np.ones(1, "f4"))):
        replaced(file, f"X/{name}", data=values)


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        pytest.param(wide, r"/X is of 57 cells and 100000000 genes, the tables beside it are of 57 and 30", id="X"),
        pytest.param(long_indptr, r"/X/indptr claims 21,600,000,000 bytes of values, 0 are stored", id="indptr"),
        pytest.param(many_cells, "/X is of 2700000000 cells and 30 genes", id="shape"),
        pytest.param(bomb, r"/X/indptr claims 100,000,000 bytes of values, \d{3} are stored", id="deflated twice"),
        pytest.param(wide_text, "/obs/donor claims 5,700,000,000 bytes", id="text"),
        pytest.param(long_chunk, "/obs/age claims 1,073,741,824 bytes", id="chunk"),
        pytest.param(cell_of_nowhere, "values for cell number 1099511627776, but only 57 cells", id="cell"),
    ],
)
def test_what_is_claimed_is_held_against_what_is_stored(
    tmp_path: Path, attack: Callable[[h5py.File], None], words: str
) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        attack(file)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=words):
            run(source, tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert not (tmp_path / "out").exists()


def test_one_text_is_not_read_for_every_cell(tmp_path: Path) -> None:
    """HDF5 lets many values share one place in its heap."""
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        file["obs/note"] = ["N" * 3_000_000] + ["n"] * (CELLS - 1)
        offset = file["obs/note"].id.get_offset()
    data = bytearray(Path(source).read_bytes())
    data[offset : offset + 16 * CELLS] = data[offset : offset + 16] * CELLS
    Path(source).write_bytes(data)
    with pytest.raises(InputError, match="the text of /obs/note is far longer than the file"):
        run(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("where", "values", "words"),
    [
        pytest.param(
            "obs/type/codes", np.full(CELLS, 7, "i1"), "'type' of obs has the code 7, but 2 categor", id="code"
        ),
        pytest.param("obs/age", np.zeros(CELLS - 1), "obs has 57 rows, its column 'age' 56", id="short column"),
        pytest.param("obs/type/codes", np.zeros(90, "i1"), "obs has 57 rows, its column 'type' 90", id="many codes"),
        pytest.param("var/symbol", ["a"], "var has 30 rows, its column 'symbol' 1", id="names of genes"),
    ],
)
def test_columns_that_do_not_fit_are_named(tmp_path: Path, where: str, values: Any, words: str) -> None:
    source = saved(tmp_path, annotated())
    with h5py.File(source, "r+") as file:
        replaced(file, where, data=values)
    with pytest.raises(InputError, match=f"cells.h5ad is broken: .*{words}"):
        run(source, tmp_path / "out", gene_column="symbol" if where.startswith("var") else None)
