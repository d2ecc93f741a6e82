"""Training and scoring without a run.yaml: the same stages, with the model in the output folder itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from .. import storage
from ..config.compute import ComputeSpec
from ..config.evaluate import EvaluateSpec
from ..config.model import ModelSpec
from ..config.prepare import SplitSpec
from ..config.train import TrainSpec
from ..config.tune import TuneSpec
from ..data import classmap
from ..data.sequences import Sequences, open_dataset
from ..data.source import open_source
from ..data.split import Split, make_split
from ..errors import InputError
from ..model.load import Trained, load_trained
from ..model.task import Task
from .evaluate import EvaluateJob, evaluate, flat
from .events import Events
from .leaderboard import claim_sweep
from .parts import Elsewhere
from .place_model import place_model
from .request import TrainRequest
from .run_folder import RunFolder, contents, versions
from .sides import Sides, Unit, divide
from .train import TrainJob, claim_checkpoints, train, trainer_of
from .trial_settings import trial_settings
from .where import Where

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import Trainer

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Standalone:
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
    tune: TuneSpec | None = None

    @property
    def fitting(self) -> str:
        """The stage that makes the model."""
        return "train" if self.tune is None else "tune"


@dataclass(frozen=True)
class Begun:
    """A folder that this attempt owns, and what is trained there."""

    asked: Standalone
    folder: RunFolder
    made: Split
    sides: Sides
    job: TrainJob
    inputs: dict[str, Any]
    done: bool
    events: Events


def train_and_score(asked: Standalone, output: str, say: Say, where: Where) -> Trainer:
    """Train into ``output``, then score; finished work with the same inputs is taken up, not done again."""
    begun = _begin(asked, output)
    if begun.done:
        say(f"{asked.fitting}: finished earlier with the same inputs, skipped")
        trained = load_trained(output, asked.task)
        trainer = trainer_of(_best_job(begun), trained)
    elif asked.tune is not None:
        _search(begun, asked.tune, say, where)
        trained = load_trained(output, asked.task)
        trainer = trainer_of(_best_job(begun), trained)
    else:
        trainer, trained = _train(begun, say, where)
    _score(asked, begun.sides, trained, begun.folder, say, where)
    return trainer


def search(asked: Standalone, spec: TuneSpec, output: str, say: Say, where: Where) -> Any:
    """Search into ``output``: the best trial's model is saved there. Returns Ray's ``ExperimentAnalysis``.

    Called again with the same inputs it trains nothing again, and returns what the trials gave.
    """
    return _search(_begin(asked, output), spec, say, where)


def _begin(asked: Standalone, output: str) -> Begun:
    folder = RunFolder(output, model_name="")
    class_map = class_map_of(asked.dataset)
    inputs = _inputs(asked)
    done = folder.is_done(asked.fitting, inputs, asked.replace)
    made, sides = _sides(asked)
    job = _job(asked, sides, class_map)
    if not done:
        folder.claim_model(asked.fitting, asked.replace)
    folder.begin()
    folder.describe(name=output, versions=versions(), config=inputs)
    return Begun(asked, folder, made, sides, job, inputs, done, Events(folder.path("events.jsonl")))


def _train(begun: Begun, say: Say, where: Where) -> tuple[Trainer, Trained]:
    folder = begun.folder
    claim_checkpoints(folder, begun.inputs, begun.asked.replace)
    with folder.stage("train", begun.inputs) as result:
        if begun.asked.compute.max_workers:
            result.update(where.train(_request(begun), folder, begun.events, say, lambda: False))
            trained = load_trained(folder.url, begun.asked.task)
            trainer = trainer_of(begun.job, trained)
        else:
            fitted, trained = train(begun.job, folder, begun.events, say)
            result.update(fitted.summary)
            trainer = fitted.trainer
    folder.describe(training=dict(result))
    return trainer, trained


def _search(begun: Begun, spec: TuneSpec, say: Say, where: Where) -> Any:
    folder = begun.folder
    claim_sweep(folder, begun.inputs, begun.asked.replace)
    with folder.stage("tune", begun.inputs) as result:
        swept = where.tune(spec, _request(begun), folder, begun.events, say, lambda: False)
        result.update(best=swept.summary["best"], parameters=swept.summary["parameters"])
    folder.describe(training=swept.training, tuning=swept.summary)
    return swept.analysis


def _best_job(begun: Begun) -> TrainJob:
    """The training that made the model: after a search with the best trial's hyperparameters."""
    asked, job = begun.asked, begun.job
    if asked.tune is None:
        return job
    parameters = begun.folder.mark("tune")["result"]["parameters"]
    metric, _ = asked.tune.compared_by(asked.training.metric)
    workers = asked.compute.max_workers
    settings, model = trial_settings(asked.training, asked.model, parameters, metric, workers)
    return replace(job, settings=settings, model=model)


