"""From a prepared dataset to a saved model."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import storage
from ..config.compute import ComputeSpec
from ..config.model import ModelSpec
from ..config.tracking import TrackingSpec
from ..config.train import TrainSpec, check_arguments
from ..data.checks import check_labels, check_tokens, overlong
from ..data.sequences import Sequences
from ..errors import ConfigError, ExistingOutputError, InputError
from ..model.load import (
    MODEL_SETTINGS,
    Trained,
    attention_dropout,
    build_model,
    has_tokenizer,
    load_config,
    pad_id,
    positions,
    resolve,
    without_library_bars,
)
from ..model.task import Task
from .run_folder import RunFolder, changes, digest
from .tracking import tracked
from .zero import check_deepspeed

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from .callbacks import Report
    from .events import Events
    from .fit import Fitted
    from .ranks import Ranks

Say = Callable[[str], None]


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
    say: Say,
    should_stop: Callable[[], bool] = lambda: False,
    *,
    report: Report | None = None,
    ranks: Ranks | None = None,
) -> tuple[Fitted, Trained]:
    """Train and save the model with its tokenizer below ``folder.model``; it is durable when this returns on rank 0.

    Where several processes train together, all ``ranks`` call this alike; ``events`` and ``say`` are heard from rank 0.
    ``report`` gets step and metrics of each evaluation on the validation side.
    """
    from .checkpoints import Checkpoints
    from .fit import fit
    from .ranks import Ranks

    ranks = ranks or Ranks()
    check_arguments(job.settings.arguments)
    check_deepspeed(job.compute)
    tokenizer = find_tokenizer(job)
    model, notes = make_model(job, tokenizer)
    limit = check_data(job, model, notes)
    for note in notes:
        say(f"train: {note}")
    keep = job.settings.arguments["save_total_limit"]
    checkpoints = Checkpoints(folder.path("checkpoints"), keep, folder.fence, ranks)
    trained = Trained(model, tokenizer, job.task, job.class_map, limit, pad_id(model.config, tokenizer))
    try:
        spec = job.tracking if ranks.is_first else TrackingSpec()
        with tracked(spec, events, folder, job.name, settings_of(job), say):
            fitted = fit(_fit_job(job, trained, ranks), checkpoints, events, say, should_stop, report, ranks)
    finally:
        checkpoints.close()
        events.flush()
    fitted.summary["notes"] = notes
    if ranks.is_first:
        folder.fence()
        with without_library_bars():
            save(trained, folder.model, fitted.weights)
    return fitted, trained


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
    url = folder.path("checkpoints", "settings.json")
    earlier = storage.read_json(url) if storage.exists(url) else None
    if earlier is not None and digest(earlier) != digest(json.loads(json.dumps(inputs))):
        if not replace:
            raise ExistingOutputError(
                f"{folder.path('checkpoints')} holds a training that began with other settings: "
                f"{changes(earlier, inputs)}. Use --replace (replace=True) to discard it, or another run name"
            )
        storage.remove(folder.path("checkpoints"))
    storage.write_json(url, json.loads(json.dumps(inputs)))


def _fit_job(job: TrainJob, trained: Trained, ranks: Ranks) -> Any:
    from .fit import Job
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
        collator=job.task.collator(trained.tokenizer, trained.max_length),
        validate=validator(trained, job.validation, job.batch_size, job.compute, ranks),
    )


def trainer_of(job: TrainJob, trained: Trained) -> Any:
    """A Trainer around a model that was trained earlier; nothing is trained."""
    from .fit import build_trainer, own_random_state
    from .ranks import Ranks

    job = replace(job, compute=job.compute.model_copy(update={"workers": 0, "deepspeed": None}))
    with own_random_state(job.seed):
        return build_trainer(_fit_job(job, trained, Ranks()), Path(tempfile.gettempdir()) / "sortase-finished")


def find_tokenizer(job: TrainJob) -> PreTrainedTokenizerBase | None:
    """The named tokenizer, else the checkpoint's own, else the vocabulary the data was made with."""
    from ..model.tokenizer import load_tokenizer

    if job.model.tokenizer is not None:
        return load_tokenizer(job.model.tokenizer)
    if job.model.checkpoint is not None and has_tokenizer(resolve(job.model.checkpoint)):
        return load_tokenizer(job.model.checkpoint)
    return load_tokenizer(job.vocabulary) if job.vocabulary is not None else None


def make_model(job: TrainJob, tokenizer: PreTrainedTokenizerBase | None) -> tuple[PreTrainedModel, list[str]]:
    """The model, and what was switched in it, in words."""
    follows = implied_settings(job, tokenizer) if job.model.checkpoint is None else None
    config = load_config(job.model.checkpoint, job.model.config, follows)
    notes = attention_dropout(config, job.model.attention_dropout)
    model = build_model(job.task, job.class_map, job.model.checkpoint, config, job.seed)
    size = model.config.vocab_size
    if tokenizer is not None and max(tokenizer.get_vocab().values(), default=0) >= size:
        raise InputError(
            f"the tokenizer has ids up to {max(tokenizer.get_vocab().values())}, but the model's vocabulary has "
            f"{size} entries; model and tokenizer do not belong together"
        )
    return model, notes


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
        check_tokens(view, model.config.vocab_size)
        check_labels(view, len(job.class_map))
        if cut := overlong(view, limit):
            notes.append(f"{cut} of {len(view)} sequences of the {side} side are cut to {limit} tokens")
    return limit


def save(trained: Trained, url: str, weights: dict[str, Any] | None = None) -> None:
    """Write the model as transformers saves it, its tokenizer, and the few settings that they do not hold.

    ``weights`` instead of the model's own.
    """
    with tempfile.TemporaryDirectory(prefix="sortase-model-") as folder:
        local = Path(folder) / "model"
        trained.model.save_pretrained(local, state_dict=weights)
        if trained.tokenizer is not None:
            trained.tokenizer.save_pretrained(local)
        storage.write_json(
            str(local / MODEL_SETTINGS), {"task": trained.task.kind, "max_length": min(trained.max_length, 2**31 - 1)}
        )
        storage.upload(local, url)
