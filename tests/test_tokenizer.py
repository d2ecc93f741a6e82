"""Tokenizers made from vocabularies."""

import pickle
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from sortase import build_custom_tokenizer, storage
from sortase.data import vocabulary
from sortase.errors import InputError, MissingInputError
from sortase.model.tokenizer import load_tokenizer

PLAIN = {"<pad>": 0, "<mask>": 1, "A": 2, "B": 3}
GAPS = {"<pad>": 0, "A": 7, "B": 40_000}


def saved(folder: Path, tokens: dict[str, int]) -> str:
    path = folder / "tokens.pkl"
    path.write_bytes(pickle.dumps(tokens))
    return str(path)


@pytest.mark.parametrize("tokens", [pytest.param(PLAIN, id="dense"), pytest.param(GAPS, id="ids with gaps")])
def test_ids_are_kept_here_and_after_saving(tmp_path: Path, tokens: dict[str, int]) -> None:
    made = build_custom_tokenizer(saved(tmp_path, tokens))
    made.save_pretrained(tmp_path / "saved")
    wanted = vocabulary.with_special_tokens(tokens, ("<pad>", "<mask>", "<unk>", "<cls>", "<sep>"))
    for tokenizer in (made, AutoTokenizer.from_pretrained(tmp_path / "saved")):
        assert tokenizer.get_vocab() == wanted
        assert tokenizer("A B C")["input_ids"][:3] == [tokens["A"], tokens["B"], wanted["<unk>"]]
        special = (tokenizer.pad_token_id, tokenizer.mask_token_id, tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert special == tuple(wanted[token] for token in ("<pad>", "<mask>", "<cls>", "<sep>"))


def test_rows_are_padded(tmp_path: Path) -> None:
    tokenizer = build_custom_tokenizer(saved(tmp_path, {"A": 0, "B": 1}))
    padded = tokenizer.pad({"input_ids": [[0, 1, 0], [1]]}, return_tensors="np")
    pad = tokenizer.pad_token_id
    assert pad == 2
    assert padded["input_ids"].tolist() == [[0, 1, 0], [1, pad, pad]]
    assert padded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_special_tokens_may_have_other_names(tmp_path: Path) -> None:
    tokenizer = build_custom_tokenizer(saved(tmp_path, {"[P]": 3, "A": 0}), pad_token="[P]", mask_token="[M]")
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (3, 4)
    assert tokenizer.pad_token == "[P]"


def test_genes_named_like_symbols_are_not_split(tmp_path: Path) -> None:
    names = ["HLA-A", "MT-CO1", "RP11-34P13.7", "β gene".replace(" ", "_")]
    tokenizer = build_custom_tokenizer(saved(tmp_path, {name: place for place, name in enumerate(names)}))
    assert tokenizer(" ".join(names))["input_ids"] == [0, 1, 2, 3]


def test_geneformer_dictionary(geneformer_dir: Path) -> None:
    tokenizer = build_custom_tokenizer(str(geneformer_dir / "geneformer_v1_token_dictionary.pkl"))
    assert (tokenizer.pad_token_id, tokenizer.mask_token_id) == (0, 1)
    assert min(tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.unk_token_id) == 25_426
    assert len(tokenizer) == 25_429


def test_load_takes_pickles_folders_and_urls(tmp_path: Path, s3_url: str) -> None:
    made = build_custom_tokenizer(saved(tmp_path, PLAIN))
    made.save_pretrained(tmp_path / "saved")
    storage.upload(tmp_path / "saved", f"{s3_url}/saved")
    storage.upload(tmp_path / "tokens.pkl", f"{s3_url}/tokens.pkl")
    places = [str(tmp_path / "tokens.pkl"), str(tmp_path / "saved"), f"{s3_url}/saved", f"{s3_url}/tokens.pkl"]
    assert [load_tokenizer(place).get_vocab() for place in places] == [made.get_vocab()] * 4


def test_what_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"missing\.pkl"):
        load_tokenizer(str(tmp_path / "missing.pkl"))
    with pytest.raises(MissingInputError, match="nothing"):
        load_tokenizer(str(tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        load_tokenizer(str(tmp_path / "empty"))
