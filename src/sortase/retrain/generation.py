"""What tells one generation of a model from the next: the data it is made from, and the settings that shape it.

Both are the same on the machine that asks for a retraining and in the job that does it; paths play no part.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import storage
from ..config.run import Config
from ..config.tokenize import TokenizeSpec
from ..data.counts.open import in_words, input_urls, labels_of
from ..data.shards import STATE
from ..errors import InputError, MissingInputError
from ..pipeline.executor import LocalExecutor
from ..pipeline.run import Run
from ..pipeline.stages import STAGES
from ..registry.models import version_at
from ..runs.folder import FITTING, RunFolder, digest, identity

_SHAPING = ("tokenize", "data", "labels", "split", "model", "train", "tune")
_SPEED = (("data", "nproc"), ("tokenize", "chunk_cells"))  # the result does not depend on them
_DATA = (("data", "dataset"), ("tokenize", "input"))
_FILES = (  # settings that name files: their content counts
    ("tokenize", "vocabulary"),
    ("tokenize", "medians"),
    ("tokenize", "gene_names"),
    ("labels", "vocabulary"),
    ("labels", "gene_class_dict"),
    ("model", "checkpoint"),
    ("model", "tokenizer"),
)
_UNHEARD = ("logging_steps", "logging_strategy", "logging_first_step", "disable_tqdm", "dataloader_num_workers")
_REWRITTEN = ("_fingerprint",)  # in a dataset's state.json, by each time that the same rows are saved


def data_fingerprint(config: Config) -> str:
    """Of the files that rows come from, wherever they lie: hashes of those here, ETags of those in storage, which are
    listed and not read."""
    if config.tokenize is not None:
        return _counts_fingerprint(config.tokenize)
    url = config.data.dataset
    assert url is not None, "a configuration names one of the two"
    state = storage.join(url, STATE)
    if not storage.exists(state):
        return digest(storage.fingerprint(url))
    told = {key: value for key, value in storage.read_json(state).items() if key not in _REWRITTEN}
    return digest([told, storage.fingerprint(url, without=(STATE,))])


def _counts_fingerprint(spec: TokenizeSpec) -> str:
    urls = input_urls(spec)
    prints = [storage.fingerprint(url) for url in urls]
    return digest(prints[0] if len(prints) == 1 else [*prints, *labels_of(urls)])


def settings_digests(config: Config, files: Mapping[str, str] | None = None) -> tuple[str, dict[str, str]]:
    """Of everything else that shapes the model, of a configuration without aliases of versions; and by section.

    ``files``: fingerprints, of the time at which they were read; MissingInputError for another one that is not there.
    """
    shaping = _shaping(config, files or {})
    return digest(shaping), {name: digest(section) for name, section in shaping.items()}


def _shaping(config: Config, files: Mapping[str, str]) -> dict[str, Any]:
    """By section. Where it is computed, its names and its users' matters do not."""
    settings = config.model_dump(mode="json", include=set(_SHAPING), exclude_defaults=True)
    for section, name in (*_SPEED, *_DATA):
        (settings.get(section) or {}).pop(name, None)
    for section, name in _FILES:
        value = (settings.get(section) or {}).get(name)
        if isinstance(value, str) and (section != "model" or storage.is_located(value)):  # others are a hub's
            settings[section][name] = files.get(value) or storage.fingerprint(value)
    if config.labels.overlap in ("first", "last") and isinstance(config.labels.gene_class_dict, dict):
        settings["labels"]["order"] = list(config.labels.gene_class_dict)
    if config.tune is not None:
        settings["tune"] = config.tune.shapes_result()
    for name in _UNHEARD:
        (settings.get("train") or {}).pop(name, None)
    weights = config.compute.shapes_weights()
    if isinstance(weights["deepspeed"], str):
        weights["deepspeed"] = storage.read_json(weights["deepspeed"])
    shapes: dict[str, Any] = {
        "seed": config.run.seed,
        "compute": weights,
        "batch": config.train.global_batch(config.compute.max_workers),
    }
    if config.retrain.from_champion:
        shapes["from_champion"] = True
    return {**{name: section for name, section in settings.items() if section}, **shapes}


def lineage(folder: RunFolder) -> dict[str, Any]:
    """Where a finished run's model comes from; the same whenever and by whomever it is asked."""
    from ..config.load import check

    run, marks = folder.described(), folder.stages()
    fitted = next((name for name in FITTING if name in marks), None)
    if run is None or fitted is None or "prepare" not in marks:
        raise InputError(f"{folder.url} holds no finished training; run `sortase run` first")
    config = check(run["config"], f"{folder.url}/run.json")
    told = run.get("retrain") or {}
    made = marks[fitted]
    read = {url: found for mark in marks.values() for url, found in (mark["settings"].get("files") or {}).items()}
    settings, sections = (told["settings"], told.get("sections")) if told else settings_digests(config, read)
    return {
        "run": folder.url,
        "created": run["created"],
        "finished": made["finished"],
        "data": {
            "fingerprint": told.get("data") or _data_of(config, folder, marks),
            "source": config.data.dataset or (config.tokenize and in_words(config.tokenize.input)),
        },
        "config": settings,
        "sections": sections,
        "code": made.get("code") or run.get("code"),
        "image": made.get("image") or run.get("image"),
        "parents": _parents(config),
        "champion": told.get("champion"),
    }


def _parents(config: Config) -> list[dict[str, str | None]]:
    checkpoint = config.model.checkpoint
    if checkpoint is None:
        return []
    version = version_at(checkpoint)
    return [{"model": checkpoint, "version": version.name if version else None}]


def _data_of(config: Config, folder: RunFolder, marks: dict[str, Any]) -> str:
    """Of a run that no retraining made: the data as they are now, where they are what its first stage read."""
    here = Run(
        config=config,
        folder=folder,
        log=lambda text: None,
        replace=False,
        should_stop=lambda: False,
        executor=LocalExecutor(),
    )
    first = next(stage for stage in STAGES if stage.wanted(config))
    read = str(marks[first.name]["inputs"]) if first.name in marks else ""
    try:
        unchanged = identity(first.inputs(here)) == read
        return data_fingerprint(config) if unchanged else read
    except MissingInputError:  # they are gone
        return read
