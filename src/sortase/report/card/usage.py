"""How a model is used, in code that runs with transformers and torch alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]

USAGE = """\
import torch
from transformers import AutoModelFor{head}Classification

folder = "path/to/this/folder"
rows = [[2, 3, 4], [5, 6]]  # token ids, as in column input_ids of the training data

model = AutoModelFor{head}Classification.from_pretrained(folder)
{cut}pad, longest = getattr(model.config, "pad_token_id", None) or 0, max(map(len, rows))
ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
with torch.no_grad():
    probabilities = model(input_ids=ids, attention_mask=mask).logits.softmax(dim=-1)
{answer}"""
ANSWERS = {
    "sequence": """\
for row in probabilities:
    best = int(row.argmax())
    print(model.config.id2label[best], float(row[best]))
""",
    "token": """\
for row, scores in zip(rows, probabilities):
    for token, score in zip(row, scores):
        best = int(score.argmax())
        print(token, model.config.id2label[best], float(score[best]))
""",
}
HEADS = {"sequence": "Sequence", "token": "Token"}


def usage(task: str, model: Facts) -> str:
    """``model``: max_length, at which sequences are cut, and whether there is a tokenizer beside the weights."""
    limit = model.get("max_length")
    cut = f"rows = [row[:{limit}] for row in rows]  # as in training\n" if limit and limit < 2**31 - 1 else ""
    block = USAGE.format(head=HEADS[task], cut=cut, answer=ANSWERS[task])
    words = "`transformers` alone loads it; no code comes with it.\n\n```python\n" + block + "```"
    if model.get("tokenizer"):
        words += "\n\n`AutoTokenizer.from_pretrained(folder).get_vocab()` has the names of the tokens and their ids."
    return words
