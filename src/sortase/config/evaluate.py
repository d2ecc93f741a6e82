"""How a model is evaluated, and what it predicts for unlabelled data."""

from __future__ import annotations

from pydantic import Field

from .base import Section


class EvaluateSpec(Section):
    """Scoring the test side."""

    batch_size: int = Field(48, ge=1, description="Rows in one forward pass.")
    bootstrap: int = Field(1000, ge=0, description="Resamples behind the 95 % intervals; 0 for no intervals.")
    baseline: bool = Field(True, description="Also score the majority class and logistic regression.")


class PredictSpec(Section):
    """Labelling new data with the trained model."""

    dataset: str = Field(description="Folder or URL of a tokenised dataset; labels are not needed.")
    columns: list[str] = Field(default_factory=list, description="Columns that are carried along.")
    top_k: int = Field(1, ge=1, description="How many of the most probable classes are written.")
    threshold: float | None = Field(None, gt=0, lt=1, description="Below this probability the prediction is 'unknown'.")
    batch_size: int = Field(48, ge=1, description="Rows in one forward pass.")
