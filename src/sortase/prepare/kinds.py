"""How preparing differs between classes of rows and classes of tokens."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..config.prepare import DataSpec, LabelSpec, SplitSpec
from ..data import classmap
from ..data.gene_classes import GeneClasses, gene_classes, read_gene_classes
from ..data.selection.filters import holdings
from ..data.selection.labelling import Labelling, RowLabels, TagLabels, TokenLabels
from ..data.selection.passes import Rows
from ..data.selection.plan import Decision
from ..data.selection.summary import Total
from ..data.selection.tags import CountTags, Tags, check_tags_column, tag_names
from ..data.source import Source, require_column
from ..errors import ConfigError, InputError, InputTypeError
from ..types import Map


@dataclass(frozen=True)
class Loaded:
    """What the labels need besides the dataset, read and checked. ``identity`` changes when it does."""

    class_map: dict[str, int] | None
    genes: GeneClasses | None = None
    identity: str = field(default="")


class SequenceKind:
    """A row's label is a value of its own."""

    name = "sequence"
    required = True

    def load(self, labels: LabelSpec) -> Loaded:
        return Loaded(classmap.check(labels.mapping) if labels.mapping is not None else None)

    def class_column(self, source: Source, data: DataSpec, labels: LabelSpec) -> str | None:
        require_column(source, str(labels.column), "labels.column")
        return labels.column

    def check_split(self, split: SplitSpec) -> None:
        if split.strategy == "token":
            raise ConfigError("split.strategy token holds out labelled tokens; with labels.task sequence use another")

    def labelling(self, decision: Decision, loaded: Loaded, rows: Rows, run: Map) -> Labelling:
        names = [name for name in decision.names if name is not None]
        if loaded.class_map is not None and (unseen := [name for name in names if name not in loaded.class_map]):
            raise InputError(_unknown(unseen, decision, loaded.class_map))
        if len(names) < 2:
            raise InputError(f"only class {names[0]!r} is left; a classifier needs at least two")
        return RowLabels(loaded.class_map or classmap.build(names))

    def tokens(self, labelling: Labelling, total: Total) -> dict[str, str] | None:
        return None

    def stratify(self, column: str | None, source: Source) -> str | None:
        return "label"


def _unknown(labels: list[str], decision: Decision, class_map: Mapping[str, int]) -> str:
    rows = next(step["per_class"] for step in decision.steps if step["step"] == "rare classes")
    labels = sorted(labels, key=lambda name: (-rows[name], name))
    shown = ", ".join(f"{name!r} ({rows[name]:,} row{'s' if rows[name] != 1 else ''})" for name in labels[:_MOST])
    more = f" and {len(labels) - _MOST} more" if len(labels) > _MOST else ""
    what, verb, which = ("labels", "are", "each") if len(labels) > 1 else ("label", "is", "it")
    return (
        f"{what} {shown}{more} {verb} not in label_mapping, which has {sorted(class_map)}. Give {which} an id there, "
        f"or leave {which} out with data.filter. In run.yaml labels.rename says which class {which} counts as "
        f"(labels.rename: {{{labels[0]}: CLASS}}; null drops its rows), and in a retraining, where the classes are the "
        "champion's, retrain.new_labels: drop leaves its rows out"
    )


