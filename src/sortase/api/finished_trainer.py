"""What a training returns: a Trainer that predicts, evaluates and saves, and trains no more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_utils import PredictionOutput, speed_metrics

from .. import storage
from ..data.checks import check_labels, check_tokens
from ..data.sequences import Sequences, label_column, open_dataset
from ..errors import ConfigError, InputError, InputTypeError
from ..model.inference import stream
from ..model.load import Trained, without_library_bars
from ..model.metrics.metrics import Metrics
from ..model.scores import Scores
from ..model.task import PadToken
from ..storage.scratch import Scratch
from ..train.job import save
from ..train.kernel import own_random_state
from .shown import metrics_html

_LOGGED = ("log", "evaluate")
_APART = ("time", "stage", "event")


class FinishedTrainer(Trainer):
    """A trained model with what ``transformers.Trainer`` offers after training.

    ``predict`` and ``evaluate`` take a ``datasets.Dataset`` (also a selection of one), a path or URL of one, or a list
    of features; columns that they do not need are ignored. Rows are scored in batches of ``batch_size``.
    ``evaluation`` is the content of evaluation.json, for a notebook to show.
    """

    def __init__(
        self,
        trained: Trained,
        arguments: TrainingArguments,
        *,
        output: str,
        batch_size: int,
        precision: str,
        train_dataset: Any,
        eval_dataset: Any,
        evaluation: Mapping[str, Any] | None = None,
    ):
        if storage.is_remote(output):  # transformers writes here what it is asked to, and makes the folder
            self._scratch = Scratch("trainer")
            arguments.output_dir = str(self._scratch.path)
        else:
            arguments.output_dir = str(storage.local_path(output))
        arguments.report_to = []
        with own_random_state(arguments.seed):
            super().__init__(
                model=trained.model,
                args=arguments,
                data_collator=trained.task.collator(trained.tokenizer or PadToken(trained.pad_id), trained.max_length),
                train_dataset=train_dataset,
                eval_dataset=eval_dataset,
                processing_class=trained.tokenizer,
            )
        self.remove_callback(PrinterCallback)
        self._trained, self._output, self._batch_size, self._precision = trained, output, batch_size, precision
        self._evaluation = evaluation

    def _repr_html_(self) -> str:
        """What a notebook shows: where the model lies, and how good it is on the test side."""
        size = f"{sum(each.numel() for each in self._trained.model.parameters()):,}"
        where = f"<p>A trained model of {size} parameters and {len(self._trained.classes)} classes in "
        found = metrics_html(self._evaluation) if self._evaluation else "<p>No row was held out to score it on.</p>"
        return f"{where}<code>{escape(self._output)}</code>.</p>{found}"

    def predict(self, test_dataset: Any, ignore_keys: Any = None, metric_key_prefix: str = "test") -> PredictionOutput:
        """Logits and labels in the order of the rows.

        Returns:
            ``predictions`` float32 ``[rows, classes]``, or ``[rows, longest, classes]`` for tokens; ``label_ids`` int64
            of the same shape without the last axis, None where the dataset has no labels; ``metrics`` by name, those of
            the labels among them. Where a row has no token, or its own padding, there is -100 in both.
        """
        started = time.time()
        sequences = self._sequences(test_dataset)
        metrics, parts = Metrics(self._trained.classes, bootstrap=0), []
        for scores in self._scores(sequences):
            metrics.update(scores)
            parts.append((scores.logits, scores.labels))
        logits, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if self._trained.task.unit == "token":
            shown = sequences.shown(np.arange(len(sequences)), self._trained.max_length)
            logits, labels = _padded(logits, shown), _padded(labels, shown)
        found = self._named(metrics, len(sequences), started, metric_key_prefix)
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, found)
        return PredictionOutput(logits, labels if sequences.labelled else None, found)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Metrics on a labelled dataset, or on each of a dict of them; by default on ``eval_dataset``, the rows that
        the best checkpoint was chosen on (where there are none, those that were held out)."""
        chosen = self.eval_dataset if eval_dataset is None else eval_dataset
        if chosen is None:
            raise ConfigError("no row was held out; give evaluate() a labelled dataset")
        if isinstance(chosen, Mapping) and not isinstance(chosen, DatasetDict):
            each = [self.evaluate(part, ignore_keys, f"{metric_key_prefix}_{name}") for name, part in chosen.items()]
            return {name: value for found in each for name, value in found.items()}
        started = time.time()
        sequences = self._sequences(chosen)
        if not sequences.labelled or not len(sequences):
            raise InputError(
                f"the dataset to evaluate has {len(sequences)} rows and "
                f"{'labels' if sequences.labelled else 'no labels'}; predict() needs none"
            )
        metrics = Metrics(self._trained.classes, bootstrap=0)
        for scores in self._scores(sequences):
            metrics.update(scores)
        found = self._named(metrics, len(sequences), started, metric_key_prefix)
        self.log(found)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save model and tokenizer in a folder or URL, by default where the training did."""
        with without_library_bars():
            save(self._trained, self._output if output_dir is None else str(output_dir))

    def train(self, *arguments: Any, **settings: Any) -> NoReturn:
        raise ConfigError(
            "this Trainer has finished its training; call GenericClassifier.train again, with model_checkpoint="
            f"{self._output!r} and another output_directory to go on from its model, or with replace=True to train anew"
        )

    def hyperparameter_search(self, *arguments: Any, **settings: Any) -> NoReturn:
        raise ConfigError("a search is GenericClassifier.train(..., n_trials=...) with ray_config, its space")

    def _sequences(self, data: Any) -> Sequences:
        if isinstance(data, Sequences):
            return data
        sequences = Sequences.open(*self._opened(data))
        check_tokens(sequences, self._trained.model.config.vocab_size)
        if sequences.labelled:
            check_labels(sequences, len(self._trained.class_map))
        return sequences

    def _opened(self, data: Any) -> tuple[Any, str | None]:
        """The dataset, and the name of its labels; for sequences also the one that transformers gives them."""
        if isinstance(data, DatasetDict | IterableDatasetDict):
            raise InputTypeError(f"expected one dataset, got a dict of splits {sorted(data)}; give one of them")
        if isinstance(data, IterableDataset):
            raise InputTypeError("an IterableDataset has no rows to count; give a datasets.Dataset")
        if isinstance(data, Path):
            data = str(data)
        if isinstance(data, str):
            data = open_dataset(data)
        elif isinstance(data, Sequence) and data and all(isinstance(row, Mapping) for row in data):
            data = Dataset.from_list([dict(row) for row in data])
        if not isinstance(data, Dataset):
            raise InputTypeError(f"expected a datasets.Dataset, its path, or a list of rows, got {type(data).__name__}")
        column = label_column(data.column_names, self._trained.task.label_column)
        return data, column if column in data.column_names else None

    def _scores(self, sequences: Sequences) -> Iterator[Scores]:
        return stream(self._trained, sequences, batch_size=self._batch_size, precision=self._precision)

    def _named(self, metrics: Metrics, rows: int, started: float, prefix: str) -> dict[str, float]:
        values = metrics.result()["metrics"] if metrics.units else {}
        steps = -(-rows // self._batch_size)
        named = {f"{prefix}_{name}": value for name, value in values.items() if value is not None}
        return named | speed_metrics(prefix, started, num_samples=rows, num_steps=steps)


def _padded(values: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Values of all tokens, row by row, as ``[rows, longest, ...]`` where ``shown`` is true, and -100 elsewhere."""
    padded = np.full((*shown.shape, *values.shape[1:]), -100, dtype=values.dtype)
    padded[shown] = values
    return padded


def restore(trainer: FinishedTrainer, timeline: list[dict[str, Any]], summary: Mapping[str, Any]) -> None:
    """Give the Trainer the state of the training: its log, steps, and best checkpoint, wherever it ran."""
    state = trainer.state
    state.log_history = [
        {name: value for name, value in line.items() if name not in _APART}
        for line in timeline
        if line["stage"] == "train" and line["event"] in _LOGGED
    ]
    state.global_step = state.max_steps = summary.get("steps") or 0
    state.epoch = float(summary.get("epochs") or 0.0)
    state.best_global_step = summary.get("best_step")
    metric = f"eval_{trainer.args.metric_for_best_model}"
    at_best = [
        entry[metric] for entry in state.log_history if entry.get("step") == state.best_global_step and metric in entry
    ]
    state.best_metric = at_best[-1] if at_best else None
