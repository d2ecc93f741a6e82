"""The gate between a registered version and the champion: by which rules, and where the verdict is kept."""

from __future__ import annotations

import uuid
from typing import Any

from .. import storage
from ..config.gate import GateSpec
from ..config.run import Config
from ..data import vocabulary
from ..gate.compare import contest
from ..gate.fairness import Contender
from ..gate.judge import judge
from ..gate.verdict import verdict
from ..pipeline.executor import Executor
from ..registry import verdicts
from ..registry.models import Model
from ..registry.versions import Version
from ..runs import layout
from ..runs.folder import digest
from ..score.parts import RemoteScorer
from ..types import Log
from .evaluation_set import evaluated
from .register import training_hashes

FORMAT = 4  # of what a verdict is made from


def judge_version(
    model: Model,
    version: Version,
    champion: Version | None,
    config: Config,
    spec: GateSpec,
    executor: Executor,
    log: Log,
) -> tuple[dict[str, Any], str]:
    """The verdict on ``version`` by ``spec``, and its URL. One that was made from the same is not made again, unless it
    is about speed, which the machine has a share in.

    Raises:
        InputError: a version's files are not what was registered, or the comparison would not be fair; see
            ``gate.fairness``.
    """
    for each in filter(None, (version, champion)):
        each.verify()
    inputs = _inputs(version, champion, config, spec)
    found = verdicts.find(model, version, inputs)
    if found is None:
        log(f"gate: {version.name} against {champion.name if champion else 'absolute rules; there is no champion yet'}")
        found = _judged(version, champion, config, spec, executor, inputs, log)
    else:
        log(f"gate: {version.name} was judged before from the same")
    return verdicts.keep(model, version, found)


def _inputs(version: Version, champion: Version | None, config: Config, spec: GateSpec) -> str:
    parts = [FORMAT, version.name, champion and champion.name, spec.model_dump(mode="json"), config.run.seed]
    if spec.dataset:
        labels = config.labels.model_dump(mode="json", exclude={"mapping"})
        parts += [storage.fingerprint(spec.dataset), labels, config.retrain.new_labels]
        parts += [config.split.strategy, config.split.column]
    if spec.max_slowdown is not None:
        parts.append(uuid.uuid4().hex)
    return digest(parts)


def _judged(
    version: Version,
    champion: Version | None,
    config: Config,
    spec: GateSpec,
    executor: Executor,
    inputs: str,
    log: Log,
) -> dict[str, Any]:
    on = evaluated(version, config, spec)
    map_ = executor.score_map

    def remote(url: str) -> RemoteScorer:
        assert map_ is not None
        return RemoteScorer(map=map_, model=url, dataset=on.url, compute=config.compute)

    result = contest(
        contender(version, evaluation=storage.read_json(version.path(layout.EVALUATION))),
        contender(champion) if champion else None,
        on.test,
        unit=on.unit,
        groups=on.groups,
        tokenised=(f"the evaluation set {spec.dataset}", vocabulary.of_dataset(spec.dataset)) if spec.dataset else None,
        spec=spec,
        classes=on.classes,
        train=on.train,
        compute=config.compute,
        remote=remote if map_ is not None else None,
        seed=config.run.seed,
        log=log,
    )
    result.remarks.extend(on.remarks)
    return verdict(result, judge(result, spec), spec, inputs)


def contender(version: Version, evaluation: dict[str, Any] | None = None) -> Contender:
    return Contender(
        name=version.name,
        model=version.model,
        training=training_hashes(version),
        vocabulary=version.record["vocabulary"],
        evaluation=evaluation,
    )
