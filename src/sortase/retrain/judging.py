"""The gate between a registered version and the champion: on which rows, and where the verdict is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import storage
from ..config.gate import GateSpec
from ..config.load import check
from ..config.prepare import DataSpec, LabelSpec
from ..config.run import Config
from ..data.fingerprints import Unit
from ..data.sequences import Sequences
from ..data.source import open_source
from ..errors import MissingInputError
from ..gate.contest import Contender, contest
from ..gate.fairness import frozen
from ..gate.judge import judge
from ..gate.verdict import verdict
from ..model.task import Task, task_of
from ..pipeline.parts import Elsewhere
from ..pipeline.prepare import prepare
from ..pipeline.run_folder import RunFolder, digest
from ..pipeline.sides import Sides, read_sides
from ..pipeline.where import Where
from ..registry.models import Model
from ..registry.versions import Version
from . import verdicts
from .register import training_hashes

Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluated:
    """The rows that are judged on: of the dataset at ``url``, whose class map is ``classes`` where it tells."""

    url: str
    test: Sequences
    classes: dict[str, int] | None
    unit: Unit


def judge_version(
    model: Model, version: Version, champion: Version | None, config: Config, spec: GateSpec, where: Where, say: Say
) -> tuple[dict[str, Any], str]:
    """The verdict on ``version`` by ``spec``, and its URL. One that was made from the same is not made again.

    Raises:
        InputError: the comparison would not be fair; see ``gate.fairness``.
    """
    inputs = digest([version.name, champion and champion.name, spec.model_dump(mode="json"), _data_of(version, spec)])
    found = verdicts.find(model, version, inputs)
    if found is None:
        say(f"gate: {version.name} against {champion.name if champion else 'absolute rules; there is no champion yet'}")
        found = _judged(version, champion, config, spec, where, inputs, say)
    else:
        say(f"gate: {version.name} was judged before from the same")
    return found, verdicts.keep(model, version, found)


def words_of(found: dict[str, Any]) -> str:
    """The rules that were not met, in one line."""
    return "; ".join(_failure(row) for row in found["rules"] if row["passed"] is False) or "every rule is met"


def _failure(row: dict[str, Any]) -> str:
    figures = [
        f"{row[role]:.4f}{' of the champion' if role == 'champion' else ''}"
        for role in ("challenger", "champion")
        if row[role] is not None
    ]
    told = f" is {' against '.join(figures)}" if figures else ""
    return f"{row['rule']}{told}, asked for {row['limit']} ({row['words']})"


def _data_of(version: Version, spec: GateSpec) -> str:
    return storage.fingerprint(spec.dataset) if spec.dataset else f"the test side of {version.name}"


def _judged(
    version: Version, champion: Version | None, config: Config, spec: GateSpec, where: Where, inputs: str, say: Say
) -> dict[str, Any]:
    folder = RunFolder(version.record["run"])
    task = task_of(version.record["task"])
    sides = _sides(folder, task) if spec.dataset is None or spec.must_beat_baseline else None
    on = _evaluated(version, folder, task, config, spec, sides)
    map_ = where.score_map

    def elsewhere(url: str) -> Elsewhere:
        assert map_ is not None
        return Elsewhere(map=map_, model=url, dataset=on.url, compute=config.compute)

    result = contest(
        _contender(version),
        _contender(champion) if champion else None,
        on.test,
        unit=on.unit,
        spec=spec,
        classes=on.classes,
        train=sides.train if sides else None,
        compute=config.compute,
        elsewhere=elsewhere if map_ is not None else None,
        seed=config.run.seed,
        say=say,
    )
    return verdict(result, judge(result, spec), spec, inputs)


def _contender(version: Version) -> Contender:
    return Contender(
        name=version.name,
        model=version.model,
        training=training_hashes(version),
        vocabulary=version.record["vocabulary"],
        evaluation=storage.read_json(version.path("evaluation.json")),
    )


def _prepared(folder: RunFolder) -> str | None:
    run = folder.read("run.json")
    if run is None:
        return None
    prefix = check(run["config"], f"{folder.url}/run.json").run.prefix
    url = folder.path("data", f"{prefix}_labeled.dataset")
    return url if storage.exists(url) else None


def _sides(folder: RunFolder, task: Task) -> Sides | None:
    """None where the run's data are gone; the registry holds no copy of them."""
    prepared = _prepared(folder)
    return read_sides(prepared, folder.path("data", "split.parquet"), task) if prepared else None


def _evaluated(
    version: Version, folder: RunFolder, task: Task, config: Config, spec: GateSpec, sides: Sides | None
) -> Evaluated:
    if spec.dataset is None:
        prepared = _prepared(folder)
        if sides is None or prepared is None:
            raise MissingInputError(
                f"the data of {folder.url} are gone, and with them the test side of {version.name}; name a frozen "
                "evaluation set in gate.dataset"
            )
        return Evaluated(prepared, sides.test, version.classes, sides.unit)
    url = spec.dataset if _is_labelled(spec.dataset, task) else _labelled(version, folder, config, spec.dataset)
    test, classes = frozen(url, task)
    return Evaluated(url, test, classes, training_hashes(version).unit)


def _is_labelled(url: str, task: Task) -> bool:
    """Whether the dataset has class ids already, as a run's prepared data have."""
    feature = open_source(url).features.get(task.label_column)
    return isinstance(feature, dict) and ("names" in feature or feature.get("_type") in ("List", "Sequence"))


def _labelled(version: Version, folder: RunFolder, config: Config, url: str) -> str:
    """The dataset with class ids of this model, made from its column of labels."""
    labels: LabelSpec = config.labels.model_copy(update={"mapping": version.classes})
    out = folder.path("gate")
    return prepare(url, DataSpec(), labels, out, "evaluation", replace=True).dataset_path
