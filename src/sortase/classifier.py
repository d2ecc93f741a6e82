"""``GenericClassifier``: the stages of a run behind one object, for notebooks and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config.compute import ComputeSpec
from .config.evaluate import EvaluateSpec
from .config.load import validate
from .config.prepare import DataSpec, LabelSpec
from .config.train import TrainSpec
from .errors import ConfigError
from .model.task import Task, task_of

if TYPE_CHECKING:
    pass

SEED = 42


def _say(text: str) -> None:
    import logging

    logging.getLogger("sortase").info(text)


class GenericClassifier:
    """Prepare data for, train, and evaluate a sequence or token classifier.

    Args:
        metadata_column: column with the original labels. In token mode it is carried along and stratifies the split.
        classifier_type: ``sequence`` (or ``cell``): one label a row; ``token`` (or ``gene``): one a token.
        gene_class_dict: class name -> gene identifiers; required in token mode.
        label_mapping: label -> id, with ids 0..n-1; by default names are numbered in sorted order.
        token_dictionary_file: vocabulary pickle (token -> id or id -> token); required in token mode.
        filter_data: column -> allowed value or values.
        rare_threshold: labels with a smaller fraction of the rows than this are dropped.
        max_examples: rows kept at most.
        max_examples_per_class: rows of a class kept at most.
        training_args: fields of ``transformers.TrainingArguments``, and the settings of ``train`` in run.yaml
            (``class_weights``, ``global_batch_size``, ``early_stopping_patience``, ...).
        ray_config: search space of a hyperparameter search.
        freeze_layers: first layers, with the embeddings, that do not learn.
        forward_batch_size: rows in a forward pass of evaluation and prediction.
        nproc: threads that prepare data; the result does not depend on it.
        seed: of everything random.
        replace: whether existing results made from other inputs may be replaced.
        compute: settings of ``compute`` in run.yaml (device, precision, ...).

    Raises:
        ConfigError, InputError: a setting is unknown, of the wrong type, or out of range.
    """

    def __init__(
        self,
        metadata_column: str,
        classifier_type: str = "sequence",
        gene_class_dict: dict | None = None,
        label_mapping: dict[str, int] | None = None,
        token_dictionary_file: str | None = None,
        filter_data: dict | None = None,
        rare_threshold: float = 0.0,
        max_examples: int | None = None,
        max_examples_per_class: int | None = None,
        training_args: dict | None = None,
        ray_config: dict | None = None,
        freeze_layers: int = 0,
        forward_batch_size: int = 48,
        nproc: int = 4,
        *,
        seed: int = SEED,
        replace: bool = False,
        compute: dict | None = None,
    ):
        self.task: Task = task_of(classifier_type)
        self.data: DataSpec = validate(
            DataSpec,
            {
                "filter": filter_data,
                "rare_threshold": rare_threshold,
                "max_examples": max_examples,
                "max_examples_per_class": max_examples_per_class,
                "nproc": nproc,
            },
            "GenericClassifier",
        )
        self.labels: LabelSpec = validate(
            LabelSpec,
            {
                "task": self.task.kind,
                "column": metadata_column,
                "mapping": label_mapping,
                "gene_class_dict": gene_class_dict,
                "vocabulary": token_dictionary_file,
            },
            "GenericClassifier",
        )
        self.training: TrainSpec = validate(TrainSpec, dict(training_args or {}), "training_args")
        self.evaluation: EvaluateSpec = validate(EvaluateSpec, {"batch_size": forward_batch_size}, "GenericClassifier")
        self.compute: ComputeSpec = validate(ComputeSpec, dict(compute or {}), "compute")
        if not isinstance(freeze_layers, int) or freeze_layers < 0:
            raise ConfigError(f"freeze_layers must be 0 or more, got {freeze_layers!r}")
        self.freeze_layers = freeze_layers
        self.ray_config = ray_config
        self.seed = seed
        self.replace = replace
