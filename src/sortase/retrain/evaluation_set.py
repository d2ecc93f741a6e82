"""The rows that two models are judged on: a version's own test side, or a frozen set with the model's class ids."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .. import storage
from ..config.gate import GateSpec
from ..config.load import check
from ..config.prepare import DataSpec, SplitSpec
from ..config.run import Config
from ..data.fingerprints import Unit
from ..data.sequences import Sequences
from ..data.source import open_source
from ..data.split.split import column_classes
from ..errors import InputError, MissingInputError, StorageError
from ..gate.fairness import frozen
from ..model.task import Task, task_of
from ..prepare.prepare import prepare
from ..prepare.subsets import Splits, read_splits
from ..registry.versions import Version
from ..runs.folder import RunFolder, digest
from .plan import folder_of, new_labels, without
from .register import name_of, training_hashes, unfinished


@dataclass(frozen=True)
class Evaluated:
    """Rows of the dataset at ``url``, whose class map is ``classes`` where it tells. ``groups``: the number of each
    row's group, where whole groups were split. ``train``: the training side for a baseline, where it is there."""

    url: str
    test: Sequences
    classes: dict[str, int] | None
    unit: Unit
    remarks: tuple[str, ...] = ()
    groups: np.ndarray | None = None
    train: Sequences | None = None


@dataclass(frozen=True)
class _Own:
    """The prepared data that a version's run still holds."""

    url: str
    sides: Splits
    split: SplitSpec


def evaluated(version: Version, config: Config, spec: GateSpec) -> Evaluated:
    """What ``spec`` judges this version on. A frozen set that has the column of groups, such as donors, has them too.

    Raises:
        MissingInputError: its own test side is gone, or the frozen set is not there.
        InputError: the frozen set has labels or columns that do not fit.
    """
    task = task_of(version.record["task"])
    own = _own(version, task) if spec.dataset is None or spec.must_beat_baseline else None
    train = own.sides.train if own is not None and spec.must_beat_baseline else None
    if spec.dataset is not None:
        on = frozen_set(spec.dataset, task, version.classes, training_hashes(version).unit, config)
        groups = _groups(on.url, on.test, config.split)
        remarks = on.remarks
        if groups is None and config.split.strategy == "group":
            remarks += (_without_groups(spec, str(config.split.column)),)
        return replace(on, groups=groups, train=train, remarks=remarks)
    if own is None:
        raise MissingInputError(
            f"the data of {version.record['run']} are gone or were made again since, and with them the test side of "
            f"{version.name}; name a frozen evaluation set in gate.dataset"
        )
    test, groups = own.sides.test, _groups(own.url, own.sides.test, own.split)
    return Evaluated(own.url, test, version.classes, own.sides.unit, groups=groups, train=train)


def _groups(url: str, test: Sequences, split: SplitSpec) -> np.ndarray | None:
    if split.strategy != "group" or split.column is None:
        return None
    source = open_source(url)
    return column_classes(source, split.column)[1][test.rows] if split.column in source.features else None


def _without_groups(spec: GateSpec, column: str) -> str:
    """The remark on a frozen set without the column of groups; InputError where its intervals were to decide."""
    words = f"{spec.dataset} has no column '{column}', by whose groups the data are split"
    if spec.by == "interval":
        raise InputError(
            f"{words}, and gate.by is 'interval': intervals of its rows would be too narrow; add the column, or use "
            "gate.by: estimate"
        )
    return f"{words}: rows were resampled, so intervals may be too narrow"


def _own(version: Version, task: Task) -> _Own | None:
    """None where the run's data are gone, or no longer those of this version; the registry holds no copy of them."""
    folder = RunFolder(version.record["run"])
    marks = folder.stages()
    if unfinished(marks) or name_of(folder.url, marks) != version.name:
        return None
    config = check(folder.description()["config"], f"{folder.url}/run.json")
    data = folder.data(config.run.prefix)
    if not storage.exists(data.dataset):
        return None
    if (name := folder.damage(marks["prepare"])) is not None:
        raise StorageError(f"{folder.path(*name.split('/'))} is not what the run of {version.name} was made from")
    return _Own(data.dataset, read_splits(data.dataset, data.split, task), config.split)


def frozen_set(url: str, task: Task, classes: dict[str, int], unit: Unit, config: Config) -> Evaluated:
    """As it is where it has the ids of these classes; else labelled anew from its names."""
    if not storage.exists(url):
        raise MissingInputError(f"gate.dataset: there is no dataset at {url}")
    features = open_source(url).features
    names = _names(features.get(task.label_column))
    if names is not None and dict(zip(names, range(len(names)), strict=True)) == classes:
        return Evaluated(url, *frozen(url, task), unit)
    if names is None and _has_ids(features, task, config.labels.column):
        return Evaluated(url, *frozen(url, task), unit)
    labels = config.labels.model_copy(update={"mapping": classes})
    if labels.gene_class_dict is None and labels.column not in features:
        labels = labels.model_copy(update={"column": task.label_column})
    named = config.model_copy(update={"labels": labels, "data": DataSpec()})
    left_out = new_labels(named, url)
    labels = without(named, left_out).labels
    out = folder_of(config).path("gate", digest([url, labels.model_dump(mode="json")])[:8])
    made = prepare(url, DataSpec(), labels, out, "evaluation", replace=True)
    remarks = [f"{rows:,} rows with the unknown label {name!r} were left out" for name, rows in left_out.items()]
    return Evaluated(made.dataset_path, *frozen(made.dataset_path, task), unit, tuple(remarks))


def _names(feature: Any) -> list[str] | None:
    """Of a ClassLabel column."""
    inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
    names = inner.get("names") if isinstance(inner, dict) else None
    return list(names) if names else None


def _has_ids(features: dict[str, Any], task: Task, column: str | None) -> bool:
    """Whether labels are ids already: those of tokens always, those of rows where the column of names is not there."""
    feature = features.get(task.label_column)
    if not isinstance(feature, dict):
        return False
    if task.unit == "token":
        inner = feature.get("feature")
        ids = isinstance(inner, dict) and str(inner.get("dtype")).startswith(("int", "uint"))
        return ids and feature.get("_type") in ("List", "Sequence", "LargeList")
    return column not in features and str(feature.get("dtype")).startswith(("int", "uint"))
