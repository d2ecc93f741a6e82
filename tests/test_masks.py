"""Leaving out a mask that masks nothing, or giving it in another form, changes no score."""

from typing import Any

import numpy as np
import pytest
import torch

from makers import CLASSES, architecture
from sortase.model.load import build_model, load_config
from sortase.model.masks import MASK_FREE, without_needless_mask
from sortase.model.task import TASKS

GPT2 = {"model_type": "gpt2", "vocab_size": 60, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
TOKENS = np.random.default_rng(0).integers(5, 60, (3, 12))


def model_of(model_type: str, kind: str, **changes: Any) -> Any:
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = {**GPT2, **ids} if model_type == "gpt2" else architecture(model_type, **changes)
    return build_model(TASKS[kind], CLASSES, None, load_config(None, config), 1).eval()


def logits(model: Any, inputs: dict[str, np.ndarray]) -> torch.Tensor:
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits


def batch(padded: bool) -> dict[str, np.ndarray]:
    mask = np.ones_like(TOKENS)
    if padded:
        mask[1, 7:] = 0
    return {"input_ids": np.where(mask == 1, TOKENS, 0), "attention_mask": mask}


@pytest.mark.parametrize("kind", ["sequence", "token"])
@pytest.mark.parametrize("padded", [pytest.param(False, id="full"), pytest.param(True, id="padded")])
@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        *[pytest.param(name, {}, id=name) for name in sorted(MASK_FREE)],
        pytest.param("esm", {"token_dropout": True}, id="esm with token dropout"),
        pytest.param("modernbert", {"local_attention": 4, "classifier_pooling": "mean"}, id="modernbert, local"),
        pytest.param("gpt2", {}, id="gpt2"),
    ],
)
def test_scores_are_the_same_bit_for_bit(model_type: str, changes: dict[str, Any], padded: bool, kind: str) -> None:
    model, inputs = model_of(model_type, kind, **changes), batch(padded)
    expected = logits(model, inputs)
    found = logits(model, without_needless_mask(inputs, model.config))
    seen = torch.from_numpy(batch(padded)["attention_mask"]).bool() if kind == "token" else slice(None)
    assert torch.equal(found[seen], expected[seen])


@pytest.mark.parametrize(
    ("model_type", "padded", "shape"),
    [
        pytest.param("bert", False, None, id="left out"),
        pytest.param("esm", False, None, id="left out for ESM"),
        pytest.param("bert", True, (3, 1, 1, 12), id="not a square"),
        pytest.param("esm", True, (3, 12), id="ESM multiplies its embeddings by it"),
        pytest.param("gpt2", False, (3, 12), id="kept for what attends backwards"),
    ],
)
def test_the_form_follows_from_family_and_padding(model_type: str, padded: bool, shape: tuple | None) -> None:
    found = without_needless_mask(batch(padded), model_of(model_type, "sequence").config).get("attention_mask")
    assert (None if found is None else found.shape) == shape


def test_attention_that_adds_its_mask_gets_numbers() -> None:
    config = model_of("bert", "sequence").config
    config._attn_implementation = "eager"
    assert without_needless_mask(batch(True), config)["attention_mask"].dtype == np.int64
