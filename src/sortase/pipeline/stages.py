"""The stages: what each is made from, and the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .. import storage
from ..config.card import CardSpec
from ..config.prepare import LabelSpec
from ..config.run import Config
from ..data.counts.open import input_urls
from ..errors import ConfigError
from ..model.task import Task, task_of
from ..runs.events import Events
from ..runs.folder import RunFolder, contents, identity
from ..runs.layout import DataPaths
from ..types import Log

if TYPE_CHECKING:
    from ..score.collapse import Training
    from ..score.parts import RemoteScorer
    from ..train.request import TrainRequest
    from .executor import Executor


@dataclass(frozen=True, kw_only=True)
class Work:
    """Stages bound to their folder, and how to talk while they are worked on."""

    folder: RunFolder
    log: Log
    replace: bool
    should_stop: Callable[[], bool]
    executor: Executor

    @cached_property
    def events(self) -> Events:
        return Events(self.folder)


W = TypeVar("W", bound=Work)


@dataclass(frozen=True, kw_only=True)
class Run(Work):
    """A run.yaml to be worked on."""

    config: Config

    @property
    def task(self) -> Task:
        return task_of(self.config.labels.task)

    @property
    def data(self) -> DataPaths:
        return self.folder.data(self.config.run.prefix)

    @property
    def dataset(self) -> str:
        """The tokenised dataset: the user's, or the one that the tokenize stage makes."""
        return self.config.data.dataset or self.data.tokenized

    @property
    def prepared(self) -> str:
        return self.data.dataset

    @property
    def labels(self) -> LabelSpec:
        """The labels, with the vocabulary that the tokenize stage made where none was named."""
        if self.config.labels.vocabulary is not None or self.config.tokenize is None:
            return self.config.labels
        return self.config.labels.model_copy(update={"vocabulary": self.data.vocabulary})

    def request(self) -> TrainRequest:
        """The training of the prepared data, by where it lies."""
        from ..data import classmap
        from ..train.request import TrainRequest

        return TrainRequest.of(
            self.config,
            self.folder,
            dataset=self.prepared,
            split=self.data.split,
            class_map=classmap.read(self.data.class_map_json),
            vocabulary=self.labels.vocabulary,
        )

    def made_from(self, stage: str) -> str:
        """What a finished earlier stage was made from; ConfigError when it is not finished."""
        mark = self.folder.mark(stage)
        if mark is None:
            raise ConfigError(f"stage '{stage}' of {self.folder.url} is not finished; run `sortase {stage}` first")
        if (damaged := self.folder.damage(mark)) is not None:
            raise ConfigError(
                f"{self.folder.path(*damaged.split('/'))} is not what stage '{stage}' made; run `sortase {stage}` again"
            )
        return str(mark["inputs"])


@dataclass(frozen=True)
class Stage(Generic[W]):
    """``inputs`` identifies everything that the result depends on; ``work`` does it and returns what to note down.
    ``check`` refuses what can be refused before an earlier result gives way. ``reads_outside``: files that are not the
    run's, which somebody may replace. ``in_words`` says of a result what is worth knowing: the first text stands on the
    line that it is done, the others above it."""

    name: str
    inputs: Callable[[W], dict[str, Any]]
    work: Callable[[W], dict[str, Any]]
    check: Callable[[W], None] = lambda run: None
    wanted: Callable[[Config], bool] = lambda config: True
    reads_outside: bool = False
    in_words: Callable[[dict[str, Any]], list[str]] = lambda result: []


def _tokenize_inputs(run: Run) -> dict[str, Any]:
    spec = run.config.tokenize
    if spec is None:
        return {}
    urls = input_urls(spec)
    for url in urls:
        if not storage.exists(url):
            storage.fetch(url)  # raises, and says what is near it
    return {
        "tokenize": spec.model_dump(mode="json"),
        "files": contents(*urls, spec.vocabulary, spec.medians, spec.gene_names),
    }


def _tokenize(run: Run) -> dict[str, Any]:
    from ..prepare.tokenize import tokenize

    if run.config.tokenize is None:
        return {}
    return dict(
        tokenize(run.config.tokenize, run.folder.path("data"), replace=True, map=run.executor.prepare_map).summary
    )