class TokenKind:
    """A token's label follows from which token it is; the rows' own column only stratifies."""

    name = "token"
    required = False

    def load(self, labels: LabelSpec) -> Loaded:
        from ..data import vocabulary

        if labels.gene_class_dict is None or labels.vocabulary is None:
            raise InputTypeError("labels.gene_class_dict needs labels.vocabulary, the dictionary of token ids")
        classes = read_gene_classes(labels.gene_class_dict)
        known = vocabulary.read(labels.vocabulary)
        class_map = self._class_map(classes, labels.mapping)
        content: list[Any] = [sorted(classes.items()), sorted(known.items())]
        if labels.overlap != "error":
            content += [labels.overlap, *(classes if labels.overlap != "drop" else ())]  # whose order decides
        identity = hashlib.sha256(json.dumps(content, default=int).encode()).hexdigest()
        return Loaded(class_map, gene_classes(classes, known, class_map, labels.overlap), identity)

    def _class_map(self, classes: Mapping[str, Any], mapping: Mapping[str, int] | None) -> dict[str, int]:
        if len(classes) < 2:
            raise InputError(f"gene classes are {sorted(classes)}; a classifier needs at least two")
        if mapping is None:
            return classmap.build(classes)
        checked = classmap.check(mapping)
        if checked.keys() != classes.keys():
            raise InputError(f"label_mapping has classes {sorted(checked)}, the gene classes are {sorted(classes)}")
        return checked

    def class_column(self, source: Source, data: DataSpec, labels: LabelSpec) -> str | None:
        if labels.column is None or labels.column in source.schema.names:
            column = labels.column
        else:
            warnings.warn(f"{source.name} has no column '{labels.column}'; it cannot stratify the split", stacklevel=4)
            column = None
        wants = [name for name in ("rare_threshold", "max_examples_per_class") if getattr(data, name)]
        if column is None and wants:
            raise InputError(
                f"{wants[0]} needs a column with the rows' classes; there are {sorted(source.schema.names)}"
            )
        return column

    def check_split(self, split: SplitSpec) -> None:
        """All strategies fit."""

    def labelling(self, decision: Decision, loaded: Loaded, rows: Rows, run: Map) -> Labelling:
        if loaded.class_map is None or loaded.genes is None:
            raise InputTypeError("token labels need gene classes")
        return TokenLabels(loaded.class_map, loaded.genes)

    def tokens(self, labelling: Labelling, total: Total) -> dict[str, str] | None:
        """Token ids with a label that occur, and their class ids, as text (JSON would spend a line on each)."""
        if not isinstance(labelling, TokenLabels):
            return None
        ids = np.flatnonzero(total.tally.tokens)
        return {"ids": " ".join(map(str, ids)), "labels": " ".join(map(str, labelling.genes.table[ids]))}

    def stratify(self, column: str | None, source: Source) -> str | None:
        return column


@dataclass(frozen=True)
class TagKind:
    """The labels of a row's tokens are in ``column``."""

    column: str
    name = "token"
    required = False

    def load(self, labels: LabelSpec) -> Loaded:
        return Loaded(classmap.check(labels.mapping) if labels.mapping is not None else None, None, "tags")

    def class_column(self, source: Source, data: DataSpec, labels: LabelSpec) -> None:
        check_tags_column(require_column(source, self.column, "labels.column"))
        for name in ("rare_threshold", "max_examples_per_class"):
            if getattr(data, name):
                raise InputError(f"{name} needs one class a row, and column '{self.column}' has one a token")

    def check_split(self, split: SplitSpec) -> None:
        """All strategies fit; token needs one label a token, which is checked when it divides."""

    def labelling(self, decision: Decision, loaded: Loaded, rows: Rows, run: Map) -> Labelling:
        tags = Tags(self.column, tag_names(rows.source.features, self.column))
        counts: Counter[str] = Counter()
        for part in run(CountTags(rows, tags), rows.source.units):
            counts.update(part)
        if loaded.class_map is not None and (unseen := [name for name in counts if name not in loaded.class_map]):
            shown = holdings(sorted(unseen, key=lambda name: (-counts[name], name)))
            raise InputError(f"column '{self.column}' has labels that label_mapping lacks: {shown}; add them to it")
        if len(counts) < 2:
            held = f"only {min(counts)!r}" if counts else "no label"
            raise InputError(f"column '{self.column}' has {held} in the rows left; a classifier needs two classes")
        return TagLabels(loaded.class_map or classmap.build(counts), tags)

    def tokens(self, labelling: Labelling, total: Total) -> None:
        """A token may have another label in another place."""

    def stratify(self, column: str | None, source: Source) -> None:
        """Rows have no class."""


_MOST = 10
Kind = SequenceKind | TokenKind | TagKind


def kind_of(labels: LabelSpec) -> Kind:
    if labels.task == "sequence":
        return SequenceKind()
    if labels.gene_class_dict is None and labels.column is not None:
        return TagKind(labels.column)
    return TokenKind()


def token_arrays(tokens: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """What `TokenKind.tokens` wrote."""
    return np.array(tokens["ids"].split(), dtype=np.int64), np.array(tokens["labels"].split(), dtype=np.int64)
