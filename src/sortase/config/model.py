"""Which model is trained."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from .base import Section
from .presets import PRESETS


class ModelSpec(Section):
    """A checkpoint to fine-tune, or an architecture to initialise."""

    checkpoint: str | None = Field(
        None,
        description="Folder, URL or Hugging Face name of a pretrained model. Without weights in it, its configuration "
        "is initialised afresh.",
    )
    config: dict[str, Any] | None = Field(
        None,
        description="Settings of the architecture: changes to the checkpoint's, or, without a checkpoint, a new model "
        "of `model_type` (default bert). Vocabulary size and special ids follow the tokenizer.",
    )
    tokenizer: str | None = Field(
        None, description="Tokenizer folder, Hugging Face name or vocabulary pickle; by default the checkpoint's own."
    )
    freeze_layers: int = Field(0, ge=0, description="First layers, with the embeddings, that do not learn.")
    max_length: int | None = Field(
        None, ge=1, description="Tokens a sequence is cut to; by default and at most the model's positions."
    )
    attention_dropout: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Replaces the model's attention dropout. On CPUs any value above 0 keeps attention off the fused "
        "path, which is several times slower on long sequences; by default the model's own value stays.",
    )

    preset: str | None = Field(
        None,
        description="Fills in what a published model expects of the data, wherever nothing is said: "
        f"{', '.join(PRESETS)}. docs/presets.md shows the table.",
    )
    files: str | None = Field(
        None,
        description="Folder or URL with the dictionaries of the preset; by default the checkpoint's folder, the one "
        "around it, and the installed package geneformer are looked at.",
    )

    @field_validator("preset")
    @classmethod
    def _known(cls, preset: str | None) -> str | None:
        if preset is not None and preset not in PRESETS:
            near = get_close_matches(preset, PRESETS, n=1)
            told = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PRESETS)}"
            raise ValueError(f"there is no preset {preset!r}; {told}")
        return preset

    @model_validator(mode="after")
    def _something_to_train(self) -> Self:
        if self.checkpoint is None and self.config is None:
            raise ValueError("give model.checkpoint (a pretrained model) or model.config (a new one)")
        return self