def _tokenized(summary: dict[str, Any]) -> list[str]:
    from ..prepare.tokenize import in_words

    return [in_words(summary), *summary["notes"]]


def _prepare_inputs(run: Run) -> dict[str, Any]:
    from ..prepare.prepare import inputs_digest

    config = run.config
    named = (config.labels.vocabulary, config.labels.gene_class_dict)
    content = inputs_digest(run.dataset, config.data, run.labels, config.split, config.run.seed)
    files = contents(*(name for name in named if isinstance(name, str)))
    return {
        "data": config.data.model_dump(mode="json", exclude={"nproc"}),
        "labels": config.labels.model_dump(mode="json"),
        "split": config.split.model_dump(mode="json"),
        "seed": config.run.seed,
        "prefix": config.run.prefix,
        "content": content,
        "files": files | ({config.data.dataset: content} if config.data.dataset else {}),
    }


def _prepare(run: Run) -> dict[str, Any]:
    from ..data.shards import STATE
    from ..prepare.prepare import prepare

    config = run.config
    storage.remove(storage.join(run.prepared, STATE))  # without its mark it may be of two attempts
    prepared = prepare(
        run.dataset,
        config.data,
        run.labels,
        run.folder.path("data"),
        config.run.prefix,
        split=config.split,
        seed=config.run.seed,
        replace=True,
        map=run.executor.prepare_map,
    )
    run.log(prepared.table())
    return {"dataset": prepared.dataset_path, "classes": prepared.class_map}


def _train_inputs(run: Run) -> dict[str, Any]:
    config = run.config
    weights = config.compute.shapes_weights()
    files = [config.labels.vocabulary, weights["deepspeed"] if isinstance(weights["deepspeed"], str) else None]
    return {
        "model": config.model.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "compute": weights,
        "batch": config.train.global_batch(config.compute.max_workers),
        "seed": config.run.seed,
        "prepare": run.made_from("prepare"),
        "files": contents(*files, names=(config.model.checkpoint, config.model.tokenizer)),
    }


def _check_training(run: Run) -> None:
    from ..train.job import check_sweep, ready

    run.folder.other_models(run.config.fitting, run.replace)
    job = run.request().job()
    trained = ready(job, weights=False).trained
    if run.config.tune is not None:
        check_sweep(run.config.tune, job, trained)


def _train(run: Run) -> dict[str, Any]:
    from ..train.job import claim_checkpoints

    run.folder.claim_model("train", run.replace)
    claim_checkpoints(run.folder, _train_inputs(run), run.replace)
    return run.executor.train(run.request(), run.folder, run.events, run.log, run.should_stop)


def _tune_inputs(run: Run) -> dict[str, Any]:
    spec = run.config.tune
    return {**_train_inputs(run), "tune": spec.shapes_result()} if spec else {}


def _tune(run: Run) -> dict[str, Any]:
    from ..train.leaderboard import claim_sweep

    if run.config.tune is None:
        return {}
    run.folder.claim_model("tune", run.replace)
    claim_sweep(run.folder, _tune_inputs(run), run.replace)
    swept = run.executor.tune(run.config.tune, run.request(), run.folder, run.events, run.log, run.should_stop)
    run.log(f"tune: the best is {swept.summary['best']}: {swept.summary['metric']} {swept.summary['value']}")
    found = {name: swept.summary[name] for name in ("best", "parameters", "metric", "value", "counts")}
    return {**found, "training": swept.training, "tuning": swept.summary}


def _elsewhere(run: Run, dataset: str) -> RemoteScorer | None:
    """The workers that score rows of this dataset with the run's model; None where this process does."""
    from ..score.parts import RemoteScorer

    if run.executor.score_map is None:
        return None
    return RemoteScorer(map=run.executor.score_map, model=run.folder.model, dataset=dataset, compute=run.config.compute)


def _evaluate_inputs(run: Run) -> dict[str, Any]:
    settings = run.config.evaluate.model_dump(mode="json")
    return {"evaluate": settings, "train": run.made_from(run.config.fitting), "seed": run.config.run.seed}


