"""What a configuration brings along from the model's former life: outputs, losses, class names, a missing pad id."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Families whose positions are counted from the pad id.
COUNTED_FROM_PAD = ("roberta", "xlm-roberta", "camembert", "esm", "longformer", "mpnet", "roberta-prelayernorm")
# Settings that change what a forward pass returns, not what the model computes.
OUTPUTS = {
    "return_dict": True,
    "output_hidden_states": False,
    "output_attentions": False,
    "torchscript": False,
    "use_cache": False,
}


def clean(config: PretrainedConfig, class_map: dict[str, int]) -> None:
    """Classes and outputs as training needs them, whatever the model was used for before."""
    config.problem_type = None
    config.num_labels = len(class_map)
    config.label2id = dict(class_map)
    config.id2label = {index: name for name, index in class_map.items()}
    for name, value in OUTPUTS.items():
        if getattr(config, name, value) != value:
            setattr(config, name, value)


def class_map_of(settings: dict[str, Any], directory: str) -> dict[str, int]:
    """Class name -> id of a saved model, from its ``config.json`` as it lies there.

    Raises InputError where ids have gaps, a name stands for two ids, or ``label2id`` says something else.
    """
    names = settings.get("id2label")
    if names is None:  # transformers leaves out what it would fill in again
        return {f"LABEL_{index}": index for index in range(int(settings.get("num_labels") or 2))}
    by_id = {int(index): str(name) for index, name in names.items()}
    if sorted(by_id) != list(range(len(by_id))):
        raise InputError(f"id2label of {directory} has the ids {sorted(by_id)}; they must be 0 to {len(by_id) - 1}")
    repeated = sorted({name for name in by_id.values() if list(by_id.values()).count(name) > 1})
    if repeated:
        raise InputError(f"id2label of {directory} gives the name {repeated[0]!r} to more than one id")
    by_name = {by_id[index]: index for index in sorted(by_id)}
    other = {str(name): int(index) for name, index in (settings.get("label2id") or by_name).items()}
    if other != by_name:
        wrong = next(name for name in {**by_name, **other} if by_name.get(name) != other.get(name))
        raise InputError(
            f"id2label and label2id of {directory} contradict each other: {wrong!r} is {by_name.get(wrong)} in the one "
            f"and {other.get(wrong)} in the other"
        )
    return by_name


def settle_pad(
    config: PretrainedConfig, tokenizer: PreTrainedTokenizerBase | None, used: Callable[[], np.ndarray] | None = None
) -> int:
    """The id that fills up short rows, set in ``config`` too.

    A model that has none gets the tokenizer's, else its end of text, else the last id that no row has. ``used`` tells
    which ids are in the data, bool[vocabulary]. Where positions are counted from the pad id, the model's own stays.
    """
    size = config.vocab_size
    known = getattr(config, "pad_token_id", None)
    own = tokenizer.pad_token_id if tokenizer is not None else None
    fits = own is not None and 0 <= own < size
    if known is not None and 0 <= known < size and (config.model_type in COUNTED_FROM_PAD or not fits):
        return int(known)
    if fits:
        config.pad_token_id = own
        return int(own or 0)
    end = getattr(config, "eos_token_id", None)
    ends = [end] if isinstance(end, int) and 0 <= end < size else []
    taken = used() if used is not None else np.zeros(size, dtype=bool)
    unused = [index for index in ends if not taken[index]]
    config.pad_token_id = int([*unused, *np.flatnonzero(~taken)[::-1], *ends, 0][0])
    return int(config.pad_token_id)


class _Ends:
    """Where the rows of a batch end, by its attention mask: heard before the model's forward pass.

    None where every row ends with the last column, as without a mask.
    """

    def __init__(self) -> None:
        self.last: torch.Tensor | None = None

    def __call__(self, module: Any, args: Any, given: dict[str, Any]) -> None:
        import torch

        mask = given.get("attention_mask")
        self.last = None
        if mask is not None and mask.dim() == 2:
            places = torch.arange(mask.shape[1], device=mask.device)
            self.last = (places * mask).argmax(dim=-1)


class _AtTheEnd:
    """Gives the logits of a row's last token at all its places, so that the model picks these wherever it looks."""

    def __init__(self, ends: _Ends) -> None:
        self.ends = ends

    def __call__(self, module: Any, args: Any, logits: torch.Tensor) -> torch.Tensor:
        import torch

        if logits.dim() != 3:
            return logits
        if self.ends.last is None:
            return logits[:, -1:].expand_as(logits)
        rows = torch.arange(len(logits), device=logits.device)
        return logits[rows, self.ends.last.to(logits.device)].unsqueeze(1).expand_as(logits)


def end_rows_by_mask(model: PreTrainedModel) -> None:
    """Let the attention mask say where a row ends.

    Decoders classify a sequence by its last token that is not the pad id, and so pass over a real token of that id.
    """
    head = getattr(model, "score", None)
    if head is not None and type(model).__name__.endswith("ForSequenceClassification"):
        ends = _Ends()
        model.register_forward_pre_hook(ends, with_kwargs=True)
        head.register_forward_hook(_AtTheEnd(ends))
