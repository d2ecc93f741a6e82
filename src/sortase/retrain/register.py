"""From a finished run to a version: its files are copied, and version.json makes them a version, last.

The version's name follows from the run's marks, so registering a run again finds the version that is there, and
one that was interrupted is completed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import storage
from ..config.load import check
from ..config.run import Config
from ..data import classmap
from ..data.fingerprints import Training
from ..drift.profile import profile
from ..errors import ConfigError, ConflictError, InputError
from ..gate.fairness import vocabulary_digest
from ..model.task import task_of
from ..prepare.subsets import read_splits
from ..redact import redacted
from ..registry.context import context, now
from ..registry.exclusive import require_known
from ..registry.models import version_at
from ..registry.moves import table
from ..registry.versions import FORMAT, RECORD, Version, described, find, read
from ..report.card.of_run import write_card
from ..runs import layout
from ..runs.folder import FITTING, RunFolder, digest
from ..storage.scratch import Scratch
from .generation import lineage

COPIED = (layout.EVALUATION, layout.PREPARED)
TOKENIZED = ("data/vocabulary.pkl", "data/medians.json")
TRAINING = "training.npy"


def register(folder: RunFolder, model_url: str, asked: dict[str, str] | None = None) -> Version:
    """The version of a finished run, made where there is none. ``asked``: by whom, else the environment tells.

    Raises:
        ConfigError: the run is not finished, or no registry can be kept there.
        ConflictError: the run was made again while it was copied.
    """
    require_known(model_url)
    name = version_name(folder)
    found = read(model_url, name)
    if found is not None:
        return found
    url = storage.join(model_url, "versions", name)
    with Scratch("register") as scratch:
        record = _collect(folder, f"{model_url.rpartition('/')[2]} {name}", scratch)
        folder.check_made()
        if version_name(folder) != name:
            raise ConflictError(f"{folder.url} was made again while it was registered; register it once it is finished")
        found = read(model_url, name)
        if found is not None:  # somebody else was quicker
            return found
        storage.upload(scratch, url)
    whole = {"version": name, "format": FORMAT, **record, "registered": now(), "context": asked or context()}
    whole["moves"] = table(model_url).number  # so that a later reader notices when they are lost
    data = (json.dumps(redacted(whole), indent=2, ensure_ascii=False) + "\n").encode()
    storage.create_bytes(storage.join(url, RECORD), data)
    return find(model_url, name)


def version_name(folder: RunFolder) -> str:
    """When the run's model was made, and a digest of what it was made from; ConfigError for an unfinished run."""
    marks = folder.stages()
    if missing := unfinished(marks):
        raise ConfigError(
            f"{folder.url} is not finished: there is no mark of {', '.join(missing)}. A model is registered with its "
            "evaluation: run `sortase run` first, with a test side (--version names one that is registered)"
        )
    return name_of(folder.url, marks)


def unfinished(marks: Mapping[str, Any]) -> list[str]:
    """The stages that a version needs and the run has not finished."""
    lacking = [name for name in ("prepare", "evaluate") if name not in marks]
    return lacking if any(name in marks for name in FITTING) else [*lacking, "train"]


def name_of(url: str, marks: Mapping[str, Any]) -> str:
    fitted = next(name for name in FITTING if name in marks)
    finished = str(marks[fitted]["finished"])
    made = [url, *([marks[name]["inputs"], marks[name]["finished"]] for name in ("prepare", fitted, "evaluate"))]
    stamp = finished[:19].replace("-", "").replace(":", "")
    return f"{stamp}-{digest(made)[:8]}"


def _collect(folder: RunFolder, title: str, scratch: Path) -> dict[str, Any]:
    """Everything of the version as local files; returns what version.json tells of them. ``title``: of its card."""
    run = folder.described()
    config = check(run["config"], f"{folder.url}/run.json")
    told = lineage(folder)
    storage.download(folder.model, scratch / "model")
    tokenized = TOKENIZED if config.tokenize is not None else ()
    reported = (layout.REPORT,) if folder.mark("report") is not None else ()
    for name in (*COPIED, *tokenized, *reported):
        storage.download(folder.path(*name.split("/")), scratch / Path(name).name)
    class_map = classmap.read(folder.data(config.run.prefix).class_map_json)
    classmap.write(str(scratch), "model", class_map)
    storage.write_json(str(scratch / "lineage.json"), told)
    storage.write_json(str(scratch / "profile.json"), profile(folder))
    training = training_of(folder, config)
    if training is not None:
        training.write(str(scratch / TRAINING))
    write_card(folder, config.card, told, name=title, target=str(scratch / "model" / layout.CARD))
    evaluation = folder.read(layout.EVALUATION)
    return {
        "run": folder.url,
        "task": config.labels.task,
        "classes": class_map,
        "vocabulary": vocabulary_digest(str(scratch / "model")),
        "metrics": evaluation["metrics"],
        "intervals": evaluation["intervals"],
        "baseline": (evaluation["baseline"] or {}).get("verdict"),
        "lineage": told,
        "files": described(scratch),
    }


def training_of(folder: RunFolder, config: Config) -> Training | None:
    """What the run's model has seen: validation rows among it, which chose the checkpoint, and what the version that it
    went on from has seen. None where that is not known, or was counted in another unit."""
    data = folder.data(config.run.prefix)
    sides = read_splits(data.dataset, data.split, task_of(config.labels.task))
    own = Training.of([each for each in (sides.train, sides.validation) if each is not None], sides.unit)
    parent = version_at(config.model.checkpoint) if config.model.checkpoint else None
    if parent is None:
        return own
    earlier = training_hashes(parent) if TRAINING in parent.record["files"] else None
    return own.union(earlier) if earlier is not None and earlier.unit == own.unit else None


def training_hashes(version: Version) -> Training:
    if TRAINING not in version.record["files"]:
        raise InputError(f"version {version.name} does not tell what it was trained on; register its run again")
    return Training.read(version.path(TRAINING))
