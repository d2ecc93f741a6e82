"""The attention mask that a model is given, by what the host knows of the padding.

A mask costs on a GPU: transformers asks it there whether it masks anything, which waits for all work before, and
attention with a mask takes a slower kernel. So it is left out where no token is padding, for architectures that compute
the same without one. Where there is padding, BERT's kin take ``[rows, 1, 1, length]``, which transformers passes on as
it is, instead of making ``[rows, 1, length, length]`` from ``[rows, length]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PretrainedConfig

BERTS = frozenset({"bert", "electra", "roberta", "xlm-roberta"})
MASK_FREE = BERTS | {"distilbert", "esm", "modernbert"}


def without_needless_mask(inputs: dict[str, np.ndarray], config: PretrainedConfig) -> dict[str, np.ndarray]:
    """Inputs of a model, with the ``attention_mask`` (``[rows, length]``, 1 for tokens) in the cheapest equal form."""
    mask = inputs.get("attention_mask")
    if mask is None or config.model_type not in MASK_FREE or getattr(config, "is_decoder", False):
        return inputs
    others = {name: array for name, array in inputs.items() if name != "attention_mask"}
    if mask.all():
        return others
    if config.model_type in BERTS and config._attn_implementation == "sdpa":
        return {**others, "attention_mask": mask.astype(bool)[:, None, None, :]}
    return inputs
