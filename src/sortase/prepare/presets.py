"""Settings that a preset fills in, from files that the user has."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from .. import storage
from ..config.presets import FOLDERS, PRESETS, Preset
from ..config.run import Config
from ..data import vocabulary
from ..errors import ConfigError, MissingInputError

PACKAGE = "geneformer"


def filled(config: Config) -> Config:
    """The configuration with what ``model.preset`` says wherever the user says nothing.

    Raises:
        MissingInputError: a dictionary that the run needs lies in none of the places.
        ConfigError: the checkpoint or the dictionary is another version's.
    """
    if config.model.preset is None:
        return config
    preset = PRESETS[config.model.preset]
    places = places_of(config.model.files, config.model.checkpoint)
    check_checkpoint(preset, config.model.checkpoint)
    changes: dict[str, Any] = {}
    if config.tokenize is not None:
        changes["tokenize"] = config.tokenize.model_copy(update=_tokenizing(config, preset, places))
    elif config.labels.vocabulary is None:
        found = find_vocabulary(preset, places)
        if found is None and config.labels.gene_class_dict is not None:
            raise missing(preset.vocabulary_files, places)
        changes["labels"] = config.labels.model_copy(update={"vocabulary": found})
    return config.model_copy(update=changes)


def _tokenizing(config: Config, preset: Preset, places: list[str]) -> dict[str, Any]:
    spec = config.tokenize
    given = {name for name in (spec.model_fields_set if spec else ()) if getattr(spec, name) is not None}
    wanted: dict[str, Any] = {"max_length": preset.max_length, "special_tokens": preset.special_tokens}
    if "vocabulary" not in given:
        wanted["vocabulary"] = find_vocabulary(preset, places) or _raise(preset.vocabulary_files, places)
    if "medians" not in given:
        wanted["medians"] = _find(preset.median_files, places) or _raise(preset.median_files, places)
    wanted["gene_names"] = _find(preset.gene_name_files, places)
    return {name: value for name, value in wanted.items() if name not in given}


def places_of(files: str | None, checkpoint: str | None) -> list[str]:
    """Where dictionaries are looked for: the named folder alone, else the checkpoint's, what lies around it, and the
    installed package, which is not imported."""
    if files is not None:
        if not storage.exists(files):
            raise MissingInputError(f"there is no folder of dictionaries at {files}")
        return [files]
    places = []
    if checkpoint is not None and storage.is_located(checkpoint):
        places = [checkpoint, checkpoint.rstrip("/").rpartition("/")[0] or "."]
    installed = find_spec(PACKAGE)
    return [*places, *(installed.submodule_search_locations or [] if installed else [])]


def find_vocabulary(preset: Preset, places: list[str]) -> str | None:
    """The token dictionary of the preset's version; ConfigError where the one that is there is another version's."""
    found = _find(preset.vocabulary_files, places)
    if found is not None and len(tokens := vocabulary.read(found)) != preset.vocab_size:
        raise ConfigError(
            f"{found} has {len(tokens):,} tokens, but the dictionary of {preset.model} has {preset.vocab_size:,}; it "
            "belongs to another version"
        )
    return found


def check_checkpoint(preset: Preset, checkpoint: str | None) -> None:
    """Refuse a checkpoint whose vocabulary is another version's, where its configuration can be read from here."""
    if checkpoint is None or not storage.is_located(checkpoint):
        return
    description = storage.join(checkpoint, "config.json")
    size = storage.read_json(description).get("vocab_size") if storage.exists(description) else None
    if isinstance(size, int) and size != preset.vocab_size:
        fitting = sorted(name for name, other in PRESETS.items() if other.vocab_size == size)
        raise ConfigError(
            f"{checkpoint} has {size:,} tokens, but {preset.model} has {preset.vocab_size:,}"
            + (f"; near: {', '.join(fitting)}" if fitting else "")
        )


def _find(names: tuple[str, ...], places: list[str]) -> str | None:
    for name in names:
        for place in places:
            for folder in FOLDERS:
                url = storage.join(place, *folder.split("/"), name) if folder else storage.join(place, name)
                if storage.exists(url):
                    return url
    return None


def missing(names: tuple[str, ...], places: list[str]) -> MissingInputError:
    where = ", ".join(places) or "no folder, for the checkpoint is none of this machine"
    return MissingInputError(
        f"{names[0]} is not in {where}; name the folder that holds Geneformer's dictionaries with model.files "
        "(model_files in Python), or install the package geneformer"
    )


def _raise(names: tuple[str, ...], places: list[str]) -> str:
    raise missing(names, places)
