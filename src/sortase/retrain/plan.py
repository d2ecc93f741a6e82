"""What one retraining works on: the model, its champion, and the run that new data make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import storage
from ..config.gate import GateSpec
from ..config.run import Config
from ..data.selection.filters import make_filters, passing
from ..data.source import open_source
from ..data.split.split import column_classes
from ..errors import ConfigError, MissingInputError
from ..gate.promotion import undone_words
from ..pipeline.run import resolved
from ..registry.models import Model, model_of
from ..registry.moves import rolled_back
from ..registry.names import CHAMPION, VERSION, is_reference, parse
from ..registry.versions import RECORD, Version, read
from ..runs import layout
from ..runs.folder import RunFolder, digest
from ..types import Log
from .generation import data_fingerprint, settings_digests
from .outcome import Outcome

PINNED = {"vocabulary": layout.VOCABULARY, "medians": layout.MEDIANS}


def model_named(config: Config) -> Model:
    return model_of(config.registry.name or config.run.name, config.registry.url)


@dataclass(frozen=True)
class Generation:
    """``data`` and ``settings`` are digests, ``sections`` those of each section of the settings; ``parent`` is the
    champion's version whose weights are gone on from."""

    data: str
    settings: str
    sections: dict[str, str]
    champion: Version | None
    parent: str | None

    @property
    def name(self) -> str:
        """Eight characters that change with the data, the settings, and what is kept of the champion."""
        return digest([self.data, self.settings, kept(self.champion), self.parent])[:8]

    def as_json(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "generation": self.name,
            "data": self.data,
            "settings": self.settings,
            "sections": self.sections,
            "champion": self.champion and self.champion.name,
            "parent": self.parent,
        }

    def news(self) -> str | None:
        """What is new to the champion; None for nothing."""
        if self.champion is None:
            return "there is no champion yet"
        before = self.champion.record["lineage"]
        new = ["the data"] if before["data"]["fingerprint"] != self.data else []
        new += [f"the settings{self._changed(before)}"] if before["config"] != self.settings else []
        return f"{' and '.join(new)} are not those of {self.champion.name}" if new else None

    def _changed(self, before: dict[str, Any]) -> str:
        """In brackets, the sections that changed, where the lineage tells."""
        sections = before.get("sections") or self.sections
        names = sorted(name for name in {**sections, **self.sections} if sections.get(name) != self.sections.get(name))
        return f" ({', '.join(names)})" if names else ""


def kept(champion: Version | None) -> dict[str, Any] | None:
    """What a later generation has in common with the champion: class ids and tokens."""
    if champion is None:
        return None
    files = champion.record["files"]
    return {"classes": champion.classes, **{k: files[name]["sha256"] for k, name in PINNED.items() if name in files}}


@dataclass(frozen=True)
class RetrainPlan:
    """What a call is about: ``config`` is as it was given, with versions in the place of aliases."""

    config: Config
    rules: GateSpec
    model: Model
    generation: Generation


def plan_of(config: Config, outcome: Outcome) -> RetrainPlan:
    """Look at registry and data, and tell ``outcome`` what is new.

    Raises:
        ConfigError: no rules, no registry, or a model that would go on from itself.
    """
    rules = rules_of(config)
    storage.configure(config.storage)
    model = model_named(config)
    _refuse_itself(config, model)
    with storage.impatiently():
        champion = model.champion
        config = resolved(config)
        generation = generation_of(config, champion)
    outcome.champion, outcome.news = champion.name if champion else None, generation.news()
    return RetrainPlan(config, rules, model, generation)


def held_back(due: RetrainPlan, outcome: Outcome, log: Log) -> bool:
    """Whether a version that was made from the same data and settings was rolled back: then a person decides."""
    undone = _rolled_back_before(due)
    if undone is None:
        return False
    outcome.state = "waiting"
    outcome.words = f"nothing to do: {undone['undone']}, made from these data, {undone_words(undone)}"
    log(f"retrain: {outcome.words}")
    return True


def nothing_words(champion: Version) -> str:
    return f"nothing to do: {champion.name} was made from these data"


