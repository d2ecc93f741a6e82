"""What would end a retraining at the gate, found out before anything is trained."""

from __future__ import annotations

from .. import storage
from ..config.gate import GateSpec
from ..config.run import Config
from ..errors import ConfigError, MissingInputError
from ..gate.fairness import refuse_other_ids, without_seen
from ..model.task import task_of
from ..pipeline.run_folder import RunFolder
from ..pipeline.sides import read_sides
from ..registry.models import Model
from ..registry.versions import Version
from .evaluated import frozen_set
from .judging import contender


def foresee(config: Config, rules: GateSpec, model: Model) -> None:
    """Of the configuration alone.

    Raises:
        ConfigError: the run would have no test side, which its version is registered with.
        MissingInputError: the frozen evaluation set is not there.
    """
    if config.split.strategy != "column" and not config.split.test_size:
        raise ConfigError(
            f"split.test_size is {config.split.test_size}: a model of {model.url} is registered with its evaluation; "
            "leave a test side, also where gate.dataset names a frozen set"
        )
    if rules.dataset is not None and not storage.exists(rules.dataset):
        raise MissingInputError(f"gate.dataset: there is no dataset at {rules.dataset}")


def foresee_rows(config: Config, rules: GateSpec, champion: Version, folder: RunFolder) -> None:
    """Of the prepared data: whether the champion has seen what both would be judged on, or knows other classes.

    Raises:
        InputError: the comparison would not be fair; see ``gate.fairness``.
    """
    task = task_of(config.labels.task)
    judged = contender(champion)
    assert judged.training is not None
    sides = read_sides(
        folder.path("data", f"{config.run.prefix}_labeled.dataset"), folder.path("data", "split.parquet"), task
    )
    test, unit = sides.test, sides.unit
    if rules.dataset is not None:
        on = frozen_set(rules.dataset, task, champion.classes, judged.training.unit, config)
        test, unit = on.test, on.unit
        if on.classes is not None:
            refuse_other_ids(f"the champion {champion.name}", champion.classes, on.classes)
    without_seen(test, unit, {f"the champion {champion.name}": judged}, rules.overlap == "drop", rules.min_units)
