"""Pickled weights become safetensors without the pickle being trusted."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM, BertForMaskedLM

from model_families import config_of, pretrained
from sortase.cli import main
from sortase.errors import InputError
from sortase.model import read_pickled_weights
from sortase.model.convert import convert
from sortase.model.load import has_weights
from test_checkpoints_as_they_are import trained_from


def pickled(folder: Path, weights: Any = None, shards: bool = False) -> Path:
    """A checkpoint as transformers saved them before safetensors."""
    torch.manual_seed(0)
    model = BertForMaskedLM(config_of("bert"))
    model.config.save_pretrained(folder)
    (folder / "vocab.txt").write_text("[PAD]\n")
    (folder / "training_args.bin").write_bytes(b"a pickle of another kind")
    content = dict(model.state_dict()) if weights is None else weights
    if not shards:
        torch.save(content, folder / "pytorch_model.bin")
        return folder
    names = list(content)
    parts = {
        "pytorch_model-00001-of-00002.bin": names[:9],
        "pytorch_model-00002-of-00002.bin": names[9:],
    }
    for file, inside in parts.items():
        torch.save({name: content[name] for name in inside}, folder / file)
    index = {"metadata": {}, "weight_map": {name: file for file, inside in parts.items() for name in inside}}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    return folder


def test_the_same_model_comes_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pickled(tmp_path / "old", shards=True)
    with pytest.raises(InputError, match=rf"sortase convert {source} NEW_FOLDER"):
        has_weights(str(source))
    assert main(["convert", str(source), str(tmp_path / "new")]) == 0
    assert "as safetensors" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"config.json", "model.safetensors", "vocab.txt"}
    torch.manual_seed(0)
    wanted = BertForMaskedLM(config_of("bert")).state_dict()
    found = AutoModelForMaskedLM.from_pretrained(tmp_path / "new").state_dict()
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    fitted, _ = trained_from(str(tmp_path / "new"), tmp_path / "run")
    assert all("classifier" in name or "pooler" in name for name in fitted.summary["new_tensors"])


def test_tied_weights_are_written_once_and_parts_by_themselves(tmp_path: Path) -> None:
    shared = torch.ones(3, 2)
    source = pickled(tmp_path / "old", {"a.weight": shared, "b.weight": shared, "c": torch.arange(6)[::2]})
    read_pickled_weights.main(source, tmp_path, ["pytorch_model.bin"])
    written = load_file(tmp_path / "model.safetensors")
    assert written["c"].tolist() == [0, 2, 4]
    assert len({"a.weight", "b.weight"} & written.keys()) == 1


@pytest.mark.parametrize("index", [[], {}, {"weight_map": ["a"]}, {"weight_map": {"a": "model.bin"}}], ids=str)
def test_an_index_that_is_none_is_refused(tmp_path: Path, index: Any) -> None:
    source = pickled(tmp_path / "old")
    (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match=r"does not say which file holds which weights|does not hold model\.bin"):
        convert(str(source), str(tmp_path / "new"))


def test_pickled_weights_that_lie_elsewhere_are_not_read(tmp_path: Path) -> None:
    source = pickled(tmp_path / "old")
    (source / "pytorch_model.bin").rename(tmp_path / "outside.bin")
    (source / "pytorch_model.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(InputError, match="a link that leads out of its folder"):
        convert(str(source), str(tmp_path / "new"))


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch executed",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param([torch.ones(1)], "holds list instead of tensors by name", id="no names"),
        pytest.param({"state": {"x": torch.ones(1)}}, "holds dict under 'state' instead of a tensor", id="nested"),
        pytest.param({}, "hold no tensor", id="empty"),
    ],
)
def test_what_is_no_weights_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        read_pickled_weights.main(pickled(tmp_path / "old", content), tmp_path, ["pytorch_model.bin"])


def test_a_pickle_that_asks_for_more_is_refused_unexecuted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = pickled(tmp_path / "old", {"x": Evil()})
    assert main(["convert", str(source), str(tmp_path / "new")]) == 2
    assert re.search(r"ask for \w+\.system; only tensors", capsys.readouterr().err)
    assert {path.name for path in tmp_path.iterdir()} == {"old"}
    assert not list(tmp_path.rglob("executed"))


def test_what_cannot_be_converted_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = pickled(tmp_path / "old")
    safe = pretrained(tmp_path / "safe")
    (source / "pytorch_model.bin").write_bytes((source / "pytorch_model.bin").read_bytes()[:2000])
    cases = {
        (str(source), str(tmp_path / "new")): "cannot be read",
        (safe, str(tmp_path / "new")): "holds safetensors already",
        (str(source), safe): "exists already",
        (str(tmp_path / "missing"), str(tmp_path / "new")): "does not exist",
    }
    for arguments, words in cases.items():
        assert main(["convert", *arguments]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
