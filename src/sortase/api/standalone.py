"""Training and scoring without a run.yaml: the same stages, with the model in the output folder itself."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from .. import storage
from ..arguments import naming
from ..config.compute import ComputeSpec
from ..config.evaluate import EvaluateSpec
from ..config.model import ModelSpec
from ..config.prepare import SplitSpec
from ..config.train import TrainSpec
from ..config.tune import TuneSpec
from ..data import classmap
from ..data.labelled import class_map
from ..data.selection.tags import holds_tags
from ..data.sequences import Sequences, label_column, open_dataset
from ..data.source import open_source
from ..data.split.split import Split, make_split
from ..errors import ConfigError, InputError
from ..model.device import model_on_device, place_model
from ..model.load import Trained, load_trained
from ..model.task import Task
from ..model.tokenizer import load_tokenizer
from ..pipeline.executor import Executor
from ..prepare.subsets import Splits, Unit, divide
from ..progress import announce
from ..runs import layout
from ..runs.events import Events, read_events
from ..runs.folder import RunFolder, contents, versions
from ..runs.untouched import untouched_by_refusal
from ..score.collapse import Training
from ..score.evaluate import EvaluateJob, check_scorable, closing_lines, evaluate, flat
from ..score.made_model import check_model
from ..score.parts import RemoteScorer
from ..train.job import (
    Ready,
    TrainJob,
    check_sweep,
    checkpoints_fit,
    claim_checkpoints,
    finished_arguments,
    ready,
    train,
)
from ..train.leaderboard import claim_sweep, sweep_fits
from ..train.request import TrainRequest
from ..train.trials import trial_seed, trial_settings
from ..types import Log

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer


@dataclass(frozen=True, kw_only=True)
class TrainingCall:
    """What ``GenericClassifier.train`` was asked for."""

    task: Task
    dataset: str
    eval_dataset: str | Dataset | None
    stratify: str | None
    model: ModelSpec
    split: SplitSpec
    training: TrainSpec
    evaluation: EvaluateSpec
    compute: ComputeSpec
    vocabulary: str | None
    seed: int
    replace: bool
    mapping: dict[str, int] | None = None
    tune: TuneSpec | None = None

    @property
    def paths(self) -> dict[str, str]:
        """What processes elsewhere read, by the names of the arguments."""
        named = {
            "dataset_path": self.dataset,
            "eval_dataset": self.eval_dataset if isinstance(self.eval_dataset, str) else None,
            "model_checkpoint": self.model.checkpoint,
            "tokenizer_name_or_path": self.model.tokenizer,
            "token_dictionary_file": self.vocabulary,
        }
        local = {name: path for name, path in named.items() if path is not None and not storage.is_remote(path)}
        return {name: path for name, path in local.items() if storage.exists(path)}

    @property
    def fitting(self) -> str:
        """The stage that makes the model."""
        return "train" if self.tune is None else "tune"


@dataclass(frozen=True)
class Planned:
    """A training that nothing speaks against, and its folder, in which nothing is written yet.

    ``ready``: its model, where this process trains it.
    """

    asked: TrainingCall
    folder: RunFolder
    made: Split
    sides: Splits
    job: TrainJob
    inputs: dict[str, Any]
    done: bool
    ready: Ready | None

    @cached_property
    def events(self) -> Events:
        return Events(self.folder)


def train_and_score(begun: Planned, log: Log, executor: Executor) -> Trainer:
    """Train, then score; finished work with the same inputs is taken up, not done again."""
    with untouched_by_refusal(begun.folder):
        return _train_and_score(begun, log, executor)


def _train_and_score(begun: Planned, log: Log, executor: Executor) -> Trainer:
    asked, output = begun.asked, begun.folder.url
    for line in executor.check_paths(asked.paths, output):
        log(line)
    _begin(begun)
    if begun.done:
        log(f"{asked.fitting}: finished earlier with the same inputs, skipped")
        trained = load_trained(output, asked.task)
    elif asked.tune is not None:
        _search(begun, log, executor)
        trained = load_trained(output, asked.task)
    else:
        trained = _train(begun, log, executor)
    _score(begun, trained, log, executor)
    _announce(begun.folder.read(layout.EVALUATION) if len(begun.sides.test) else None)
    return _finished(begun, trained)


def _announce(evaluation: dict[str, Any] | None) -> None:
    """End with how good the model is, also for somebody who has set up no logging."""
    if evaluation is None:
        announce("How good the model is is not known: no row was held out to score it on.", logging.WARNING)
        return
    verdict, *nothing = closing_lines(evaluation)
    low, _ = (evaluation["baseline"] or {}).get("difference") or (0, 0)
    announce(verdict, logging.INFO if low > 0 else logging.WARNING)
    for line in nothing:
        announce(line, logging.WARNING)


def search(begun: Planned, log: Log, executor: Executor) -> Any:
    """Search: the best trial's model is saved. Returns Ray's ``ExperimentAnalysis``.

    Called again with the same inputs it trains nothing again, and returns what the trials gave.
    """
    with untouched_by_refusal(begun.folder):
        for line in executor.check_paths(begun.asked.paths, begun.folder.url):
            log(line)
        _begin(begun)
        analysis = _search(begun, log, executor)
    best = begun.folder.description()["tuning"]
    announce(
        f"The best of {best['trials']} trials is {best['best']}: {best['metric']} {best['value']:.3f} on the "
        "validation side. The test side is not scored yet."
    )
    return analysis


def plan(asked: TrainingCall, output: str) -> Planned:
    """Everything that can be refused is refused here, before anything is written or started."""
    folder = RunFolder(output, model_name="")
    with naming("dataset_path"):
        class_map = class_map_of(asked.dataset, asked.task, asked.mapping)
    if asked.eval_dataset is not None:
        with naming("eval_dataset"):
            check_same_classes(asked.eval_dataset, asked.task, class_map)
    inputs = _inputs(asked)
    done = folder.is_done(asked.fitting, inputs, asked.replace)
    made, sides = _sides(asked)
    job = _job(asked, sides, class_map)
    checked = None if done else _checked(asked, folder, job, sides, inputs)
    return Planned(asked, folder, made, sides, job, inputs, done, checked)


def _checked(
    asked: TrainingCall, folder: RunFolder, job: TrainJob, sides: Splits, inputs: dict[str, Any]
) -> Ready | None:
    """The model, where this process trains it; other processes make their own."""
    folder.other_models(asked.fitting, asked.replace)
    remote = asked.tune is not None or asked.compute.max_workers > 0
    made = ready(job, weights=not remote)
    if len(sides.test):
        with naming("eval_dataset" if asked.eval_dataset is not None else "dataset_path"):
            check_scorable(sides.test, made.trained)
    if asked.tune is not None:
        sweep_fits(folder, inputs, asked.replace)
        check_sweep(asked.tune, job, made.trained)
    else:
        checkpoints_fit(folder, inputs, asked.replace)
    return None if remote else made


def _begin(begun: Planned) -> None:
    asked, folder = begun.asked, begun.folder
    if not begun.done:
        folder.claim_model(asked.fitting, asked.replace)
    folder.begin()
    folder.describe(name=folder.url, versions=versions(), config=begun.inputs)


def _train(begun: Planned, log: Log, executor: Executor) -> Trained:
    folder = begun.folder
    claim_checkpoints(folder, begun.inputs, begun.asked.replace)
    with folder.stage("train", begun.inputs) as result:
        if begun.asked.compute.max_workers:
            result.update(executor.train(_request(begun), folder, begun.events, log, lambda: False))
            trained = load_trained(folder.url, begun.asked.task)
        else:
            fitted, trained = train(begun.job, folder, begun.events, log, prepared=begun.ready)
            result.update(fitted.summary)
    folder.describe()
    return trained


def _finished(begun: Planned, trained: Trained) -> Trainer:
    """The Trainer that the caller gets: the same for a training here, on Ray, by a search, or taken up again."""
    from .finished_trainer import FinishedTrainer, restore

    job, sides, asked = _best_job(begun), begun.sides, begun.asked
    if sides.validation is not None or asked.eval_dataset is None:
        held_out = _rows(asked.dataset, sides.validation or sides.test)
    else:
        held_out = _rows(asked.eval_dataset, sides.test)
    trainer = FinishedTrainer(
        trained,
        finished_arguments(job, trained),
        output=begun.folder.url,
        batch_size=job.batch_size,
        precision=place_model(trained.model, asked.compute),
        train_dataset=_rows(asked.dataset, sides.train),
        eval_dataset=held_out if len(held_out) else None,
    )
    description = begun.folder.description()
    restore(trainer, read_events(begun.folder), description.get("training") or {})
    return trainer


def _rows(data: str | Dataset, view: Sequences) -> Any:
    """A side as a dataset, unless it hides the labels of some tokens."""
    return open_dataset(data).select(view.rows) if view.hidden is None else view


def _search(begun: Planned, log: Log, executor: Executor) -> Any:
    folder, spec = begun.folder, begun.asked.tune
    if spec is None:
        raise ConfigError("a search needs n_trials of at least 1")
    claim_sweep(folder, begun.inputs, begun.asked.replace)
    with folder.stage("tune", begun.inputs) as result:
        swept = executor.tune(spec, _request(begun), folder, begun.events, log, lambda: False)
        named = {name: swept.summary[name] for name in ("best", "parameters")}
        result.update(named, training=swept.training, tuning=swept.summary)
    folder.describe()
    return swept.analysis


def _best_job(begun: Planned) -> TrainJob:
    """The training that made the model: after a search with the best trial's hyperparameters."""
    asked, job = begun.asked, begun.job
    if asked.tune is None:
        return job
    parameters = begun.folder.mark("tune")["result"]["parameters"]
    metric, _ = asked.tune.compared_by(asked.training.metric)
    workers = asked.compute.max_workers
    settings, model = trial_settings(asked.training, asked.model, parameters, metric, workers)
    return replace(job, settings=settings, model=model, seed=trial_seed(parameters, job.seed))


