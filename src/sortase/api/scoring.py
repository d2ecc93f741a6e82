"""``GenericClassifier.evaluate``: a saved model, scored on a labelled dataset."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..arguments import naming
from ..config.compute import ComputeSpec
from ..config.evaluate import EvaluateSpec
from ..data import classmap
from ..data.sequences import Sequences, label_column, open_dataset
from ..errors import InputError
from ..model.device import model_on_device
from ..model.load import Trained, load_trained
from ..model.task import Task
from ..model.tokenizer import load_tokenizer
from ..pipeline.executor import Executor
from ..progress import announce
from ..score.evaluate import EvaluateJob, check_scorable, evaluate, flat
from ..score.made_model import check_model
from ..score.parts import RemoteScorer
from ..types import Log
from .shown import ShownMetrics

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Scoring:
    """A saved model and labelled data that fit each other."""

    model: str
    dataset: str | Dataset
    tokenizer: str | None
    trained: Trained
    test: Sequences


def plan_scoring(
    model: str, dataset: str | Dataset, class_map_file: str | None, task: Task, tokenizer: str | None
) -> Scoring:
    """Everything that can be refused is refused here: the classes must be the model's own, and all ids its."""
    if tokenizer is not None:
        with naming("tokenizer_name_or_path"):
            load_tokenizer(tokenizer)
    with naming("model_directory"):
        check_model(model)
        trained = load_trained(model, task, tokenizer)
    with naming("id_class_dict_file"):
        beside = None if class_map_file is None else classmap.read(class_map_file)
    with naming("eval_dataset_path"):
        inside, test = _own_classes(dataset, task), Sequences.open(dataset, task.label_column)
    named = dataset if isinstance(dataset, str) else "the dataset"
    for given, found in ((f"id_class_dict_file {class_map_file}", beside), (f"eval_dataset_path {named}", inside)):
        if found is not None and found != trained.class_map:
            raise InputError(
                f"{given} has the classes {sorted(found)}, the model in {model} {sorted(trained.class_map)}; "
                "they must be the same, with the same ids"
            )
    with naming("eval_dataset_path"):
        check_scorable(test, trained)
    return Scoring(model, dataset, tokenizer, trained, test)


def score_saved(
    planned: Scoring,
    output: str,
    *,
    settings: EvaluateSpec,
    compute: ComputeSpec,
    seed: int,
    log: Log,
    executor: Executor,
) -> dict[str, Any]:
    """Score a saved model on a labelled dataset."""
    remote, dataset = None, planned.dataset
    if executor.score_map is not None and isinstance(dataset, str):  # a dataset in memory is scored where it is
        for line in executor.check_paths({"model_directory": planned.model, "eval_dataset_path": dataset}, output):
            log(line)
        remote = RemoteScorer(
            map=executor.score_map, model=planned.model, dataset=dataset, compute=compute, tokenizer=planned.tokenizer
        )
    with model_on_device(planned.trained.model, None if remote else compute) as precision:
        job = EvaluateJob(
            trained=planned.trained,
            test=planned.test,
            train=None,
            split_unit="row",
            settings=settings,
            precision=precision,
            seed=seed,
        )
        evaluation = evaluate(job, output, log, remote)
    if evaluation["learnt_nothing"]:
        announce(evaluation["learnt_nothing"]["words"], logging.WARNING)
    return ShownMetrics(flat(evaluation), evaluation)


def _own_classes(dataset: str | Dataset, task: Task) -> dict[str, int] | None:
    opened = open_dataset(dataset)
    return classmap.of_dataset(opened, label_column(opened.column_names, task.label_column))
