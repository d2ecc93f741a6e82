"""Vocabularies and models that do not match to the last entry: what counts are the ids in the rows."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast
from transformers import GPT2TokenizerFast as Gpt2Tokenizer

from makers import CLASSES, train_job
from model_families import config_of, pretrained
from sortase import GenericClassifier, predict_from_checkpoint
from sortase.config.load import check
from sortase.config.model import ModelSpec
from sortase.errors import InputError
from sortase.model.load import build_model, load_trained
from sortase.model.task import TASKS
from sortase.model.tokenizer import fitted, load_tokenizer
from sortase.pipeline.run import run
from test_checkpoints_as_they_are import trained_from

ONE_STEP = {"max_steps": 1, "eval_strategy": "no", "keep_best": False, "save_strategy": "no"}
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def genes(count: int, first: int) -> dict[str, int]:
    return {f"ENSG{index:011d}": index for index in range(first, count)}


V1_KIND = {"<pad>": 0, "<mask>": 1, **genes(60, 2)}
V2_KIND = {"<pad>": 0, "<mask>": 1, "<cls>": 2, "<eos>": 3, **genes(60, 4)}
ROOMY = {"<pad>": 0, "<mask>": 1, **genes(80, 2)}  # rows use ids below 60 only
SMALL_ONE = {"<pad>": 0, **genes(20, 1)}


def written(folder: Path, tokens: Any) -> str:
    path = folder / "tokens.pkl"
    path.write_bytes(pickle.dumps(tokens))
    return str(path)


def check_pair(folder: Path, vocab_size: int, known: dict[str, int]) -> Any:
    """What transformers makes of a saved folder: tokenizer and model belong together."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == vocab_size
    assert max(tokenizer.get_vocab().values()) < vocab_size
    assert len(tokenizer) <= vocab_size
    assert tokenizer.pad_token_id == model.config.pad_token_id
    kept = {token: index for token, index in known.items() if index < vocab_size}
    assert kept.items() <= tokenizer.get_vocab().items()
    row = [index for token, index in kept.items() if not token.startswith("<")][:5]
    assert tokenizer(" ".join(tokenizer.convert_ids_to_tokens(row)))["input_ids"] == row
    padded = tokenizer.pad({"input_ids": [row, row[:2]]}, return_tensors="pt")
    assert torch.isfinite(model(**padded).logits).all()
    return tokenizer


@pytest.mark.parametrize(
    "tokens",
    [
        pytest.param(V1_KIND, id="Geneformer V1's kind"),
        pytest.param(V2_KIND, id="Geneformer V2's kind"),
        pytest.param(ROOMY, id="larger than the model"),
        pytest.param(SMALL_ONE, id="smaller than the model"),
    ],
)
def test_train_evaluate_and_predict(tmp_path: Path, tokens: dict[str, int]) -> None:
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM")
    top = min(60, len(tokens))
    cells = Dataset.from_dict(
        {"input_ids": [[5 + i % 3, 8 + i % 9, top - 1] for i in range(40)], "cell_type": ["B", "T"] * 20}
    )
    classifier = GenericClassifier(
        "cell_type", token_dictionary_file=written(tmp_path, tokens), training_args=ONE_STEP, nproc=1
    )
    data, class_map = classifier.prepare_data(cells, str(tmp_path / "d"), "c")
    classifier.train(checkpoint, data, str(tmp_path / "m"))
    check_pair(tmp_path / "m", 60, tokens)
    metrics = classifier.evaluate(str(tmp_path / "m"), data, class_map, str(tmp_path / "e"))
    assert 0 <= metrics["eval_accuracy"] <= 1
    assert len(predict_from_checkpoint(str(tmp_path / "m"), data)) == 40
    both = [load_trained(str(tmp_path / "m"), tokenizer=name) for name in (None, classifier.labels.vocabulary)]
    assert {trained.pad_id for trained in both} == {0}
    assert all(max(trained.tokenizer.get_vocab().values()) < 60 for trained in both)


