"""The whole of run.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ..redact import credentials_in
from .argument_translation import taken_out
from .base import Section
from .card import CardSpec
from .compute import ComputeSpec
from .evaluate import EvaluateSpec, PredictSpec
from .gate import GateSpec
from .model import ModelSpec
from .prepare import DataSpec, LabelSpec, SplitSpec
from .registry import RegistrySpec, RetrainSpec
from .storage import StorageSpec
from .tokenize import TokenizeSpec
from .tracking import TrackingSpec
from .train import TrainSpec
from .tune import TuneSpec

ELSEWHERE = (
    "run.seed",
    "compute.precision",
    "compute.device",
    "compute.deepspeed",
    "evaluate.batch_size",
    "tracking.to",
)


class RunSpec(Section):
    """What the run is called and where its folder lies."""

    name: str = Field(description="Name of the run: letters, digits, '-', '_' and '.'.")
    output: str = Field("runs", description="Folder or URL that holds run folders.")
    prefix: str = Field("run", description="Prefix of the prepared files' names.")
    seed: int = Field(42, ge=0, description="Seed of everything random.")

    @field_validator("name", "prefix")
    @classmethod
    def _plain(cls, value: str) -> str:
        if not value or value.startswith(".") or not all(c.isalnum() or c in "-_." for c in value):
            raise ValueError(f"{value!r} must be made of letters, digits, '-', '_' and '.', and not start with '.'")
        return value


class Config(Section):
    """A run: which rows, which labels, which model, how to train, where."""

    run: RunSpec
    tokenize: TokenizeSpec | None = Field(None, description="Makes the dataset from counts; leave out for a dataset.")
    data: DataSpec = Field(default_factory=DataSpec)
    labels: LabelSpec
    split: SplitSpec = Field(default_factory=SplitSpec)
    model: ModelSpec
    train: TrainSpec = Field(default_factory=TrainSpec)
    tune: TuneSpec | None = Field(None, description="Searches hyperparameters; the best trial's model is the run's.")
    evaluate: EvaluateSpec = Field(default_factory=EvaluateSpec)
    predict: PredictSpec | None = Field(None, description="Unlabelled data to label with the trained model.")
    gate: GateSpec | None = Field(None, description="Rules that a challenger must meet to replace the champion.")
    registry: RegistrySpec = Field(default_factory=RegistrySpec, description="Where the run's model is registered.")
    retrain: RetrainSpec = Field(default_factory=RetrainSpec, description="What `sortase retrain` does with new data.")
    tracking: TrackingSpec = Field(default_factory=TrackingSpec, description="Experiment trackers.")
    card: CardSpec = Field(default_factory=CardSpec, description="What the model's card says beyond the run.")
    compute: ComputeSpec = Field(default_factory=ComputeSpec)
    storage: StorageSpec = Field(default_factory=StorageSpec)

    @model_validator(mode="before")
    @classmethod
    def _arguments_find_their_section(cls, values: Any) -> Any:
        """A training argument that is a setting of another section (``seed``, ``fp16``) goes there."""
        names = ("train", "run", "compute", "evaluate", "tracking")
        sections = {name: values.get(name, {}) for name in names} if isinstance(values, Mapping) else {}
        if not sections or not all(isinstance(section, Mapping) for section in sections.values()):
            return values
        if next(credentials_in(dict(values)), None) is not None:
            return values  # which is said first, without showing it
        given = {place: sections[place.partition(".")[0]].get(place.partition(".")[2]) for place in ELSEWHERE}
        try:
            rest, found = taken_out(sections["train"], given)
        except ValueError as error:
            raise ValueError(f"train: {error}") from error
        moved = {**values, "train": rest} if "train" in values else dict(values)
        for place, value in found.items():
            section, _, key = place.partition(".")
            moved[section] = {**moved.get(section, {}), key: value}
        return moved

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.tokenize is None) == (self.data.dataset is None):
            raise ValueError("give either data.dataset (a tokenised dataset) or tokenize.input (counts)")
        return self

    @model_validator(mode="after")
    def _tokens_have_ids(self) -> Self:
        labels = self.labels
        named = labels.vocabulary or self.tokenize or self.model.preset
        if labels.gene_class_dict is not None and named is None:
            raise ValueError("labels.vocabulary is required for labels.gene_class_dict: the dictionary of token ids")
        return self

    @model_validator(mode="after")
    def _trials_are_compared(self) -> Self:
        if self.tune is None:
            return self
        if self.split.validation_size == 0 and self.split.strategy != "column":
            raise ValueError("tune compares trials on the validation side, but split.validation_size is 0")
        if self.train.arguments["eval_strategy"] == "no" and "eval_strategy" not in self.tune.space:
            raise ValueError("tune compares trials by their evaluations, but train.eval_strategy is 'no'")
        return self

    @property
    def fitting(self) -> Literal["train", "tune"]:
        """The stage that makes the run's model."""
        return "train" if self.tune is None else "tune"