def _score(begun: Planned, trained: Trained, log: Log, executor: Executor) -> None:
    asked, sides, folder = begun.asked, begun.sides, begun.folder
    mark = folder.mark(asked.fitting)
    inputs = {"evaluate": asked.evaluation.model_dump(mode="json"), "train": mark["inputs"]}
    if not len(sides.test) or folder.is_done("evaluate", inputs, replace=True):
        return
    scored = asked.dataset if asked.eval_dataset is None else asked.eval_dataset
    remote = None
    if executor.score_map is not None and isinstance(scored, str):  # a dataset in memory is scored where it is
        remote = RemoteScorer(map=executor.score_map, model=folder.model, dataset=scored, compute=asked.compute)
    precision = "fp32" if remote else place_model(trained.model, asked.compute)
    job = EvaluateJob(
        trained=trained,
        test=sides.test,
        train=sides.train,
        split_unit=sides.unit,
        settings=asked.evaluation,
        precision=precision,
        seed=asked.seed,
        training=_training(begun),
    )
    with folder.stage("evaluate", inputs) as result:
        result["metrics"] = evaluate(job, folder.url, log, remote)["metrics"]
    folder.describe()


def _training(begun: Planned) -> Training:
    description = begun.folder.description()
    job = _best_job(begun)
    return Training(job.settings, job.model, (description.get("training") or {}).get("steps"))