def test_a_whole_run_of_labels_a_token(tmp_path: Path) -> None:
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM")
    Dataset.from_dict({"input_ids": [[5 + i % 3, 8 + i % 9, 59] for i in range(60)]}).save_to_disk(tmp_path / "cells")
    names = list(V1_KIND)
    settings = {
        "run": {"name": "r", "output": str(tmp_path / "runs")},
        "data": {"dataset": str(tmp_path / "cells"), "nproc": 1},
        "labels": {
            "task": "token",
            "vocabulary": written(tmp_path, V1_KIND),
            "gene_class_dict": {"a": names[5:12], "b": names[12:20]},
        },
        "model": {"checkpoint": checkpoint},
        "train": ONE_STEP,
        "split": {"strategy": "random", "validation_size": 0},
        "evaluate": {"bootstrap": 0},
    }
    run(check(settings))
    check_pair(tmp_path / "runs" / "r" / "model", 60, V1_KIND)
    training = json.loads((tmp_path / "runs" / "r" / "run.json").read_text())["training"]
    assert training["new_tensors"] == ["classifier.bias", "classifier.weight"]
    assert training["from_checkpoint"] + training["new"] == training["parameters"]
    assert "parameters from the checkpoint" in (tmp_path / "runs" / "r" / "report.html").read_text()


def test_geneformer_v1(tmp_path: Path, geneformer_dir: Path) -> None:
    dictionary = str(geneformer_dir / "geneformer_v1_token_dictionary.pkl")
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM", vocab_size=25_426, **SMALL)
    trained_from(checkpoint, tmp_path / "r", tokenizer=dictionary)
    tokenizer = check_pair(tmp_path / "r" / "model", 25_426, {"ENSG00000000003": 2, "<mask>": 1})
    assert len(tokenizer) == 25_426
    assert (tokenizer.cls_token, tokenizer.unk_token) == (None, None)


def test_geneformer_v2_keeps_its_ends(tmp_path: Path) -> None:
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM")
    trained_from(checkpoint, tmp_path / "r", tokenizer=written(tmp_path, V2_KIND))
    tokenizer = check_pair(tmp_path / "r" / "model", 60, V2_KIND)
    assert (tokenizer.cls_token_id, tokenizer.eos_token_id, tokenizer.sep_token) == (2, 3, None)


def test_a_folder_as_stformers_pretrainer_saves_it(tmp_path: Path) -> None:
    """istrope/stFormer, pretrain/stFormer_pretrainer.py and tokenization/SpatialTokenize.py: a table of as many entries
    as the dictionary has, and a tokenizer with four more tokens: the name of its mode is taken for the pad token."""
    tokens = {"<pad>": 0, "<mask>": 1, **genes(702, 2)}
    word_level = Tokenizer(models.WordLevel(vocab=tokens, unk_token="<unk>"))
    word_level.pre_tokenizer, word_level.decoder = pre_tokenizers.Whitespace(), decoders.WordPiece()
    PreTrainedTokenizerFast(
        tokenizer_object=word_level,
        model_max_length=2048,
        unk_token="<unk>",
        pad_token="spot",
        mask_token="<mask>",
        cls_token="<cls>",
        sep_token="<sep>",
    ).save_pretrained(tmp_path / "p")
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM", vocab_size=702)
    assert max(load_tokenizer(checkpoint).get_vocab().values()) == 705
    trained_from(checkpoint, tmp_path / "r")
    tokenizer = check_pair(tmp_path / "r" / "model", 702, tokens)
    assert (len(tokenizer), tokenizer.model_max_length) == (702, 2048)
    assert (tokenizer.pad_token, tokenizer.pad_token_id) == ("<pad>", 0)


def test_an_id_beyond_the_model_is_named_with_its_token(tmp_path: Path) -> None:
    checkpoint = pretrained(tmp_path / "p", "bert", "AutoModelForMaskedLM", vocab_size=50)
    words = r"token id 5\d \(ENSG000000000\d+\), but the model's vocabulary has 50 entries \(ids 0 to 49\)"
    with pytest.raises(InputError, match=words):
        trained_from(checkpoint, tmp_path / "r", tokenizer=written(tmp_path, V1_KIND))


