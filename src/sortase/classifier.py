"""``GenericClassifier``: the stages of a run behind one object, for notebooks and scripts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .config.compute import ComputeSpec
from .config.evaluate import EvaluateSpec
from .config.load import validate
from .config.model import ModelSpec
from .config.prepare import DataSpec, LabelSpec, SplitSpec
from .config.train import TrainSpec, check_arguments
from .config.tune import TuneSpec
from .errors import ConfigError, InputTypeError
from .model.task import Task, task_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, Trainer

    from .pipeline.standalone import Standalone

SEED = 42


logger = logging.getLogger("sortase")


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
        ray_config: search space of ``train(n_trials=...)`` by training argument (or ``freeze_layers``): two numbers are
            a range, any other list choices, ``{"low", "high", "log", "step"}`` or ``{"choices"}`` say it explicitly;
            Ray Tune's own objects are taken as they are.
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
                "filter": filter_data or {},
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

    def prepare_data(self, input_data: str | Dataset, output_directory: str, output_prefix: str) -> tuple[str, str]:
        """Filter, label and save a dataset.

        Args:
            input_data: path or URL of a dataset saved with ``save_to_disk``, or a ``Dataset``; left as it is.
            output_directory: folder or URL for the results.
            output_prefix: starts their names.

        Returns:
            ``{output_prefix}_labeled.dataset`` and ``{output_prefix}_id_class_dict.pkl`` in the output directory.

        Raises:
            InputError: a column, value, label or gene is not there, or nothing is left; nothing is written then.
            ExistingOutputError: they exist already, made from other inputs, and ``replace`` is not set.
        """
        from .cluster.place import placed
        from .pipeline.prepare import prepare

        with placed(self.compute) as where:
            prepared = prepare(
                input_data,
                self.data,
                self.labels,
                output_directory,
                output_prefix,
                seed=self.seed,
                replace=self.replace,
                map=where.prepare_map,
            )
        logger.info("%s", prepared.table())
        return prepared.dataset_path, prepared.label_map_path

    def _load_tokenizer(self, name_or_path: str) -> PreTrainedTokenizerBase:
        """The tokenizer of a vocabulary pickle, a saved folder or URL, or a Hugging Face name."""
        from .model.tokenizer import load_tokenizer

        return load_tokenizer(name_or_path)

    def train(
        self,
        model_checkpoint: str,
        dataset_path: str,
        output_directory: str,
        eval_dataset: str | Dataset | None = None,
        n_trials: int = 0,
        test_size: float = 0.2,
        tokenizer_name_or_path: str | None = None,
        *,
        split: dict | None = None,
        model_config: dict | None = None,
    ) -> Trainer:
        """Train on a prepared dataset, save the model, then score it on rows that neither training nor the choice of
        the best checkpoint has seen.

        Args:
            model_checkpoint: pretrained model: folder, URL or Hugging Face name. A folder with a configuration but no
                weights is initialised afresh.
            dataset_path: what ``prepare_data`` returned.
            output_directory: folder or URL for the model, its tokenizer, checkpoints, ``predictions.parquet`` and
                ``.pkl``, ``evaluation.json`` and ``run.json``.
            eval_dataset: labelled dataset to score on; by default ``test_size`` of the rows.
            n_trials: trials of a search over ``ray_config`` with Ray Tune; the result is the model of the best one by
                ``training_args["metric"]`` on the validation side. Ray is started here where ``compute`` names none.
            test_size: fraction of the rows to score on.
            tokenizer_name_or_path: instead of the checkpoint's own.
            split: settings of ``split`` in run.yaml (``strategy``, ``column``, ``validation_size``, ...).
            model_config: changes to the model's configuration.

        Returns:
            The Trainer, whose ``.model`` is the trained model: the best one on a validation side of a tenth of the
            rows, unless ``training_args`` switch evaluation or ``keep_best`` off.
        """
        from .cluster.place import placed
        from .pipeline.standalone import train_and_score

        asked = self._asked(
            model_checkpoint,
            dataset_path,
            eval_dataset,
            n_trials,
            test_size,
            tokenizer_name_or_path,
            split,
            model_config,
        )
        with placed(self.compute, always=asked.tune is not None) as where:
            return train_and_score(asked, output_directory, logger.info, where)

    def _asked(
        self,
        model_checkpoint: str,
        dataset_path: str,
        eval_dataset: str | Dataset | None,
        n_trials: int,
        test_size: float,
        tokenizer: str | None,
        split: dict | None = None,
        model_config: dict | None = None,
    ) -> Standalone:
        """The training or search as one value, checked."""
        from .pipeline.standalone import Standalone

        if not isinstance(dataset_path, str):
            raise InputTypeError(f"dataset_path must be a path or URL, got {type(dataset_path).__name__}")
        check_arguments(self.training.arguments)
        return Standalone(
            task=self.task,
            dataset=dataset_path,
            eval_dataset=eval_dataset,
            stratify=self.labels.column,
            model=ModelSpec(
                checkpoint=model_checkpoint,
                config=model_config,
                tokenizer=tokenizer,
                freeze_layers=self.freeze_layers,
            ),
            split=validate(SplitSpec, {"test_size": test_size, **(split or {})}, "split"),
            training=self.training,
            evaluation=self.evaluation,
            compute=self.compute,
            vocabulary=self.labels.vocabulary,
            seed=self.seed,
            replace=self.replace,
            tune=self._search(n_trials),
        )

    def _search(self, n_trials: int) -> TuneSpec | None:
        if not isinstance(n_trials, int) or n_trials < 0:
            raise ConfigError(f"n_trials must be 0 or more, got {n_trials!r}")
        if n_trials == 0:
            return None
        if not self.ray_config:
            raise ConfigError(f"n_trials={n_trials} needs ray_config, the search space")
        from .config.tune_space import check_names

        check_names(self.ray_config)
        spec: TuneSpec = validate(TuneSpec, {"trials": n_trials, "space": self.ray_config}, "ray_config")
        return spec

    def _ray_tune(
        self,
        model_checkpoint: str,
        dataset_path: str,
        output_directory: str,
        eval_dataset_path: str | None,
        n_trials: int,
        test_size: float,
        tokenizer_name_or_path: str | None,
    ) -> Any:
        """Search hyperparameters over ``ray_config`` with Ray Tune and save the best trial's model.

        Args:
            model_checkpoint: as for `train`.
            dataset_path: what ``prepare_data`` returned.
            output_directory: folder or URL for the best model with its tokenizer, ``tune/leaderboard.csv``, the trials'
                folders and ``run.json``.
            eval_dataset_path: labelled dataset kept for `train`'s scoring; without it ``test_size`` of the rows is.
            n_trials: trials; finished ones of an earlier call with the same settings are not trained again.
            test_size: fraction of the rows that no trial sees.
            tokenizer_name_or_path: instead of the checkpoint's own.

        Returns:
            Ray's ``ExperimentAnalysis`` of all trials, compared by ``training_args["metric"]`` (macro F1 by default) on
            the validation side.
        """
        from .cluster.place import placed
        from .pipeline.standalone import search

        asked = self._asked(
            model_checkpoint, dataset_path, eval_dataset_path, n_trials, test_size, tokenizer_name_or_path
        )
        if asked.tune is None:
            raise ConfigError(f"a search needs n_trials of at least 1, got {n_trials}")
        with placed(self.compute, always=True) as where:
            return search(asked, asked.tune, output_directory, logger.info, where)

    def evaluate(
        self,
        model_directory: str,
        eval_dataset_path: str,
        id_class_dict_file: str,
        output_directory: str,
        tokenizer_name_or_path: str | None = None,
    ) -> dict[str, Any]:
        """Score a saved model on a labelled dataset.

        Args:
            model_directory: folder or URL of the model.
            eval_dataset_path: folder or URL of a dataset with labels, as ``prepare_data`` makes it.
            id_class_dict_file: the dataset's class map; it must be the model's.
            output_directory: where ``evaluation.json`` and the predictions go.
            tokenizer_name_or_path: instead of the model's own.

        Returns:
            ``eval_loss``, ``eval_accuracy``, ``eval_macro_f1`` and the other metrics; token metrics count labelled
            tokens only.
        """
        from .cluster.place import placed
        from .pipeline.standalone import score_saved

        with placed(self.compute) as where:
            return score_saved(
                model_directory,
                eval_dataset_path,
                id_class_dict_file,
                output_directory,
                task=self.task,
                settings=self.evaluation,
                compute=self.compute,
                seed=self.seed,
                tokenizer=tokenizer_name_or_path,
                say=logger.info,
                where=where,
            )

    def plot_confusion_matrix(
        self, conf_mat: Any, output_directory: str, output_prefix: str, class_order: list[str]
    ) -> None:
        """Draw a confusion matrix as ``{output_prefix}_confusion_matrix.png`` and ``.svg``.

        Args:
            conf_mat: counts, true classes in rows: an array in the order of ``class_order``, a DataFrame, or a nested
                dict ``{true: {predicted: count}}``.
            output_directory: folder or URL.
            output_prefix: starts the files' names.
            class_order: classes to show, in this order; a subset is fine, an unknown name is an error.
        """
        from .report.plots import plot_confusion_matrix

        plot_confusion_matrix(conf_mat, output_directory, output_prefix, class_order)

    def plot_predictions(
        self,
        predictions_file: str,
        id_class_dict_file: str,
        title: str,
        output_directory: str,
        output_prefix: str,
        class_order: list[str],
    ) -> None:
        """Draw how confidently each class was predicted as ``{output_prefix}_predictions.png`` and ``.svg``.

        Args:
            predictions_file: ``predictions.pkl`` or ``predictions.parquet`` of an evaluation.
            id_class_dict_file: the class map.
            title: of the figure.
            output_directory: folder or URL.
            output_prefix: starts the files' names.
            class_order: classes to show, in this order.
        """
        from .report.plots import plot_predictions

        plot_predictions(predictions_file, id_class_dict_file, title, output_directory, output_prefix, class_order)
