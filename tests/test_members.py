"""One rule for the names of files that a file gives, for every reader: nothing outside of its folder is reached."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_from_disk
from transformers import BertConfig, BertForSequenceClassification

from sortase.data.sequences import open_dataset
from sortase.data.source import open_source
from sortase.errors import InputError
from sortase.model.convert import convert
from sortase.model.load import build_model, has_weights, load_config, load_trained
from sortase.model.task import TASKS
from sortase.registry import moves, versions
from sortase.storage.members import check_name, member
from sortase.train.checkpoints import Checkpoints

BAD: list[Any] = [
    pytest.param("../outside/secret", id="above"),
    pytest.param("a/../../outside/secret", id="above, later"),
    pytest.param("..", id="the folder above"),
    pytest.param("{outside}/secret", id="absolute"),
    pytest.param("//server/share", id="a server's"),
    pytest.param("~/secret", id="home"),
    pytest.param("~root/secret", id="another's home"),
    pytest.param("..\\outside\\secret", id="backslash"),
    pytest.param("C:secret", id="drive"),
    pytest.param("C:/secret", id="drive with a slash"),
    pytest.param("secret\x00.safetensors", id="NUL"),
    pytest.param("sec\nret", id="line break"),
    pytest.param("\u202eterces", id="turned around"),
    pytest.param("", id="empty"),
    pytest.param(".", id="dot"),
    pytest.param("./secret", id="dot and slash"),
    pytest.param("a//secret", id="empty part"),
    pytest.param("a/", id="a folder"),
    pytest.param("secret.", id="ends in a dot"),
    pytest.param("secret ", id="ends in a blank"),
    pytest.param(" secret", id="begins with a blank"),
    pytest.param("file:///etc/passwd", id="file URL"),
    pytest.param("s3://other/secret", id="URL of a bucket"),
    pytest.param("http://169.254.169.254/latest", id="URL of a server"),
    pytest.param("%2e%2e%2foutside%2fsecret", id="percent-encoded"),
    pytest.param("..%2foutside", id="percent-encoded slash"),
    pytest.param("..\uff0foutside", id="full-width slash"),
    pytest.param("..\u2215outside", id="division slash"),
    pytest.param("..\u2044outside", id="fraction slash"),
    pytest.param("\u2025/outside", id="two dot leader"),
    pytest.param("\uff0e\uff0e/outside", id="full-width dots"),
    pytest.param("*", id="pattern"),
    pytest.param("x" * 300, id="too long"),
    pytest.param(7, id="a number"),
    pytest.param(None, id="nothing"),
    pytest.param(["secret"], id="a list"),
    pytest.param("link", id="a link that leads out"),
    pytest.param("links/secret", id="a file below such a link"),
]
EXPECTED = "a plain relative name below the folder is expected|a link that leads out of its folder"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with a secret, beside ``inside``, in which links lead to it."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI")
    (tmp_path / "inside").mkdir()
    return folder


def bad(name: Any, outside: Path, inside: Path) -> Any:
    """The name, with links made where it needs them."""
    if name in ("link", "links/secret"):
        (inside / "link").symlink_to(outside / "secret")
        (inside / "links").symlink_to(outside)
    return name.format(outside=outside) if isinstance(name, str) else name


@pytest.mark.parametrize("name", BAD)
def test_a_bad_name_is_refused(name: Any, tmp_path: Path, outside: Path) -> None:
    with pytest.raises(InputError, match=EXPECTED) as caught:
        member(str(tmp_path / "inside"), bad(name, outside, tmp_path / "inside"), "manifest.json")
    assert str(caught.value).startswith("manifest.json names ")
    if "link" not in str(name):
        with pytest.raises(InputError):
            member("s3://bucket/run", bad(name, outside, tmp_path / "inside"), "manifest.json")


@pytest.mark.parametrize(
    "name",
    [
        "model-00001-of-00002.safetensors",
        "global_step10/zero_pp_rank_0_mp_rank_00_optim_states.pt",
        "data 1/Zellen (Blut) ä.arrow",
        ".hidden",
        "细胞.arrow",
        "100%.arrow",
        "a..b",
    ],
)
def test_ordinary_names_are_taken(name: str, tmp_path: Path) -> None:
    assert check_name(name, "state.json") == name
    assert member(str(tmp_path), name, "state.json") == str(tmp_path / name)
    assert member("s3://bucket/run", name, "state.json") == f"s3://bucket/run/{name}"


def test_links_inside_the_folder_and_of_the_hubs_cache_are_taken(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot.parent.parent / "blobs").mkdir()
    (snapshot.parent.parent / "blobs" / "f00").write_bytes(b"x")
    (snapshot / "model.safetensors").symlink_to("../../blobs/f00")
    (snapshot / "again").symlink_to("model.safetensors")
    assert Path(member(str(snapshot), "again", "index")).read_bytes() == b"x"


@functools.cache
def dataset_files() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        Dataset.from_dict({"input_ids": [[1, 2], [3]], "label": [0, 1]}).save_to_disk(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def saved_dataset(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in dataset_files().items():
        (folder / name).write_bytes(content)
    return folder


def dataset_state(inside: Path, name: Any) -> Callable[[], Any]:
    """The state of a dataset names a file of another one."""
    saved_dataset(inside)
    state = json.loads((inside / "state.json").read_text())
    (inside / "state.json").write_text(json.dumps({**state, "_data_files": [{"filename": name}]}))
    return lambda: open_source(str(inside))


def trained_on(inside: Path, name: Any) -> Callable[[], Any]:
    dataset_state(inside, name)
    return lambda: open_dataset(str(inside))


@functools.cache
def model_files() -> tuple[bytes, bytes, list[str]]:
    """Configuration and weights of a small model, and the names of its weights."""
    config = BertConfig(vocab_size=8, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    model = BertForSequenceClassification(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        files = [(Path(folder) / name).read_bytes() for name in ("config.json", "model.safetensors")]
    return files[0], files[1], list(model.state_dict())


def weights_index(inside: Path, name: Any) -> Callable[[], Any]:
    config, weights, keys = model_files()
    (inside / "config.json").write_bytes(config)
    (inside.parent / "outside" / "secret").write_bytes(weights)
    index = {"metadata": {}, "weight_map": dict.fromkeys(keys, name)}
    (inside / "model.safetensors.index.json").write_text(json.dumps(index))

    def load() -> None:
        with pytest.raises(InputError, match=EXPECTED):
            build_model(TASKS["sequence"], {"a": 0, "b": 1}, str(inside), load_config(str(inside), None), 0)
        has_weights(str(inside))

    return load


def trained_weights(inside: Path, name: Any) -> Callable[[], Any]:
    weights_index(inside, name)
    return lambda: load_trained(str(inside))


def pickled_index(inside: Path, name: Any) -> Callable[[], Any]:
    (inside / "config.json").write_bytes(model_files()[0])
    (inside / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"a": name, "b": "x.bin"}}))
    return lambda: convert(str(inside), str(inside.parent / "converted"))


def version_record(inside: Path, name: Any) -> Callable[[], Any]:
    folder = inside / "versions" / "20260101T000000-01234567"
    folder.mkdir(parents=True)
    for link in ("link", "links"):
        if (inside / link).is_symlink():
            (inside / link).rename(folder / link)
    record = {key: {} for key in versions._NEEDED} | {"files": {}}
    # JSON has text for names alone, so other kinds of names are refused as what they are written as
    record["files"] = {name: {"size": 35, "sha256": "0"}} if isinstance(name, str) else [name]  # type: ignore[dict-item]
    (folder / "version.json").write_text(json.dumps(record))

    def read() -> None:
        version = versions.read(str(inside), "20260101T000000-01234567")
        assert version is not None
        version.check()

    return read


READERS = [dataset_state, trained_on, weights_index, trained_weights, pickled_index, version_record]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BAD)
def test_no_reader_follows_a_bad_name(
    name: Any, reader: Callable[[Path, Any], Callable[[], Any]], tmp_path: Path, outside: Path
) -> None:
    arrow = next(content for name, content in dataset_files().items() if name.endswith(".arrow"))
    (outside / "secret").write_bytes(arrow)
    read = reader(tmp_path / "inside", bad(name, outside, tmp_path / "inside"))
    with pytest.raises(InputError, match=EXPECTED + "|are not described"):
        read()


PLACES = [("files", each) for each in BAD if isinstance(each.values[0], str)]
PLACES += [("start", each) for _, each in PLACES if each.values[0]]  # none: the files lie in the checkpoint itself


@pytest.mark.parametrize(("place", "name"), [pytest.param(p, *each.values, id=f"{p}-{each.id}") for p, each in PLACES])
def test_a_checkpoint_writes_nothing_outside_its_folder(place: str, name: str, tmp_path: Path, outside: Path) -> None:
    step = tmp_path / "inside" / "step-00000001"
    step.mkdir()
    name = bad(name, outside, step)
    (outside / "copied").write_bytes(b"x")
    entry = {"size": 35, "sha256": "0"}
    manifest = {"step": 1, "metric": None, "files": {name: entry}}
    if place == "start":
        manifest = {**manifest, "start": name, "files": {"copied": entry}}
    (step / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(tmp_path.rglob("*"))
    checkpoints = Checkpoints(str(tmp_path / "inside"), None, lambda: None)
    said: list[str] = []
    assert checkpoints.newest(tmp_path / "work" / "newest", said.append) is None
    assert "damaged" in said[0] and "names" in said[0]
    assert not (tmp_path / "outside" / "newest").exists()
    assert {path for path in before if "step-00000001" not in path.parts} <= set(tmp_path.rglob("*"))
    assert (outside / "secret").read_bytes().startswith(b"AWS")


@pytest.mark.parametrize("version", ["../../other/versions/20260101T000000-01234567", "..", "/etc", "a/b", 7])
def test_an_alias_means_a_version_of_its_model(version: Any, tmp_path: Path) -> None:
    (tmp_path / "moves").mkdir()
    (tmp_path / "moves" / "00000001.json").write_text(json.dumps({"aliases": {"champion": version}}))
    with pytest.raises(InputError, match=r"00000001\.json lets 'champion' mean .*, which is not the name of a version"):
        moves.table(str(tmp_path))


WRONG: list[dict[str, Any]] = [
    {"step": "1"},
    {"step": True},
    {"step": 7},
    {"metric": "x"},
    {"metric": float("nan")},
    {"start": 7},
    {"files": []},
    {"files": {"a": 1}},
    {"files": {"a": {"size": "1", "sha256": "0"}}},
    {"files": {"a": {"size": 1}}},
]


def test_what_lies_beside_the_names_is_checked_too(tmp_path: Path) -> None:
    whole = {"step": 1, "metric": None, "files": {"a": {"size": 1, "sha256": "0"}}}
    wrong = [[], {"step": 1}, *({**whole, **other} for other in WRONG)]
    for manifest in wrong:
        (tmp_path / "step-00000001").mkdir(exist_ok=True)
        (tmp_path / "step-00000001" / "manifest.json").write_text(json.dumps(manifest))
        checkpoints, said = Checkpoints(str(tmp_path), None, lambda: None), list[str]()
        assert checkpoints.newest(tmp_path / "work", said.append) is None
        assert len(said) == 1 and "manifest.json is not" in said[0]


def test_a_dataset_is_opened_by_its_own_files(tmp_path: Path) -> None:
    assert open_source(str(saved_dataset(tmp_path / "cells"))).units[0].rows == 2
    assert len(load_from_disk(str(tmp_path / "cells"))) == 2
