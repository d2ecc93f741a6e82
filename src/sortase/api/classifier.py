"""``GenericClassifier``: the stages of a run behind one object, for notebooks and scripts."""

from __future__ import annotations

import logging
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import arguments as check
from ..config.argument_translation import taken_out
from ..config.check import validate
from ..config.compute import ComputeSpec
from ..config.evaluate import EvaluateSpec
from ..config.former_names import accepts_former_names
from ..config.model import ModelSpec
from ..config.prepare import DataSpec, LabelSpec, SplitSpec
from ..config.presets import OF_VERSION, PRESETS
from ..config.storage import StorageSpec
from ..config.tracking import TrackingSpec
from ..config.train import TrainSpec, check_arguments
from ..config.tune import TuneSpec
from ..data import classmap
from ..errors import ConfigError
from ..model.task import Task, task_of
from ..progress import announce
from ..storage import configure

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase, Trainer

    from .planned import TrainingCall

SEED = 42
BATCH_SIZE = 48

logger = logging.getLogger("sortase")


def _taken_out(
    training_args: dict | None, seed: int | None, forward_batch_size: int, compute: dict | None, tracking: dict | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Training arguments, and apart from them those that are settings of something else."""
    places = {f"compute.{key}": (compute or {}).get(key) for key in ("precision", "device", "deepspeed")}
    places |= {
        "tracking.to": (tracking or {}).get("to"),
        "run.seed": seed,
        "evaluate.batch_size": None if forward_batch_size == BATCH_SIZE else forward_batch_size,
    }
    try:
        return taken_out(training_args or {}, places, python=True)
    except ValueError as error:
        raise ConfigError(f"training_args: {error}") from error


def _say(line: str) -> None:
    """One line of a training, in the words of Python."""
    announce(check.as_called(line))


class GenericClassifier:
    """Prepare data for, train, and evaluate a sequence or token classifier.

    Args:
        metadata_column: column with the original labels. In token mode without ``gene_class_dict``: a column of lists,
            with a label (name or id; None or -100 for none) for each token; beside ``gene_class_dict`` it is carried
            along and stratifies the split, and may be None.
        classifier_type: ``sequence`` (or ``cell``): one label a row; ``token`` (or ``gene``): one a token.
        gene_class_dict: token mode: class name -> gene identifiers (a list, set, array or column of a table).
        label_mapping: label -> id, with ids 0..n-1; by default names are numbered in sorted order.
        token_dictionary_file: vocabulary pickle (token -> id or id -> token); ``gene_class_dict`` needs it.
        filter_data: column -> allowed value or values.
        rare_threshold: labels with a smaller fraction of the rows than this are dropped.
        max_examples: rows kept at most.
        max_examples_per_class: rows of a class kept at most.
        training_args: fields of ``transformers.TrainingArguments``, also as older versions called them, and the
            settings of ``train`` in run.yaml (``class_weights``, ``global_batch_size``, ``early_stopping_patience``,
            ...). docs/training-arguments.md says what becomes of each.
        ray_config: search space of ``train(n_trials=...)`` by training argument (or ``freeze_layers``): two numbers are
            a range, any other list choices, ``{"low", "high", "log", "step"}`` or ``{"choices"}`` say it explicitly;
            Ray Tune's own objects are taken as they are.
        freeze_layers: first layers, with the embeddings, that do not learn.
        forward_batch_size: rows in a forward pass of evaluation and prediction.
        nproc: threads that prepare data; the result does not depend on it.
        seed: of everything random; 42 where ``training_args`` have none.
        replace: whether existing results made from other inputs may be replaced.
        compute: settings of ``compute`` in run.yaml (device, precision, ...).
        model_version: ``V1`` or ``V2`` of Geneformer, as its own classes take it: the token dictionary follows from it,
            from ``model_files``, the checkpoint's folder or the installed package ``geneformer``.
        model_files: folder or URL that holds Geneformer's dictionaries.
        overlap: what becomes of genes that ``gene_class_dict`` has in several classes: ``error``, ``drop`` (no label),
            ``first`` or ``last`` (the class that is written first, or last).
        tracking: settings of ``tracking`` in run.yaml (``to``, ``project``, ...); ``training_args["report_to"]`` is
            ``to``.
        storage: settings of ``storage`` in run.yaml (``endpoint``, ``region``, ...), for this process from then on.

    Raises:
        ConfigError, InputError: a setting is unknown, of the wrong type, or out of range.
    """

    @check.public(
        metadata_column=check.optional(check.word),
        classifier_type=check.choice("sequence", "cell", "token", "gene"),
        gene_class_dict=check.optional(check.classes_or_path),
        label_mapping=check.optional(check.mapping),
        token_dictionary_file=check.optional(check.path),
        filter_data=check.optional(check.filters),
        rare_threshold=check.fraction(),
        max_examples=check.optional(check.count(1, check.CAP)),
        max_examples_per_class=check.optional(check.count(1, check.CAP)),
        training_args=check.optional(check.settings),
        ray_config=check.optional(check.settings),
        freeze_layers=check.count(),
        forward_batch_size=check.count(1),
        nproc=check.count(1),
        seed=check.optional(check.count(0, check.SEED)),
        replace=check.flag,
        compute=check.optional(check.settings),
        overlap=check.overlap,
        model_version=check.optional(check.choice(*OF_VERSION)),
        model_files=check.optional(check.path),
        tracking=check.optional(check.settings),
        storage=check.optional(check.settings),
    )
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
        forward_batch_size: int = BATCH_SIZE,
        nproc: int = 4,
        *,
        seed: int | None = None,
        replace: bool = False,
        compute: dict | None = None,
        overlap: str = "error",
        model_version: str | None = None,
        model_files: str | None = None,
        tracking: dict | None = None,
        storage: dict | None = None,
    ):
        self.task: Task = task_of(classifier_type)
        if metadata_column is None and self.task.unit == "row":
            raise ConfigError("metadata_column must be the name of the column that holds the labels, got None")
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
            {"filter": "filter_data"},
        )
        self.preset = PRESETS[OF_VERSION[model_version]] if model_version is not None else None
        self.model_files = model_files
        if token_dictionary_file is None and self.preset is not None:
            token_dictionary_file = self._dictionary(None, needed=gene_class_dict is not None)
        with check.naming("label_mapping"):
            ids = None if label_mapping is None else classmap.check(label_mapping)
        self.labels: LabelSpec = validate(
            LabelSpec,
            {
                "task": self.task.kind,
                "column": metadata_column,
                "mapping": ids,
                "gene_class_dict": gene_class_dict,
                "overlap": overlap,
                "vocabulary": token_dictionary_file,
            },
            "GenericClassifier",
            {"column": "metadata_column", "mapping": "label_mapping", "vocabulary": "token_dictionary_file"},
        )
        arguments, found = _taken_out(training_args, seed, forward_batch_size, compute, tracking)
        self.training: TrainSpec = validate(TrainSpec, arguments, "training_args", python=True)
        self.evaluation: EvaluateSpec = validate(
            EvaluateSpec,
            {"batch_size": found.get("evaluate.batch_size", forward_batch_size)},
            "GenericClassifier",
            {"batch_size": "forward_batch_size"},
        )
        of_compute = {place.removeprefix("compute."): value for place, value in found.items() if "compute." in place}
        compute = {**(compute or {}), **of_compute}
        if isinstance(compute.get("deepspeed"), str):
            compute["deepspeed"] = check.path("compute.deepspeed", compute["deepspeed"])
        self.compute: ComputeSpec = validate(ComputeSpec, compute, "compute")
        told = {"to": found["tracking.to"]} if "tracking.to" in found else {}
        self.tracking: TrackingSpec = validate(TrackingSpec, {**(tracking or {}), **told}, "tracking")
        if storage is not None:
            configure(validate(StorageSpec, storage, "storage"))
        self.freeze_layers = freeze_layers
        self.ray_config = ray_config
        if ray_config:
            self._search(1)
        self.seed: int = found.get("run.seed", SEED if seed is None else seed)
        self.replace = replace

    def _dictionary(self, checkpoint: str | None, needed: bool = False) -> str | None:
        """The token dictionary of ``model_version``, from files that are here."""
        from ..prepare.presets import check_checkpoint, find_vocabulary, missing, places_of

        if self.preset is None:
            return None
        check_checkpoint(self.preset, checkpoint)
        places = places_of(self.model_files, checkpoint)
        found = find_vocabulary(self.preset, places)
        if found is None and needed:
            raise missing(self.preset.vocabulary_files, places)
        return found

    @accepts_former_names(input_data_file="input_data")
    @check.public(input_data=check.dataset_or_path, output_directory=check.folder, output_prefix=check.prefix)
    def prepare_data(self, input_data: str | Dataset, output_directory: str, output_prefix: str) -> tuple[str, str]:
        """Filter, label and save a dataset.

        Args:
            input_data: path or URL of a dataset saved with ``save_to_disk``, or a ``Dataset``; left as it is. It may
                also be called ``input_data_file``.
            output_directory: folder or URL for the results.
            output_prefix: starts their names.

        Returns:
            ``{output_prefix}_labeled.dataset`` and ``{output_prefix}_id_class_dict.pkl`` in the output directory.

        Raises:
            InputError: a column, value, label or gene is not there, or nothing is left; nothing is written then.
            ExistingOutputError: they exist already, made from other inputs, and ``replace`` is not set.
        """
        from ..cluster.executor import executor_for
        from ..data.source import open_source
        from ..prepare.prepare import prepare

        with check.naming("input_data"):
            open_source(input_data)
        with executor_for(self.compute) as executor:
            if executor.prepare_map is not None and isinstance(input_data, str):
                for line in executor.check_paths({"input_data": input_data}, output_directory):
                    _say(line)
            prepared = prepare(
                input_data,
                self.data,
                self.labels,
                output_directory,
                output_prefix,
                seed=self.seed,
                replace=self.replace,
                map=executor.prepare_map,
            )
        logger.info("%s", prepared.table())
        for remark in prepared.remarks:
            warnings.warn(remark, stacklevel=4)
        return prepared.dataset_path, prepared.label_map_path

    @check.public(name_or_path=check.path)
    def _load_tokenizer(self, name_or_path: str) -> PreTrainedTokenizerBase:
        """The tokenizer of a vocabulary pickle, a saved folder or URL, or a Hugging Face name."""
        from ..model.tokenizer import load_tokenizer

        with check.naming("name_or_path"):
            return load_tokenizer(name_or_path)

    @accepts_former_names(eval_dataset_path="eval_dataset")
    @check.public(
        model_checkpoint=check.optional(check.model),
        dataset_path=check.existing,
        output_directory=check.folder,
        eval_dataset=check.optional(check.dataset_or_path),
        n_trials=check.count(),
        test_size=check.fraction(below=True),
        tokenizer_name_or_path=check.optional(check.model),
        split=check.optional(check.settings),
        model_config=check.optional(check.plain_settings),
        report=check.flag,
    )
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
        report: bool = False,
    ) -> Trainer:
        """Train on a prepared dataset, save the model, then score it on rows that neither training nor the choice of
        the best checkpoint has seen.

        Args:
            model_checkpoint: pretrained model: folder, URL or Hugging Face name. A folder with a configuration but no
                weights is initialised afresh.
            dataset_path: what ``prepare_data`` returned, or a dataset labelled elsewhere: with ids 0..n-1 or a
                ClassLabel in ``label`` (or ``labels``), for tokens lists of these in ``labels``. The classes are those
                of the ClassLabel, else ``label_mapping``, else the ids' digits.
            output_directory: folder or URL for the model, its tokenizer, checkpoints, ``predictions.parquet`` and
                ``.pkl``, ``evaluation.json`` and ``run.json``.
            eval_dataset: labelled dataset to score on; by default ``test_size`` of the rows. It may also be called
                ``eval_dataset_path``.
            n_trials: trials of a search over ``ray_config`` with Ray Tune; the result is the model of the best one by
                ``training_args["metric"]`` on the validation side. Ray is started here where ``compute`` names none.
            test_size: fraction of the rows to score on.
            tokenizer_name_or_path: instead of the checkpoint's own.
            split: settings of ``split`` in run.yaml (``strategy``, ``column``, ``validation_size``, ...).
            model_config: changes to the model's configuration.
            report: also write ``report.html``, its ``figures/`` and the model card ``README.md``.

        Returns:
            The Trainer, whose ``.model`` is the trained model: the best one on a validation side of a tenth of the
            rows, unless ``training_args`` switch evaluation or ``keep_best`` off.

        Raises:
            ConfigError: settings contradict each other, or a search has no ``ray_config``.
            MissingInputError: a path leads to nothing.
            InputError: model and dataset do not fit: tokens, classes, damaged weights.
            ExistingOutputError: the folder holds results of other inputs, and ``replace`` is not set.
            InfrastructureError: memory, storage or the cluster do not suffice.
            WorkFailedError: the loss is not finite.
            CancelledError: `sortase cancel` asked it to stop; a checkpoint is kept, and the same call goes on from it.
            FencedError: a later training in the same folder has taken it over.
        """
        from ..cluster.executor import executor_for
        from .training import train_and_score

        asked = self._asked(
            model_checkpoint,
            dataset_path,
            eval_dataset,
            n_trials,
            test_size,
            tokenizer_name_or_path,
            split,
            model_config,
            report=report,
        )
        executors = partial(executor_for, self.compute, always=asked.tune is not None)
        return train_and_score(asked, output_directory, _say, executors)

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
        report: bool = False,
    ) -> TrainingCall:
        """The training or search as one value, checked."""
        from .planned import TrainingCall

        if model_checkpoint is None and model_config is None:
            raise ConfigError("model_checkpoint must be a path, URL or name, got None; without one give model_config")
        check_arguments(self.training.arguments)
        return TrainingCall(
            task=self.task,
            dataset=dataset_path,
            eval_dataset=eval_dataset,
            stratify=self.labels.column,
            model=validate(
                ModelSpec,
                {
                    "checkpoint": model_checkpoint,
                    "config": model_config,
                    "tokenizer": tokenizer,
                    "freeze_layers": self.freeze_layers,
                },
                "train",
            ),
            split=validate(SplitSpec, {"test_size": test_size, **(split or {})}, "split"),
            training=self.training,
            evaluation=self.evaluation,
            compute=self.compute,
            vocabulary=self.labels.vocabulary,
            mapping=self.labels.mapping,
            seed=self.seed,
            replace=self.replace,
            tune=self._search(n_trials),
            tracking=self.tracking,
            report=report,
        )

    def _search(self, n_trials: int) -> TuneSpec | None:
        if n_trials == 0:
            return None
        if not self.ray_config:
            raise ConfigError(f"n_trials={n_trials} needs ray_config, the search space")
        spec: TuneSpec = validate(TuneSpec, {"trials": n_trials, "space": self.ray_config}, "ray_config", python=True)
        return spec

    @check.public(
        model_checkpoint=check.model,
        dataset_path=check.existing,
        output_directory=check.folder,
        eval_dataset_path=check.optional(check.dataset_or_path),
        n_trials=check.count(1),
        test_size=check.fraction(below=True),
        tokenizer_name_or_path=check.optional(check.model),
    )
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

        Raises:
            ConfigError: ``ray_config`` is missing, or a range or name in it is not allowed.
            WorkFailedError: every trial failed.
        """
        from ..cluster.executor import executor_for
        from .training import search

        asked = self._asked(
            model_checkpoint, dataset_path, eval_dataset_path, n_trials, test_size, tokenizer_name_or_path
        )
        with check.naming("eval_dataset_path", instead_of="eval_dataset"):
            return search(asked, output_directory, logger.info, partial(executor_for, self.compute, always=True))

    @check.public(
        model_directory=check.model,
        eval_dataset_path=check.dataset_or_path,
        id_class_dict_file=check.optional(check.existing),
        output_directory=check.folder,
        tokenizer_name_or_path=check.optional(check.model),
    )
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
            id_class_dict_file: the dataset's class map; it must be the model's. None: its ids are the model's.
            output_directory: where ``evaluation.json`` and the predictions go.
            tokenizer_name_or_path: instead of the model's own.

        Returns:
            ``eval_loss``, ``eval_accuracy``, ``eval_macro_f1`` and the other metrics; token metrics count labelled
            tokens only.

        Raises:
            MissingInputError: a path leads to nothing.
            InputError: model, dataset and class map do not fit each other, or nothing is labelled.
        """
        from ..cluster.executor import executor_for
        from .scoring import plan_scoring, score_saved

        planned = plan_scoring(
            model_directory, eval_dataset_path, id_class_dict_file, self.task, tokenizer_name_or_path
        )
        with executor_for(self.compute) as executor:
            return score_saved(
                planned,
                output_directory,
                settings=self.evaluation,
                compute=self.compute,
                seed=self.seed,
                log=logger.info,
                executor=executor,
            )

    @check.public(
        conf_mat=check.anything,
        output_directory=check.folder,
        output_prefix=check.prefix,
        class_order=check.optional(check.names),
    )
    def plot_confusion_matrix(
        self, conf_mat: Any, output_directory: str, output_prefix: str, class_order: list[str] | None
    ) -> None:
        """Draw a confusion matrix as ``{output_prefix}_confusion_matrix.png`` and ``.svg``.

        Args:
            conf_mat: counts, true classes in rows: an array or tensor in the order of ``class_order``, a DataFrame, a
                nested dict ``{true: {predicted: count}}``, or an ``evaluation.json`` or its path. ``{"conf_mat":
                matrix}`` is that matrix. ``{name of a model: matrix}`` draws each model; where there are several, the
                name follows the prefix: ``{output_prefix}_{name}_confusion_matrix``.
            output_directory: folder or URL.
            output_prefix: starts the files' names.
            class_order: classes to show, in this order; a subset is fine, an unknown name is an error. None: all that
                the matrix names.

        Raises:
            InputError: the matrix is not square, or ``class_order`` names an unknown class.
        """
        from .plots import plot_confusion_matrix

        plot_confusion_matrix(conf_mat, output_directory, output_prefix, class_order)

    @check.public(
        predictions_file=check.existing,
        id_class_dict_file=check.existing,
        title=check.text,
        output_directory=check.folder,
        output_prefix=check.prefix,
        class_order=check.optional(check.names),
    )
    def plot_predictions(
        self,
        predictions_file: str,
        id_class_dict_file: str,
        title: str,
        output_directory: str,
        output_prefix: str,
        class_order: list[str] | None,
    ) -> None:
        """Draw how confidently each class was predicted as ``{output_prefix}_predictions.png`` and ``.svg``; where the
        file holds classes only, their confusion matrix.

        Args:
            predictions_file: ``predictions.pkl`` or ``predictions.parquet`` of an evaluation; or a pickle of
                ``{"y_true", "y_pred"}`` (ids or names, as stFormer's notebook makes it), of ``{"label_ids",
                "predictions"}`` (ids and logits, Geneformer), or of what ``Trainer.predict`` returned.
            id_class_dict_file: the class map, name to id or id to name.
            title: of the figure.
            output_directory: folder or URL.
            output_prefix: starts the files' names.
            class_order: classes to show, in this order; None: all.

        Raises:
            InputError: the file holds something else, or ``class_order`` names an unknown class.
            UnsafePickleError: the pickle asks for more than plain data.
        """
        from .plots import plot_predictions

        plot_predictions(predictions_file, id_class_dict_file, title, output_directory, output_prefix, class_order)