def _score(asked: Standalone, sides: Sides, trained: Any, folder: RunFolder, say: Say, where: Where) -> None:
    mark = folder.mark(asked.fitting)
    inputs = {"evaluate": asked.evaluation.model_dump(mode="json"), "train": mark["inputs"]}
    if not len(sides.test) or folder.is_done("evaluate", inputs, replace=True):
        return
    scored = asked.dataset if asked.eval_dataset is None else asked.eval_dataset
    elsewhere = None
    if where.score_map is not None and isinstance(scored, str):  # a dataset in memory is scored where it is
        elsewhere = Elsewhere(map=where.score_map, model=folder.model, dataset=scored, compute=asked.compute)
    precision = "fp32" if elsewhere else place_model(trained.model, asked.compute)
    job = EvaluateJob(
        trained=trained,
        test=sides.test,
        train=sides.train,
        split_unit=sides.unit,
        settings=asked.evaluation,
        precision=precision,
        seed=asked.seed,
    )
    with folder.stage("evaluate", inputs) as result:
        result["metrics"] = evaluate(job, folder.url, say, elsewhere)["metrics"]
    folder.describe()


def _inputs(asked: Standalone) -> dict[str, Any]:
    apart = ("task", "eval_dataset", "replace", "tune")
    settings = {name: value for name, value in asdict(asked).items() if name not in apart}
    batch = asked.training.global_batch(asked.compute.max_workers)
    dumped = {n: v.model_dump(mode="json") if hasattr(v, "model_dump") else v for n, v in settings.items()}
    test = asked.eval_dataset
    on_disk = test if isinstance(test, str) else None
    in_memory = None if test is None or isinstance(test, str) else test._fingerprint
    files = contents(asked.dataset, asked.model.checkpoint, asked.model.tokenizer, asked.vocabulary, on_disk)
    others = {"task": asked.task.kind, "files": files, "eval_dataset": in_memory, "batch": batch}
    search = {"tune": asked.tune.shapes_result()} if asked.tune else {}
    return {**dumped, **others, **search, "compute": asked.compute.shapes_weights()}


def _job(asked: Standalone, sides: Sides, class_map: dict[str, int]) -> TrainJob:
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


def _request(begun: Begun) -> TrainRequest:
    """The training by where its data lies, for processes elsewhere; writes down the split."""
    asked, split = begun.asked, begun.folder.path("split.parquet")
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


def _sides(asked: Standalone) -> tuple[Split, Sides]:
    """Validation is taken from what is trained on; a given evaluation dataset is the whole test side."""
    split = asked.split
    if asked.eval_dataset is not None:
        split = split.model_copy(update={"test_size": 0.0})
    if asked.training.arguments["eval_strategy"] == "no":
        split = split.model_copy(update={"validation_size": 0.0})
    source = open_source(asked.dataset)
    stratify = asked.task.label_column if asked.task.unit == "row" else asked.stratify
    known = stratify if stratify in source.schema.names else None
    made = make_split(source, split, asked.seed, known, asked.task.label_column)
    unit: Unit = "token" if made.unit == "token" else "row"
    sides = divide(Sequences.open(asked.dataset, asked.task.label_column), unit, made.members, made.sides)
    if asked.eval_dataset is None:
        return made, sides
    test = Sequences.open(asked.eval_dataset, asked.task.label_column)
    return made, Sides(sides.train, sides.validation, test, "row")


def class_map_of(dataset: str) -> dict[str, int]:
    """The classes that travel with a prepared dataset; those beside it must be the same."""
    opened = open_dataset(dataset)
    inside = classmap.of_dataset(opened)
    beside = dataset.rstrip("/").removesuffix("_labeled.dataset") + "_id_class_dict.pkl"
    outside = classmap.read(beside) if dataset.rstrip("/") + "_" != beside and storage.exists(beside) else None
    if inside is None and outside is None:
        raise InputError(f"{dataset} says nothing of its classes; make it with prepare_data")
    if inside is not None and outside is not None and inside != outside:
        raise InputError(f"the classes in {dataset} and in {beside} differ; prepare the data again")
    return inside or outside or {}


def score_saved(
    model: str,
    dataset: str,
    class_map_file: str,
    output: str,
    *,
    task: Task,
    settings: EvaluateSpec,
    compute: ComputeSpec,
    seed: int,
    tokenizer: str | None,
    say: Say,
    where: Where,
) -> dict[str, Any]:
    """Score a saved model on a labelled dataset with the model's own classes."""
    trained = load_trained(model, task, tokenizer)
    for named, found in ((class_map_file, classmap.read(class_map_file)), (dataset, _own_classes(dataset))):
        if found is not None and found != trained.class_map:
            raise InputError(
                f"{named} has the classes {sorted(found)}, the model in {model} {sorted(trained.class_map)}; "
                "they must be the same, with the same ids"
            )
    elsewhere = None
    if where.score_map is not None:
        elsewhere = Elsewhere(map=where.score_map, model=model, dataset=dataset, compute=compute, tokenizer=tokenizer)
    precision = "fp32" if elsewhere else place_model(trained.model, compute)
    job = EvaluateJob(
        trained=trained,
        test=Sequences.open(dataset, task.label_column),
        train=None,
        split_unit="row",
        settings=settings,
        precision=precision,
        seed=seed,
    )
    return flat(evaluate(job, output, say, elsewhere))


def _own_classes(dataset: str) -> dict[str, int] | None:
    return classmap.of_dataset(open_dataset(dataset))