def _inputs(asked: TrainingCall) -> dict[str, Any]:
    apart = ("task", "eval_dataset", "replace", "tune", *(["mapping"] if asked.mapping is None else []))
    settings = {name: value for name, value in asdict(asked).items() if name not in apart}
    batch = asked.training.global_batch(asked.compute.max_workers)
    dumped = {n: v.model_dump(mode="json") if hasattr(v, "model_dump") else v for n, v in settings.items()}
    test = asked.eval_dataset
    on_disk = test if isinstance(test, str) else None
    in_memory = None if test is None or isinstance(test, str) else test._fingerprint
    weights = asked.compute.shapes_weights()
    zero = weights["deepspeed"] if isinstance(weights["deepspeed"], str) else None
    files = contents(asked.dataset, asked.vocabulary, on_disk, zero)
    with naming("model_checkpoint"):
        files |= contents(names=[asked.model.checkpoint])
    with naming("tokenizer_name_or_path"):
        files |= contents(names=[asked.model.tokenizer])
    others = {"task": asked.task.kind, "files": files, "eval_dataset": in_memory, "batch": batch}
    search = {"tune": asked.tune.shapes_result()} if asked.tune else {}
    return {**dumped, **others, **search, "compute": weights}


def _job(asked: TrainingCall, sides: Splits, class_map: dict[str, int]) -> TrainJob:
    return TrainJob(
        task=asked.task,
        class_map=class_map,
        train=sides.train,
        validation=sides.validation,
        model=asked.model,
        settings=asked.training,
        compute=asked.compute,
        seed=asked.seed,
        batch_size=asked.evaluation.batch_size,
        vocabulary=asked.vocabulary,
    )


