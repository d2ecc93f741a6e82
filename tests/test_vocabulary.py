"""Vocabularies in every form that is met, and those that are refused."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sortase.data import vocabulary
from sortase.errors import InputError, UnsafePickleError

TOKENS = {"<pad>": 0, "ENSG01": 2, "ENSG02": 5}


def saved(folder: Path, content: Any, name: str = "tokens.pkl") -> str:
    path = folder / name
    path.write_bytes(json.dumps(content).encode() if name.endswith(".json") else pickle.dumps(content))
    return str(path)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        pytest.param(TOKENS, "t.pkl", id="token to id"),
        pytest.param({index: token for token, index in TOKENS.items()}, "t.pkl", id="id to token"),
        pytest.param({np.int16(index): token for token, index in TOKENS.items()}, "t.pkl", id="NumPy id to token"),
        pytest.param({token: np.int64(index) for token, index in TOKENS.items()}, "t.pkl", id="token to NumPy id"),
        pytest.param(TOKENS, "t.json", id="JSON token to id"),
        pytest.param({index: token for token, index in TOKENS.items()}, "t.json", id="JSON id to token"),
    ],
)
def test_both_directions_give_the_same_tokens(tmp_path: Path, content: Any, name: str) -> None:
    read = vocabulary.read(saved(tmp_path, content, name))
    assert read == TOKENS
    assert {type(index) for index in read.values()} == {int}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param({"a": 1, "b": 1}, "id 1 to both 'a' and 'b'", id="two tokens of one id"),
        pytest.param({1: "a", 2: "a"}, "token 'a' two ids, 1 and 2", id="two ids of one token"),
        pytest.param({"a": -1}, "id -1", id="negative id"),
        pytest.param({"g": 2_000_000_000}, "'g' the id 2000000000; ids of 1 token are at most", id="a table of 7.7 GB"),
        pytest.param({2_000_000_000: "g"}, "'g' the id 2000000000; ids of 1 token are at most", id="the same by ids"),
        pytest.param({"a": 1.5}, "'a': 1.5", id="fraction"),
        pytest.param({"a": True}, "'a': True", id="truth value"),
        pytest.param({1: 2}, "1: 2", id="no token"),
        pytest.param({"a": "b"}, "'a': 'b'", id="no id"),
        pytest.param(["a"], "list", id="list"),
        pytest.param({}, "dictionary", id="empty"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path: Path, content: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        vocabulary.read(saved(tmp_path, content))


def test_a_pickle_that_executes_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    with pytest.raises(UnsafePickleError):
        vocabulary.read(saved(tmp_path, Evil()))
    assert not (tmp_path / "executed").exists()


def test_missing_special_tokens_come_after_the_last_id() -> None:
    complete = vocabulary.with_special_tokens(TOKENS)
    assert {token: complete[token] for token in TOKENS} == TOKENS
    added = {token: index for token, index in complete.items() if token not in TOKENS}
    assert added == {"<mask>": 6, "<unk>": 7, "<cls>": 8, "<sep>": 9}
    assert "<cls>" not in TOKENS


def test_built_and_written_vocabulary_is_read_again(tmp_path: Path) -> None:
    built = vocabulary.build(["b", "a", "b"])
    assert [token for token in built if not token.startswith("<")] == ["a", "b"]
    assert sorted(built.values()) == list(range(len(built)))
    vocabulary.write(str(tmp_path / "v.pkl"), built)
    assert vocabulary.read(str(tmp_path / "v.pkl")) == vocabulary.read(str(tmp_path / "v.json")) == built


def test_geneformer_dictionary_keeps_its_ids(geneformer_dir: Path) -> None:
    tokens = vocabulary.read(str(geneformer_dir / "geneformer_v1_token_dictionary.pkl"))
    assert len(tokens) == 25_426
    assert max(tokens.values()) == 25_425
    assert (tokens["<pad>"], tokens["<mask>"], tokens["ENSG00000000003"]) == (0, 1, 2)
    assert vocabulary.with_special_tokens(tokens)["<cls>"] == 25_427  # after <unk>
