"""Tokenizers: of a vocabulary pickle, or as a model brings its own."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from .. import storage
from ..data import vocabulary
from ..errors import InputError, MissingInputError


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
        ``<sep>``, the pad and the mask token those that it lacks get ids after the last.

    Raises:
        UnsafePickleError: the pickle asks for more than plain data.
        InputError: it is no vocabulary, or two tokens share an id.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit

    special = (pad_token, mask_token, "<unk>", "<cls>", "<sep>")
    vocab = vocabulary.with_special_tokens(vocabulary.read(token_dict_path), special)
    tokenizer = Tokenizer(WordLevel(vocab=vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad_token,
        mask_token=mask_token,
        unk_token="<unk>",
        cls_token="<cls>",
        sep_token="<sep>",
    )


def load_tokenizer(name_or_path: str) -> Any:
    """The tokenizer of a vocabulary file (``.pkl``, ``.pickle``, ``.json``), a saved folder or URL, or a hub name."""
    if name_or_path.endswith((".pkl", ".pickle", ".json")):
        return build_custom_tokenizer(name_or_path)
    local = storage.is_remote(name_or_path) or storage.exists(name_or_path)
    if not local and name_or_path.startswith((".", "/", "~")):
        raise MissingInputError(f"there is no tokenizer at {name_or_path}")
    path = str(storage.fetch(name_or_path)) if local else name_or_path
    try:
        return AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"no tokenizer can be read from {name_or_path}: {error}") from error