def _evaluate(run: Run) -> dict[str, Any]:
    from ..model.device import model_on_device
    from ..model.load import load_trained
    from ..prepare.subsets import read_splits
    from ..score.evaluate import EvaluateJob, closing_lines, evaluate

    sides = read_splits(run.prepared, run.data.split, run.task)
    trained = load_trained(run.folder.model, run.task)
    remote = _elsewhere(run, run.prepared)
    with model_on_device(trained.model, None if remote else run.config.compute) as precision:
        job = EvaluateJob(
            trained=trained,
            test=sides.test,
            train=sides.train,
            split_unit=sides.unit,
            settings=run.config.evaluate,
            precision=precision,
            seed=run.config.run.seed,
            training=_training(run),
        )
        evaluation = evaluate(job, run.folder.url, run.log, remote)
    for line in closing_lines(evaluation):
        run.log(line)
    return {"metrics": evaluation["metrics"]}


def _training(run: Run) -> Training:
    """What made the model, after a search with the best trial's hyperparameters."""
    from ..score.collapse import Training
    from ..train.trials import trial_settings

    config, description = run.config, run.folder.description()
    settings, model = config.train, config.model
    if config.tune is not None:
        metric, _ = config.tune.compared_by(settings.metric)
        parameters = run.folder.mark("tune")["result"]["parameters"]
        settings, model = trial_settings(settings, model, parameters, metric, config.compute.max_workers)
    return Training(settings, model, (description.get("training") or {}).get("steps"))


def _predict_inputs(run: Run) -> dict[str, Any]:
    spec = run.config.predict
    if spec is None:
        return {}
    return {
        "predict": spec.model_dump(mode="json"),
        "train": run.made_from(run.config.fitting),
        "files": contents(spec.dataset),
    }


def _predict(run: Run) -> dict[str, Any]:
    from ..model.device import model_on_device
    from ..model.load import load_trained
    from ..score.predict import predict

    if run.config.predict is None:
        return {}
    trained = load_trained(run.folder.model, run.task)
    remote = _elsewhere(run, run.config.predict.dataset)
    url = run.folder.path("unlabelled_predictions.parquet")
    with model_on_device(trained.model, None if remote else run.config.compute) as precision:
        counts = predict(trained, run.config.predict, url, precision, remote)
    run.log("predict: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return {"predictions": url, "counts": counts}


def _report_inputs(run: Run) -> dict[str, Any]:
    return report_inputs(run, run.config.card.model_dump(mode="json", exclude_defaults=True))


def report_inputs(run: Work, card: dict[str, Any] | None = None) -> dict[str, Any]:
    """The other stages, and what the card adds. A report made from others gives way: it can be made again."""
    marks = run.folder.stages()
    made_from = {name: mark["inputs"] for name, mark in sorted(marks.items()) if name != "report"}
    inputs = {"stages": made_from, **({"card": card} if card else {})}
    if "report" in marks and marks["report"]["inputs"] != identity(inputs):
        run.folder.take_away("report")
    return inputs


def _report(run: Run) -> dict[str, Any]:
    return report_and_card(run.folder, run.config.card, run.config.fitting)


def report_and_card(folder: RunFolder, card: CardSpec, fitting: str) -> dict[str, Any]:
    """Write the report, and the card of the model where the stage that makes it is finished; returns where they lie."""
    from ..report.card.of_run import write_card
    from ..report.stage import report

    made = {"report": report(folder.url, folder.model_name)}
    if folder.mark(fitting) is not None:
        folder.fence()
        made["card"] = write_card(folder, card)
    return made


def _has_test_side(config: Config) -> bool:
    return config.split.test_size > 0 or config.split.strategy == "column"


STAGES = (
    Stage(
        "tokenize",
        _tokenize_inputs,
        _tokenize,
        wanted=lambda config: config.tokenize is not None,
        reads_outside=True,
        in_words=_tokenized,
    ),
    Stage("prepare", _prepare_inputs, _prepare, reads_outside=True),
    Stage(
        "train", _train_inputs, _train, _check_training, wanted=lambda config: config.tune is None, reads_outside=True
    ),
    Stage(
        "tune", _tune_inputs, _tune, _check_training, wanted=lambda config: config.tune is not None, reads_outside=True
    ),
    Stage("evaluate", _evaluate_inputs, _evaluate, wanted=_has_test_side),
    Stage("predict", _predict_inputs, _predict, wanted=lambda config: config.predict is not None, reads_outside=True),
    Stage("report", _report_inputs, _report),
)
