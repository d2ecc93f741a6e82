"""Tiny configurations of architectures as transformers names them, and checkpoints of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

LAYERS = 3
COMMON: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "roberta": COMMON,
    "esm": {**COMMON, "mask_token_id": 1, "position_embedding_type": "rotary"},
    "electra": {**COMMON, "embedding_size": 8},
    "distilbert": {
        "vocab_size": 60,
        "dim": 16,
        "n_layers": LAYERS,
        "n_heads": 2,
        "hidden_dim": 32,
        "max_position_embeddings": 64,
    },
    "modernbert": {**COMMON, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
    "deberta-v2": {
        **COMMON,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "max_relative_positions": 8,
    },
    "gpt2": {
        "vocab_size": 60,
        "n_embd": 16,
        "n_layer": LAYERS,
        "n_head": 2,
        "n_positions": 64,
        "bos_token_id": 59,
        "eos_token_id": 59,
    },
    "opt": {**COMMON, "ffn_dim": 32, "word_embed_proj_dim": 8, "pad_token_id": 1},
    "albert": {**COMMON, "embedding_size": 8},
}


def config_of(family: str, **changes: Any) -> Any:
    return transformers.CONFIG_MAPPING[family](**{**FAMILIES[family], **changes})


def pretrained(folder: Path, family: str = "bert", auto: str = "AutoModel", **changes: Any) -> str:
    """A checkpoint as transformers saves it: of the body alone, or with the head of another task (``auto``)."""
    torch.manual_seed(0)
    getattr(transformers, auto).from_config(config_of(family, **changes)).save_pretrained(folder)
    return str(folder)
