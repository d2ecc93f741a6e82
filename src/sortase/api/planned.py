"""What ``GenericClassifier.train`` is asked for, and whether anything speaks against it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from .. import storage
from ..arguments import naming
from ..config.compute import ComputeSpec
from ..config.evaluate import EvaluateSpec
from ..config.model import ModelSpec
from ..config.prepare import DataSpec, LabelSpec, SplitSpec
from ..config.run import Config, RunSpec
from ..config.tracking import TrackingSpec
from ..config.train import TrainSpec
from ..config.tune import TuneSpec
from ..data import classmap
from ..data.labelled import class_map
from ..data.selection.tags import holds_tags
from ..data.sequences import Sequences, label_column, open_dataset
from ..data.source import open_source
from ..data.split.split import Split, make_split
from ..errors import InputError
from ..model.task import Task
from ..pipeline.preflight_model import check_memory
from ..prepare.subsets import Splits, Unit, divide
from ..runs import layout
from ..runs.folder import RunFolder, contents
from ..score.evaluate import check_scorable
from ..train.job import Ready, TrainJob, check_sweep, checkpoints_fit, ready
from ..train.leaderboard import sweep_fits
from ..train.request import TrainRequest
from ..train.tracking import check_tracking

if TYPE_CHECKING:
    from datasets import Dataset


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
    tracking: TrackingSpec = field(default_factory=TrackingSpec)
    report: bool = False

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
    """A training that nothing speaks against; nothing is written yet.

    ``config`` says the same as run.yaml would, ``request`` what processes elsewhere are told, ``job`` what this one
    trains. ``ready`` is the model, where this process trains it, ``preflight`` what is known of its memory.
    """

    asked: TrainingCall
    config: Config
    made: Split
    sides: Splits
    request: TrainRequest
    job: TrainJob
    ready: Ready | None = None
    preflight: str | None = None


def plan(asked: TrainingCall, folder: RunFolder) -> Planned:
    """Everything that can be refused is refused here, before anything is written or started."""
    with naming("dataset_path"):
        class_map = class_map_of(asked.dataset, asked.task, asked.mapping)
    if asked.eval_dataset is not None:
        with naming("eval_dataset"):
            check_same_classes(asked.eval_dataset, asked.task, class_map)
    inputs = inputs_of(asked)
    done = folder.is_done(asked.fitting, inputs, asked.replace)
    check_tracking(asked.tracking, folder, here=not asked.compute.max_workers)
    made, sides = _sides(asked)
    config = _config(asked, folder, class_map)
    where = {"dataset": asked.dataset, "split": folder.path(layout.SPLIT)}
    request = TrainRequest.of(config, folder, **where, class_map=class_map, vocabulary=asked.vocabulary)
    job = request.on(sides)
    if done:
        return Planned(asked, config, made, sides, request, job)
    preflight = check_memory(config)
    return Planned(asked, config, made, sides, request, job, _checked(asked, folder, job, sides, inputs), preflight)


def _config(asked: TrainingCall, folder: RunFolder, class_map: dict[str, int]) -> Config:
    """What run.yaml would say of it; the dataset is labelled already."""
    return Config.model_construct(
        run=RunSpec.model_construct(name=folder.url.rstrip("/").rpartition("/")[2], output=folder.url, seed=asked.seed),
        data=DataSpec(dataset=asked.dataset),
        labels=LabelSpec.model_construct(
            task=asked.task.kind,  # type: ignore[arg-type]  # one of the two
            column=asked.task.label_column,
            mapping=class_map,
            vocabulary=asked.vocabulary,
        ),
        model=asked.model,
        split=asked.split,
        train=asked.training,
        evaluate=asked.evaluation,
        compute=asked.compute,
        tracking=asked.tracking,
        tune=asked.tune,
    )


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


def inputs_of(asked: TrainingCall) -> dict[str, Any]:
    """What the model depends on, for the stage's mark."""
    apart = (
        "task",
        "eval_dataset",
        "replace",
        "tune",
        "tracking",
        "report",
        *(["mapping"] if asked.mapping is None else []),
    )
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