def test_the_pad_token_is_the_models(tmp_path: Path) -> None:
    tokens = {"A": 0, "<pad>": 7, "B": 3, **{f"g{i}": i for i in range(8, 60)}, "C": 5, "D": 6, "E": 1, "F": 2, "G": 4}
    for family, pad in (("bert", 7), ("roberta", 0)):  # RoBERTa counts positions from its pad id
        checkpoint = pretrained(tmp_path / family, family, "AutoModelForMaskedLM")
        trained_from(checkpoint, tmp_path / f"run-{family}", tokenizer=written(tmp_path, tokens))
        model = tmp_path / f"run-{family}" / "model"
        assert load_trained(str(model)).pad_id == AutoTokenizer.from_pretrained(model).pad_token_id == pad


@pytest.mark.parametrize(
    ("model", "gone"),
    [
        pytest.param(
            models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2, "c": 3}, unk_token="[UNK]"), {"c"}, id="WordPiece"
        ),
        pytest.param(
            models.BPE({"a": 0, "b": 1, "ab": 2, "aba": 3}, [("a", "b"), ("ab", "a")]), {"aba"}, id="byte pairs"
        ),
        pytest.param(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0), ("c", -3.0)], 0), {"c"}, id="Unigram"),
    ],
)
def test_tokens_are_left_out_of_every_kind(tmp_path: Path, model: Any, gone: set[str]) -> None:
    whole = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(model), pad_token="[PAD]")
    assert whole.pad_token_id == 4
    cut = fitted(whole, 3, 1)
    assert cut is not None
    cut.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again.get_vocab() == {t: i for t, i in whole.get_vocab().items() if t not in {*gone, "[PAD]"}}
    assert again.pad_token_id == 1


ROWS = [[5, 6, 7, 59], [8, 9, 59], [10, 59, 11, 12, 13, 59], [59], [14, 15]]


@pytest.mark.parametrize("tokenizer", [None, "gpt2"])
def test_a_decoder_without_a_pad_token_trains_and_pads(tmp_path: Path, tokenizer: str | None) -> None:
    checkpoint = pretrained(tmp_path / "p", "gpt2", "AutoModelForCausalLM")
    if tokenizer:
        vocab = {**{f"t{i}": i for i in range(59)}, "<|endoftext|>": 59}
        Gpt2Tokenizer(vocab=vocab, merges=[]).save_pretrained(checkpoint)
        assert AutoTokenizer.from_pretrained(checkpoint).pad_token_id is None
    data = Dataset.from_dict({"input_ids": ROWS * 16, "label": [0, 1, 2, 0, 1] * 16})
    from makers import run_training

    _, trained = run_training(tmp_path / "r", train_job(data=data, model=ModelSpec(checkpoint=checkpoint), max_steps=4))
    saved = load_trained(str(tmp_path / "r" / "model"))
    assert saved.pad_id == trained.pad_id == saved.model.config.pad_token_id
    assert saved.pad_id not in {token for row in ROWS for token in row}
    if tokenizer:
        assert AutoTokenizer.from_pretrained(tmp_path / "r" / "model").pad_token_id == saved.pad_id
    Dataset.from_dict({"input_ids": ROWS}).save_to_disk(tmp_path / "rows")
    _, logits = predict_from_checkpoint(str(tmp_path / "r" / "model"), str(tmp_path / "rows"), return_logits=True)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "r" / "model").eval()
    with torch.no_grad():
        alone = torch.cat([plain(input_ids=torch.tensor([row])).logits for row in ROWS]).numpy()
    np.testing.assert_allclose(logits, alone, atol=1e-5)


@pytest.mark.parametrize("pad", [None, 59, 5])
def test_the_mask_says_where_a_row_of_a_decoder_ends(tmp_path: Path, pad: int | None) -> None:
    """Whatever the pad id is, also one that rows end with, as in a classifier that was trained one row at a time."""
    model = build_model(TASKS["sequence"], CLASSES, None, config_of("gpt2", pad_token_id=pad), seed=1)
    model.save_pretrained(tmp_path / "m")
    Dataset.from_dict({"input_ids": ROWS}).save_to_disk(tmp_path / "rows")
    _, logits = predict_from_checkpoint(str(tmp_path / "m"), str(tmp_path / "rows"), return_logits=True)
    body, head = model.base_model.eval(), model.score.weight.detach()
    with torch.no_grad():
        alone = [body(input_ids=torch.tensor([row])).last_hidden_state[0, -1] @ head.T for row in ROWS]
    np.testing.assert_allclose(logits, torch.stack(alone).numpy(), atol=1e-5)
