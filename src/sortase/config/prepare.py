"""Which rows, which labels, and how they are divided into sides."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from .base import Label, LabelValue, Section
from .gene_lists import Overlap, check_overlap, gene_lists

Side = Literal["train", "validation", "test"]


class DataSpec(Section):
    """The tokenised dataset, and which of its rows are used."""

    dataset: str | None = Field(None, description="Folder or URL of a tokenised dataset saved with save_to_disk.")
    filter: dict[str, Any] = Field(
        default_factory=dict, description="Column name to the value, or list of values, that a row must have."
    )
    rare_threshold: float = Field(
        0.0, ge=0, le=1, description="Classes that make up less than this fraction of the labelled rows are dropped."
    )
    max_examples: int | None = Field(None, ge=1, description="At most so many rows in all, drawn at random.")
    max_examples_per_class: int | None = Field(None, ge=1, description="At most so many rows of each class.")
    nproc: int = Field(4, ge=1, description="Parts of the data worked on at a time; the result does not depend on it.")

    @field_validator("filter")
    @classmethod
    def _values(cls, filters: dict[str, Any]) -> dict[str, Any]:
        filters = {name: _plain(value) for name, value in filters.items()}
        for name, value in filters.items():
            if isinstance(value, dict) or (isinstance(value, list) and not value):
                raise ValueError(f"filter of column '{name}' must be a value or a list of values, got {value!r}")
        return filters


def _plain(value: Any) -> Any:
    """Collections as lists, arrays and columns of tables as what is in them."""
    if isinstance(value, tuple | range):
        return list(value)
    return value.tolist() if hasattr(value, "tolist") else value


def _name(value: Any) -> str:
    """A label as text, as those of the data are compared."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if value is None or isinstance(value, float | list | dict) or not str(value).strip():
        raise ValueError(
            f"labels.rename has {value!r} for a label; labels are text, integers or booleans (null as the class drops "
            "rows; rows without a label are always dropped)"
        )
    return str(value)


class LabelSpec(Section):
    """What the classes are and where they come from."""

    task: Literal["sequence", "token"] = Field("sequence", description="One label for each row, or for each token.")
    column: str | None = Field(
        None,
        description="Column that holds a row's label. With task token: a column of lists, with a label (name or id; "
        "null or -100 for none) for each token; beside gene_class_dict it only stratifies the split and the caps.",
    )
    mapping: dict[Label, int] | None = Field(
        None, description="Class name to id, ids 0..n-1. By default ids follow the sorted names."
    )
    rename: dict[Label, Label | None] = Field(
        default_factory=dict,
        description="Task sequence: a label of the data to the class it counts as, or to null: its rows are dropped.",
    )
    gene_class_dict: dict[Label, list[str]] | str | None = Field(
        None,
        description="Task token: class name to its tokens (genes), or a JSON, pickle or CSV file (a column a class).",
    )
    overlap: Overlap = Field(
        "error",
        description="What becomes of tokens that gene_class_dict has in several classes: drop gives them no label, "
        "first and last the class that is written first, or last.",
    )
    vocabulary: str | None = Field(None, description="Token dictionary (pickle or JSON); gene_class_dict needs it.")

    @field_validator("gene_class_dict", mode="before")
    @classmethod
    def _genes(cls, classes: Any) -> Any:
        return classes if classes is None or isinstance(classes, str) else gene_lists(classes)

    @field_validator("overlap", mode="before")
    @classmethod
    def _known_overlap(cls, value: Any) -> Any:
        return check_overlap(value)

    @field_validator("mapping", mode="before")
    @classmethod
    def _names(cls, mapping: Any) -> Any:
        return {str(name): value for name, value in mapping.items()} if isinstance(mapping, dict) else mapping

    @field_validator("rename", mode="before")
    @classmethod
    def _text(cls, rename: Any) -> Any:
        if not isinstance(rename, dict):
            return rename
        return {_name(old): new if new is None else _name(new) for old, new in rename.items()}

    @model_validator(mode="after")
    def _renamed_once(self) -> Self:
        if self.rename and self.task == "token":
            raise ValueError("labels.rename belongs to task sequence; with task token change labels.gene_class_dict")
        for old, new in self.rename.items():
            if new in self.rename:
                raise ValueError(
                    f"labels.rename makes {old!r} {new!r}, and has a rule for {new!r} as well; rules are not chained, "
                    "say what each label counts as in the end"
                )
            if new is not None and self.mapping is not None and new not in self.mapping:
                raise ValueError(
                    f"labels.rename makes {old!r} {new!r}, which is not in labels.mapping {sorted(self.mapping)}"
                )
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without ``rename`` and ``overlap`` at their defaults: settings from before these existed are the same."""
        settings: dict[str, Any] = handler(self)
        return {name: value for name, value in settings.items() if (name, value) not in _LATER}

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.task == "sequence" and self.column is None:
            raise ValueError("labels.column is required for task sequence: the column that holds the labels")
        if self.task == "token" and self.gene_class_dict is None and self.column is None:
            raise ValueError(
                "task token needs labels.gene_class_dict (the tokens of each class), or labels.column (lists with a "
                "label for each token)"
            )
        if self.overlap != "error" and self.gene_class_dict is None:
            raise ValueError("labels.overlap belongs to labels.gene_class_dict, which is not given")
        return self


_LATER: tuple[tuple[str, Any], ...] = (("rename", {}), ("overlap", "error"))


class SplitSpec(Section):
    """How rows (or, with strategy token, labelled tokens) are divided into train, validation and test."""

    strategy: Literal["random", "group", "column", "token"] = Field(
        "random",
        description="random: stratified by class; group: a value of `column` is on one side only; column: `column` "
        "says the side; token: labelled tokens are held out, so that remembering a token's label does not help.",
    )
    column: str | None = Field(None, description="Column of strategies group and column.")
    sides: dict[Side, list[LabelValue]] | None = Field(
        None, description="Strategy column: the values of `column` that make up each side, when they are not its names."
    )
    test_size: float = Field(0.2, ge=0, lt=1, description="Fraction of the rows, or tokens, on the test side.")
    validation_size: float = Field(0.1, ge=0, lt=1, description="Fraction on the validation side.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.strategy in ("group", "column") and self.column is None:
            raise ValueError(f"split.column is required for strategy {self.strategy}")
        if self.strategy != "column" and self.sides is not None:
            raise ValueError(f"split.sides belongs to strategy column, not to {self.strategy}")
        if self.test_size + self.validation_size >= 1:
            raise ValueError(
                f"split.test_size {self.test_size} and split.validation_size {self.validation_size} leave nothing to "
                "train on; their sum must be below 1"
            )
        return self
