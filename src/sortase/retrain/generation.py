"""What tells one generation of a model from the next: the data it is made from, and the settings that shape it.

Both are the same on the machine that asks for a retraining and in the job that does it; paths play no part.
"""

from __future__ import annotations

from typing import Any

from .. import storage
from ..config.run import Config
from ..data.shards import STATE
from ..errors import InputError, MissingInputError
from ..pipeline.run import Run
from ..pipeline.run_folder import FITTING, RunFolder, digest
from ..pipeline.stages import STAGES
from ..pipeline.where import Here
from ..registry.models import version_at

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
    url = config.data.dataset or (config.tokenize.input if config.tokenize else None)
    assert url is not None, "a configuration names one of the two"
    state = storage.join(url, STATE)
    if not storage.exists(state):
        return digest(storage.fingerprint(url))
    told = {key: value for key, value in storage.read_json(state).items() if key not in _REWRITTEN}
    return digest([told, storage.fingerprint(url, without=(STATE,))])


def settings_digests(config: Config) -> tuple[str, dict[str, str]]:
    """Of everything else that shapes the model, of a configuration without aliases of versions; and by section."""
    shaping = _shaping(config)
    return digest(shaping), {name: digest(section) for name, section in shaping.items()}


def _shaping(config: Config) -> dict[str, Any]:
    """By section. Where it is computed, its names and its users' matters do not."""
    settings = config.model_dump(mode="json", include=set(_SHAPING), exclude_defaults=True)
    for section, name in (*_SPEED, *_DATA):
        (settings.get(section) or {}).pop(name, None)
    for section, name in _FILES:
        value = (settings.get(section) or {}).get(name)
        if isinstance(value, str) and storage.exists(value):  # others are names of a hub
            settings[section][name] = storage.fingerprint(value)
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

    run, marks = folder.read("run.json"), folder.stages()
    fitted = next((name for name in FITTING if name in marks), None)
    if run is None or fitted is None or "prepare" not in marks:
        raise InputError(f"{folder.url} holds no finished training; run `sortase run` first")
    config = check(run["config"], f"{folder.url}/run.json")
    told = run.get("retrain") or {}
    made = marks[fitted]
    settings, sections = (told["settings"], told.get("sections")) if told else settings_digests(config)
    return {
        "run": folder.url,
        "created": run["created"],
        "finished": made["finished"],
        "data": {
            "fingerprint": told.get("data") or _data_of(config, folder, marks),
            "source": config.data.dataset or (config.tokenize and config.tokenize.input),
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
        config=config, folder=folder, say=lambda text: None, replace=False, should_stop=lambda: False, where=Here()
    )
    first = next(stage for stage in STAGES if stage.wanted(config))
    read = str(marks[first.name]["inputs"]) if first.name in marks else ""
    try:
        unchanged = digest(first.inputs(here)) == read
        return data_fingerprint(config) if unchanged else read
    except (InputError, MissingInputError):  # they are gone
        return read
