"""Tokenizers: of a vocabulary pickle, or as a model brings its own."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from .. import arguments as check
from .. import storage
from ..data import vocabulary
from ..errors import SortaseError
from .hub import asked_for

ROLES = ("pad_token", "mask_token", "unk_token", "cls_token", "sep_token", "bos_token", "eos_token")
CARRIED = ("model_max_length", "padding_side", "truncation_side", "model_input_names", "clean_up_tokenization_spaces")


@check.public(token_dict_path=check.path, pad_token=check.word, mask_token=check.word)
def build_custom_tokenizer(
    token_dict_path: str, pad_token: str = "<pad>", mask_token: str = "<mask>"
) -> PreTrainedTokenizerFast:
    """Build a Hugging Face tokenizer from a pickled vocabulary.

    Args:
        token_dict_path: path or URL of a pickle (or JSON) of token -> id or id -> token.
        pad_token: fills up short rows.
        mask_token: marks masked positions.

    Returns:
        A tokenizer over whitespace-separated tokens. Ids of the vocabulary are kept; of ``<unk>``, ``<cls>``,
        ``<sep>``, the pad and the mask token those that it lacks get ids after the last; ``<eos>`` is known where it
        has one.

    Raises:
        UnsafePickleError: the pickle asks for more than plain data.
        InputError: it is not a vocabulary, or two tokens share an id.
    """
    with check.naming("token_dict_path"):
        return tokenizer_of(vocabulary.read(token_dict_path), pad_token, mask_token)


def tokenizer_of(
    tokens: dict[str, int], pad_token: str = "<pad>", mask_token: str = "<mask>"
) -> PreTrainedTokenizerFast:
    """The same for a vocabulary that is read."""
    special = (pad_token, mask_token, "<unk>", "<cls>", "<sep>")
    vocab = vocabulary.with_special_tokens(tokens, special)
    tokenizer = Tokenizer(WordLevel(vocab=vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad_token,
        mask_token=mask_token,
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
        eos_token="<eos>" if "<eos>" in vocab else None,
    )


def load_tokenizer(name_or_path: str) -> Any:
    """The tokenizer of a vocabulary file (``.pkl``, ``.pickle``, ``.json``), a saved folder or URL, or a hub name."""
    if name_or_path.endswith((".pkl", ".pickle", ".json")):
        return tokenizer_of(vocabulary.read(name_or_path))
    path = str(storage.fetch(name_or_path)) if storage.is_located(name_or_path) else name_or_path
    try:
        return asked_for(path, lambda: AutoTokenizer.from_pretrained(path, trust_remote_code=False))
    except (OSError, ValueError) as error:
        if isinstance(error, SortaseError):
            raise
        raise storage.unreadable("tokenizer", name_or_path, error) from error


def fitted(tokenizer: PreTrainedTokenizerBase, size: int, pad_id: int) -> PreTrainedTokenizerBase | None:
    """The tokenizer for a model of ``size`` entries that pads with ``pad_id``.

    Tokens without an entry are left out: special tokens that a vocabulary got behind its last one. None where the
    tokenizer is of a kind that nothing can be left out of.
    """
    vocabulary = tokenizer.get_vocab()
    if max(vocabulary.values(), default=-1) < size and tokenizer.pad_token_id == pad_id:
        return tokenizer
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    gone = {token for token, index in vocabulary.items() if index >= size}
    by_id = {index: token for token, index in vocabulary.items() if index < size}
    if not gone and pad_id in by_id:
        padding = deepcopy(tokenizer)
        padding.pad_token = by_id[pad_id]
        return padding
    if not _leave_out(content["model"], gone):
        return None
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < size]
    if any(token in gone for token in _template_tokens(content["post_processor"])):
        content["post_processor"] = None
    content["padding"] = content["truncation"] = None
    if pad_id not in by_id:
        if "vocab" not in content["model"] or not isinstance(content["model"]["vocab"], dict):
            return None
        by_id[pad_id] = str(tokenizer.pad_token or "<pad>")
        content["model"]["vocab"][by_id[pad_id]] = pad_id
    roles = {role: str(getattr(tokenizer, role)) for role in ROLES if getattr(tokenizer, role) is not None}
    kept = {role: token for role, token in roles.items() if token in by_id.values()} | {"pad_token": by_id[pad_id]}
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        **kept,
        **{name: getattr(tokenizer, name) for name in CARRIED if hasattr(tokenizer, name)},
    )
    return made if max(made.get_vocab().values()) < size else None


def _leave_out(model: dict[str, Any], gone: set[str]) -> bool:
    """Remove tokens from a model of the ``tokenizers`` library; whether it could be done."""
    vocab = model.get("vocab")
    if isinstance(vocab, list):  # Unigram: pieces in the order of their ids
        model["vocab"] = [piece for piece in vocab if piece[0] not in gone]
        return True
    if not isinstance(vocab, dict):
        return not gone
    model["vocab"] = {token: index for token, index in vocab.items() if token not in gone}
    if "merges" in model:
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        model["merges"] = [pair for pair in pairs if not {*pair, "".join(pair)} & gone]
    return True


def _template_tokens(processor: dict[str, Any] | None) -> list[str]:
    """Special tokens that a post-processor puts around each text."""
    if processor is None:
        return []
    inner = [token for part in processor.get("processors", []) for token in _template_tokens(part)]
    pairs = [processor[name][0] for name in ("cls", "sep") if isinstance(processor.get(name), list)]
    return [*inner, *pairs, *processor.get("special_tokens", {})]
