"""From a prepared dataset to a saved model."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import storage
from ..arguments import naming
from ..config.compute import ComputeSpec
from ..config.model import ModelSpec
from ..config.tracking import TrackingSpec
from ..config.train import TrainSpec, check_arguments
from ..config.tune import TuneSpec
from ..config.tune_space import FREEZE, Range, parse_space
from ..data.checks import check_labels, check_tokens, overlong
from ..data.sequences import Sequences
from ..errors import ConfigError, ExistingOutputError
from ..model.freeze import freeze_prefix
from ..model.inputs import check_token_types
from ..model.leftovers import settle_pad
from ..model.load import (
    MODEL_SETTINGS,
    Trained,
    attention_dropout,
    build,
    describe,
    has_tokenizer,
    load_config,
    positions,
    resolve,
    without_library_bars,
)
from ..model.task import PadToken, Task
from ..model.weights import Origin
from ..runs.folder import RunFolder, changes, identity
from ..storage.scratch import Scratch
from ..types import Log
from .deepspeed import check_deepspeed
from .leaderboard import sweep_settings
from .tracking import tracked

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainingArguments

    from ..runs.events import Events
    from .callbacks import Report
    from .kernel import Fitted
    from .ranks import Ranks

CLAIMED = "training"  # under which an attempt notes down what its checkpoints belong to
FORMER = "checkpoints/settings.json"  # where an earlier release did


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """What to train on which rows. ``vocabulary`` is a token dictionary that serves when nothing else is named."""

    task: Task
    class_map: dict[str, int]
    train: Sequences
    validation: Sequences | None
    model: ModelSpec
    settings: TrainSpec
    compute: ComputeSpec
    seed: int
    batch_size: int
    vocabulary: str | None = None
    tracking: TrackingSpec = field(default_factory=TrackingSpec)
    name: str = "run"


def train(
    job: TrainJob,
    folder: RunFolder,
    events: Events,
    log: Log,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    report: Report | None = None,
    ranks: Ranks | None = None,
    prepared: Ready | None = None,
) -> tuple[Fitted, Trained]:
    """Train and save the model with its tokenizer below ``folder.model``; it is durable when this returns on rank 0.

    Where several processes train together, all ``ranks`` call this alike; ``events`` and ``log`` are heard from rank 0.
    ``report`` gets step and metrics of each evaluation on the validation side. ``prepared``: what ``ready`` made of the
    same job.
    """
    from .checkpoints import Checkpoints
    from .kernel import fit
    from .ranks import Ranks

    ranks = ranks or Ranks()
    trained, origin, notes = prepared or ready(job)
    if job.model.checkpoint is not None and origin.pretrained:
        log(f"train: {origin.line(job.model.checkpoint)}")
    for note in notes:
        log(f"train: {note}")
    keep = job.settings.arguments["save_total_limit"]
    checkpoints = Checkpoints(folder.path("checkpoints"), keep, folder.fence, ranks, _training_name(job, folder))
    try:
        spec = job.tracking if ranks.is_first else TrackingSpec()
        with tracked(spec, events, folder, job.name, settings_of(job), log):
            fitted = fit(_fit_job(job, trained, ranks), checkpoints, events, log, should_stop, report, ranks)
    finally:
        checkpoints.close()
        events.flush()
    fitted.summary.update(origin.summary(), notes=notes)
    if ranks.is_first:
        folder.fence()
        with without_library_bars():
            save(trained, folder.model, fitted.weights)
    return fitted, trained


def _training_name(job: TrainJob, folder: RunFolder) -> str:
    """Names the data and settings whose checkpoints can be gone on from, whatever the number of workers."""
    claimed = _claimed(folder) or (sweep_settings(folder.whole) if folder.whole else None)
    settings = {"model": job.model.model_dump(mode="json"), "train": job.settings.model_dump(mode="json")}
    return identity({"claimed": claimed, **settings, "seed": job.seed})


class Ready(NamedTuple):
    """A training that nothing speaks against, and what is to be said about it; nothing is written yet."""

    trained: Trained
    origin: Origin
    notes: list[str]


def ready(job: TrainJob, *, weights: bool = True) -> Ready:
    """Refuse what can be refused before anything is written. Without ``weights`` the model is only described, for a
    training in other processes."""
    from .kernel import check
    from .ranks import Ranks

    check_arguments(job.settings.arguments)
    check_deepspeed(job.compute)
    made = make_model(job, find_tokenizer(job), weights)
    limit = check_data(job, made.model, made.notes)
    trained = Trained(made.model, made.tokenizer, job.task, job.class_map, limit, made.pad_id)
    check(_fit_job(job, trained, Ranks()), here=weights and job.compute.deepspeed is None)
    return Ready(trained, made.origin, [*made.notes, *job.settings.notes])


def check_sweep(spec: TuneSpec, job: TrainJob, trained: Trained) -> None:
    """ConfigError where trials could not be compared, or would freeze more layers than there are."""
    if job.settings.arguments["eval_strategy"] == "no" and "eval_strategy" not in spec.space:
        raise ConfigError("tune needs evaluations to compare trials, but train.eval_strategy is 'no'")
    if job.validation is None or not len(job.validation):
        raise ConfigError("tune compares trials on the validation side, which is empty; raise split.validation_size")
    layers = parse_space(spec.space).get(FREEZE)
    values = (layers.low, layers.high) if isinstance(layers, Range) else getattr(layers, "values", ())
    for count in values:
        freeze_prefix(trained.model, int(count))


def settings_of(job: TrainJob) -> dict[str, Any]:
    """What trackers are told of a training."""
    return {
        "task": job.task.kind,
        "rows": len(job.train),
        "classes": len(job.class_map),
        "seed": job.seed,
        "model": job.model.model_dump(mode="json"),
        "train": {**job.settings.arguments, **job.settings.model_dump(mode="json", exclude_unset=True)},
        "compute": job.compute.model_dump(mode="json", exclude_defaults=True),
    }


def claim_checkpoints(folder: RunFolder, inputs: dict[str, Any], replace: bool) -> None:
    """Checkpoints of an unfinished training belong to its settings; with others they are refused or discarded."""
    if not checkpoints_fit(folder, inputs, replace):
        storage.remove(folder.path("checkpoints"))
    folder.keep(CLAIMED, json.loads(json.dumps(inputs)))


def _claimed(folder: RunFolder) -> Any:
    return folder.kept(CLAIMED) or folder.read(FORMER)


def checkpoints_fit(folder: RunFolder, inputs: dict[str, Any], replace: bool) -> bool:
    """Whether there are none of a training with other settings; without ``replace`` such are refused."""
    earlier = _claimed(folder)
    if earlier is None or identity(earlier) == identity(json.loads(json.dumps(inputs))):
        return True
    if not any(name.startswith("step-") for name in storage.list_files(folder.path("checkpoints"))):
        return True
    if not replace:
        raise ExistingOutputError(
            f"{folder.path('checkpoints')} holds a training that began with other settings: "
            f"{changes(earlier, inputs)}. Use --replace (replace=True) to discard it, or another run name"
        )
    return False


def _fit_job(job: TrainJob, trained: Trained, ranks: Ranks) -> Any:
    from .kernel import Job
    from .validation import validator

    return Job(
        task=job.task,
        class_map=job.class_map,
        model=trained.model,
        train=job.train,
        validation=job.validation,
        max_length=trained.max_length,
        pad_id=trained.pad_id,
        freeze_layers=job.model.freeze_layers,
        settings=job.settings,
        compute=job.compute,
        seed=job.seed,
        collator=job.task.collator(trained.tokenizer or PadToken(trained.pad_id), trained.max_length),
        validate=validator(trained, job.validation, job.batch_size, job.compute, ranks),
    )


def finished_arguments(job: TrainJob, trained: Trained) -> TrainingArguments:
    """The arguments of a training that is over, for a Trainer in this process alone."""
    from .kernel import training_arguments
    from .ranks import Ranks

    alone = replace(job, compute=job.compute.model_copy(update={"workers": 0, "deepspeed": None}))
    return training_arguments(_fit_job(alone, trained, Ranks()), Path())


def find_tokenizer(job: TrainJob) -> PreTrainedTokenizerBase | None:
    """The named tokenizer, else the checkpoint's own, else the vocabulary the data was made with."""
    from ..model.tokenizer import load_tokenizer

    if job.model.tokenizer is not None:
        with naming("model.tokenizer"):
            return load_tokenizer(job.model.tokenizer)
    with naming("model.checkpoint"):
        if job.model.checkpoint is not None and has_tokenizer(resolve(job.model.checkpoint)):
            return load_tokenizer(job.model.checkpoint)
    with naming("labels.vocabulary"):
        return load_tokenizer(job.vocabulary) if job.vocabulary is not None else None