def _refuse_itself(config: Config, model: Model) -> None:
    """ConfigError where the model is to go on from an alias of its own: each promotion would be news."""
    checkpoint = config.model.checkpoint
    if checkpoint is None or not is_reference(checkpoint):
        return
    base = parse(checkpoint)
    if base.name == model.name and not VERSION.fullmatch(base.version or ""):
        raise ConfigError(
            f"model.checkpoint is {checkpoint}, the model itself, and every promotion would make another one due; to "
            "go on from the champion give retrain.from_champion: true"
        )


def _rolled_back_before(due: RetrainPlan) -> dict[str, Any] | None:
    """The rollback of a version that was made from the same data and settings.

    MissingInputError where one that was rolled back is lost, unless nothing is promoted without a person.
    """
    model, generation = due.model, due.generation
    for name, undone in rolled_back(model.url, CHAMPION).items():
        version = read(model.url, name)
        if version is None and not due.config.retrain.promote:
            continue
        if version is None:
            raise MissingInputError(
                f"{name}, which {undone_words(undone)}, is gone from {model.url}: whether it was made from these data "
                f"is not known. Restore its {RECORD}, or set retrain.promote: false and promote by hand"
            )
        before = version.record["lineage"]
        if (before["data"]["fingerprint"], before["config"]) == (generation.data, generation.settings):
            return {**undone, "undone": name}
    return None


def generation_of(config: Config, champion: Version | None) -> Generation:
    """Looks at the data without reading all of it."""
    parent = champion.name if champion is not None and config.retrain.from_champion else None
    return Generation(data_fingerprint(config), *settings_digests(config), champion, parent)


def run_of(config: Config, generation: Generation) -> Config:
    """The generation's own run: its name, and what it keeps of the champion."""
    champion = generation.champion
    name = f"{config.run.name.removesuffix(f'-{generation.name}')}-{generation.name}"
    changes: dict[str, Any] = {"run": config.run.model_copy(update={"name": name})}
    if champion is not None:
        folder = storage.join(config.run.output, name)
        if config.labels.mapping is None:
            changes["labels"] = config.labels.model_copy(update={"mapping": champion.classes})
        if config.tokenize is not None:
            pins = {
                key: storage.join(folder, "champion", file)
                for key, file in PINNED.items()
                if getattr(config.tokenize, key) is None and file in champion.record["files"]
            }
            changes["tokenize"] = config.tokenize.model_copy(update=pins)
    if champion is not None and generation.parent is not None:
        model = {"checkpoint": champion.model, "config": None, "tokenizer": None}
        changes["model"] = config.model.model_copy(update=model)
    return config.model_copy(update=changes)


def keep_pins(config: Config, champion: Version | None) -> None:
    """Copy what the run keeps of the champion into its folder, so that it stays what it was."""
    if champion is None or config.tokenize is None:
        return
    for key, file in PINNED.items():
        url = getattr(config.tokenize, key)
        if url == storage.join(config.run.output, config.run.name, "champion", file) and not storage.exists(url):
            storage.write_bytes(url, storage.read_bytes(champion.path(file)))


def new_labels(config: Config, dataset: str) -> dict[str, int]:
    """Under ``retrain.new_labels: drop``, the labels that the class map lacks, and their rows past `data.filter`."""
    labels = config.labels
    if config.retrain.new_labels != "drop" or labels.task != "sequence" or labels.mapping is None:
        return {}
    source = open_source(dataset)
    names, codes = column_classes(source, str(labels.column))
    codes = codes[passing(source, make_filters(config.data.filter, source))]
    known = {*labels.mapping, *labels.rename}
    counts = np.bincount(codes, minlength=len(names)).tolist()
    return {name: n for name, n in zip(names, counts, strict=True) if n and name is not None and name not in known}


def without(config: Config, labels: Iterable[str]) -> Config:
    """The configuration under which rows with these labels are left out."""
    rename = {**config.labels.rename, **dict.fromkeys(labels)}
    return config.model_copy(update={"labels": config.labels.model_copy(update={"rename": rename})})


def folder_of(config: Config) -> RunFolder:
    return RunFolder(storage.join(config.run.output, config.run.name))


def rules_of(config: Config) -> GateSpec:
    """ConfigError where there are none."""
    if config.gate is None:
        raise ConfigError(
            "a model is judged before it is promoted: give rules in section 'gate', such as "
            "gate: {macro_f1: '>= champion - 0.005'}"
        )
    return config.gate