def _request(begun: Planned) -> TrainRequest:
    """The training by where its data lies, for processes elsewhere; writes down the split."""
    asked, split = begun.asked, begun.folder.path(layout.SPLIT)
    begun.made.write(split)
    return TrainRequest(
        task=asked.task.kind,
        dataset=asked.dataset,
        split=split,
        class_map=begun.job.class_map,
        model=asked.model,
        settings=asked.training,
        compute=asked.compute,
        seed=asked.seed,
        batch_size=asked.evaluation.batch_size,
        vocabulary=asked.vocabulary,
        name=begun.folder.url.rstrip("/").rpartition("/")[2],
    )


def _sides(asked: TrainingCall) -> tuple[Split, Splits]:
    """Validation is taken from what is trained on; a given evaluation dataset is the whole test side."""
    split = asked.split
    if asked.eval_dataset is not None:
        split = split.model_copy(update={"test_size": 0.0})
    if asked.training.arguments["eval_strategy"] == "no":
        split = split.model_copy(update={"validation_size": 0.0})
    with naming("dataset_path"):
        source = open_source(asked.dataset)
        rows = Sequences.open(asked.dataset, asked.task.label_column)
    labels = label_column(source.schema.names, asked.task.label_column)
    stratify = labels if asked.task.unit == "row" else asked.stratify
    known = stratify if stratify in source.schema.names and not holds_tags(source.schema.field(stratify)) else None
    made = make_split(source, split, asked.seed, known, labels)
    unit: Unit = "token" if made.unit == "token" else "row"
    sides = divide(rows, unit, made.members, made.sides)
    if asked.eval_dataset is None:
        return made, sides
    with naming("eval_dataset"):
        test = Sequences.open(asked.eval_dataset, asked.task.label_column)
    return made, Splits(sides.train, sides.validation, test, "row")


def class_map_of(dataset: str, task: Task, mapping: dict[str, int] | None = None) -> dict[str, int]:
    """The classes that travel with a dataset, or are those of ``mapping``, or the ids; a file that `prepare` left
    beside it must say the same."""
    opened = open_dataset(dataset)
    beside = classmap.beside(dataset)
    outside = classmap.read(beside) if beside else None
    inside = classmap.of_dataset(opened, label_column(opened.column_names, task.label_column))
    if inside is not None and outside is not None and inside != outside:
        raise InputError(f"the classes in {dataset} and in {beside} differ; prepare the data again")
    if inside is None and outside is not None:
        if mapping is not None and mapping != outside:
            raise InputError(f"label_mapping has {mapping}, {beside} {outside}")
        mapping = outside
    return class_map(opened, task.label_column, mapping)


def check_same_classes(dataset: str | Dataset, task: Task, expected: dict[str, int]) -> None:
    """Refuse a dataset that says other classes of itself; one that says nothing has ids only."""
    opened = open_dataset(dataset)
    found = classmap.of_dataset(opened, label_column(opened.column_names, task.label_column))
    if found is not None and found != expected:
        raise InputError(
            f"eval_dataset has the classes {found}, dataset_path {expected}; they must be the same, with the same ids"
        )


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
    for executor, found in ((f"id_class_dict_file {class_map_file}", beside), (f"eval_dataset_path {named}", inside)):
        if found is not None and found != trained.class_map:
            raise InputError(
                f"{executor} has the classes {sorted(found)}, the model in {model} {sorted(trained.class_map)}; "
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
    return flat(evaluation)


def _own_classes(dataset: str | Dataset, task: Task) -> dict[str, int] | None:
    opened = open_dataset(dataset)
    return classmap.of_dataset(opened, label_column(opened.column_names, task.label_column))
