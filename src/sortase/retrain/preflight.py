"""What would end a retraining at the gate, found out before anything is trained."""

from __future__ import annotations

from .. import storage
from ..config.gate import GateSpec
from ..config.run import Config
from ..data import classmap
from ..errors import ConfigError, MissingInputError
from ..gate.fairness import labelled_rows, refuse_other_classes, refuse_other_ids, without_seen
from ..gate.judge import refuse_coarse
from ..model.metrics.bootstrap import affordable
from ..model.task import task_of
from ..prepare.subsets import read_splits
from ..registry.exclusive import require_exclusive
from ..registry.models import Model
from ..registry.versions import Version
from ..runs.folder import RunFolder
from .evaluation_set import frozen_set
from .judging import contender


def foresee(config: Config, rules: GateSpec, model: Model, champion: Version | None) -> None:
    """Of the configuration, and the registry.

    Raises:
        ConfigError: the run would have no test side, which its version is registered with; or the registry's storage
            does not create files exclusively.
        InputError: its classes would not be the champion's, or the champion's files are not all there.
        MissingInputError: the frozen evaluation set is not there.
        StorageError: the registry cannot be written.
    """
    if config.split.strategy != "column" and not config.split.test_size:
        raise ConfigError(
            f"split.test_size is {config.split.test_size}: a model of {model.url} is registered with its evaluation; "
            "leave a test side, also where gate.dataset names a frozen set"
        )
    if champion is not None:
        champion.check()
    if champion is not None and config.labels.mapping is not None:
        refuse_other_classes("labels.mapping", config.labels.mapping, f"the champion {champion.name}", champion.classes)
    if rules.dataset is not None and not storage.exists(rules.dataset):
        raise MissingInputError(f"gate.dataset: there is no dataset at {rules.dataset}")
    with storage.impatiently():
        require_exclusive(model.url)


def foresee_rows(config: Config, rules: GateSpec, champion: Version | None, folder: RunFolder) -> None:
    """Of the prepared data: whether there are rows enough to judge on that the champion has not seen, in its classes.

    Raises:
        InputError: the comparison would not be fair; see ``gate.fairness``.
    """
    task, data = task_of(config.labels.task), folder.data(config.run.prefix)
    classes = classmap.read(data.class_map_json)
    refuse_coarse(rules, affordable(rules.bootstrap, len(classes)), len(classes))
    sides = read_splits(data.dataset, data.split, task)
    test, unit = sides.test, sides.unit
    if rules.dataset is not None:
        on = frozen_set(rules.dataset, task, classes, unit, config)
        test = on.test
        if on.classes is not None:
            refuse_other_ids("the new model", classes, on.classes)
    seen = {f"the champion {champion.name}": contender(champion)} if champion is not None else {}
    without_seen(labelled_rows(test), unit, seen, rules.overlap == "drop", rules.min_units)