@dataclass(frozen=True)
class Made:
    """A model to train, the tokenizer that fits it, and what was switched in them, in words."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase | None
    pad_id: int
    origin: Origin
    notes: list[str]


def make_model(job: TrainJob, tokenizer: PreTrainedTokenizerBase | None, weights: bool = True) -> Made:
    """The model, and its tokenizer without the tokens that the model has no entry for. Without ``weights`` it has no
    memory.

    Raises InputError where rows hold ids that the model has no entry for, or a part of the checkpoint does not fit.
    """
    from ..model.tokenizer import fitted

    spec = job.model
    if spec.checkpoint is not None:
        with naming("model.checkpoint"):
            load_config(spec.checkpoint, None)
    follows = implied_settings(job, tokenizer) if spec.checkpoint is None else None
    config = load_config(spec.checkpoint, spec.config, follows)
    sides = [view for view in (job.train, job.validation) if view is not None]
    names = {index: token for token, index in tokenizer.get_vocab().items()} if tokenizer is not None else {}
    for view in sides:
        check_tokens(view, config.vocab_size, names)
    pad = settle_pad(config, tokenizer, partial(used_tokens, sides, config.vocab_size))
    notes = attention_dropout(config, spec.attention_dropout)
    make = build if weights else describe
    built = make(job.task, job.class_map, spec.checkpoint, config, job.seed, spec.config)
    fitting = fitted(tokenizer, config.vocab_size, pad) if tokenizer is not None else None
    if tokenizer is None:
        notes.append("the model is saved without a tokenizer; model.tokenizer or labels.vocabulary can name one")
    elif fitting is None:
        notes.append(f"the tokenizer has more tokens than the model's {config.vocab_size:,}; it is not saved with it")
    return Made(built.model, fitting, pad, built.origin, [*built.notes, *notes])


def used_tokens(sides: list[Sequences], size: int) -> np.ndarray:
    """bool[size]: which ids are in the rows."""
    used = np.zeros(size, dtype=bool)
    for view in sides:
        for window in view.windows():
            used[np.concatenate([view.tokens_of(index) for index in window])] = True
    return used


def implied_settings(job: TrainJob, tokenizer: PreTrainedTokenizerBase | None) -> dict[str, Any]:
    """Settings of a new model that follow from the tokenizer and the data."""
    settings = dict(job.model.config or {})
    implied: dict[str, Any] = {}
    if tokenizer is not None:
        implied["vocab_size"] = 1 + max(tokenizer.get_vocab().values())
        kinds = ("pad", "cls", "sep", "bos", "eos", "mask", "unk")
        implied |= {f"{kind}_token_id": getattr(tokenizer, f"{kind}_token_id") for kind in kinds}
    elif "vocab_size" not in settings:
        raise ConfigError("a new model needs model.tokenizer, labels.vocabulary or model.config.vocab_size")
    views = [view for view in (job.train, job.validation) if view is not None]
    longest = max(int(view.lengths.max(initial=1)) for view in views)
    room = 2 + (settings.get("pad_token_id", implied.get("pad_token_id")) or 0)
    implied["max_position_embeddings"] = min(longest, job.model.max_length or longest) + room
    return implied


def check_data(job: TrainJob, model: PreTrainedModel, notes: list[str]) -> int:
    """Refuse ids and labels that the model has no place for; returns the length at which sequences are cut."""
    limit = min(positions(model.config), job.model.max_length or 2**31 - 1)
    for side, view in (("train", job.train), ("validation", job.validation)):
        if view is None:
            continue
        check_labels(view, len(job.class_map))
        note = check_token_types(view, model)
        if note is not None and note not in notes:
            notes.append(note)
        if cut := overlong(view, limit):
            notes.append(f"{cut} of {len(view)} sequences of the {side} side are cut to {limit} tokens")
    return limit


def save(trained: Trained, url: str, weights: dict[str, Any] | None = None) -> None:
    """Write the model as transformers saves it, its tokenizer, and the few settings that they do not hold.

    ``weights`` instead of the model's own.
    """
    with Scratch("model") as folder:
        local = folder / "model"
        trained.model.save_pretrained(local, state_dict=weights)
        if trained.tokenizer is not None:
            trained.tokenizer.save_pretrained(local)
        storage.write_json(
            str(local / MODEL_SETTINGS), {"task": trained.task.kind, "max_length": min(trained.max_length, 2**31 - 1)}
        )
        storage.upload(local, url)
