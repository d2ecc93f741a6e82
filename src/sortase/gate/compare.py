"""Challenger and champion on exactly the same rows."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from ..config.compute import ComputeSpec
from ..config.evaluate import EvaluateSpec
from ..config.gate import GateSpec
from ..data.checks import check_labels, check_tokens, overlong
from ..data.fingerprints import Unit, content
from ..data.sequences import Sequences
from ..errors import InputError
from ..model.device import model_on_device
from ..model.inputs import check_token_types
from ..model.load import Trained, load_trained
from ..model.metrics.bootstrap import Groups, affordable
from ..model.metrics.metrics import Metrics
from ..score.evaluate import EvaluateJob, compare
from ..score.parts import RemoteScorer, divide
from ..types import Log
from . import fairness
from .fairness import Contender, vocabulary_digest
from .judge import refuse_coarse, refuse_few_groups
from .paired import Local, PairedModel, Rounds, remote_model, score_all
from .result import BaselineScores, ModelScores, Result, classes_of

__all__ = ["Contender", "contest", "vocabulary_digest"]

FEW_GROUPS = 10


def contest(
    challenger: Contender,
    champion: Contender | None,
    test: Sequences,
    *,
    unit: Unit,
    spec: GateSpec,
    classes: dict[str, int] | None = None,
    groups: np.ndarray | None = None,
    tokenised: tuple[str, str | None] | None = None,
    train: Sequences | None = None,
    compute: ComputeSpec | None = None,
    remote: Callable[[str], RemoteScorer] | None = None,
    seed: int = 0,
    log: Log = lambda words: None,
) -> Result:
    """Score the challenger, and the champion if there is one.

    Args:
        test: the evaluation set with labels; ``classes`` is its class map where it tells (``fairness.frozen``).
        unit: what its split held out, rows or tokens; that is what the intervals resample, too.
        groups: where whole groups of rows were held out, the group of each row of ``test``, as integers; then groups
            are resampled. Rows of a group are equal numbers. With unit ``token`` they say nothing.
        tokenised: of a frozen set, its name for words and the digest of its vocabulary where that is known.
        train: the challenger's training side, for the baseline of ``must_beat_baseline``.
        remote: for a model's URL the processes that score it; its dataset is the one whose rows ``test`` shows, and
            both models are sent to the challenger's processes.

    Raises:
        InputError: the comparison would not be fair, or there is too little to compare on.
    """
    started = time.monotonic()
    contenders = [challenger] if champion is None else [challenger, champion]
    called = [f"the {role} {each.name}" for role, each in zip(("challenger", "champion"), contenders, strict=False)]
    loaded = [load_trained(each.model) for each in contenders]
    remarks = _refuse_unfair(called, contenders, loaded, test, classes, tokenised)
    ours = loaded[0]
    refuse_coarse(spec, affordable(spec.bootstrap, len(ours.class_map)), len(ours.class_map))
    known = None if groups is None or unit != "row" else _by_row(test, groups)
    test = fairness.labelled_rows(test)
    if not len(test):
        raise InputError(f"the evaluation set holds no labelled {ours.task.unit}; there is nothing to compare on")
    named = dict(zip(called, contenders, strict=True))
    test, seen = fairness.without_seen(test, unit, named, spec.overlap == "drop", spec.min_units)
    for trained in loaded:
        check_tokens(test, trained.model.config.vocab_size)
        check_token_types(test, trained.model)
    check_labels(test, len(ours.class_map))
    remarks += _cut(called, loaded, test)
    if known is not None:
        known = Groups.by_row(test.rows, known.of(test.rows))
        refuse_few_groups(spec, known.count)
        if known.count == 1:
            known = None
            remarks.append("all evaluated rows are of one group, so rows were resampled: intervals may be too narrow")
        elif known.count < FEW_GROUPS:
            remarks.append(
                f"the intervals rest on {known.count} groups and are too narrow: with fewer than {FEW_GROUPS}, what is "
                "called beyond noise may be chance, above all of classes that few groups have"
            )
    log(f"gate: {' and '.join(called)} on {len(test):,} rows")
    make = partial(Metrics, ours.classes, bootstrap=spec.bootstrap, seed=seed, cluster=unit, groups=known)
    metrics, speeds = _scored(contenders, loaded, test, make, spec, compute or ComputeSpec(), remote)
    measured = [ModelScores.of(*each) for each in zip((c.name for c in contenders), metrics, speeds, strict=True)]
    rival = None
    if spec.must_beat_baseline:
        rival = _own(challenger)
        if train is not None:
            rival = _fitted(ours, test, train, unit, spec, seed, known, metrics[0], log)
    return Result(
        challenger=measured[0],
        champion=measured[1] if champion else None,
        rival=rival,
        classes=classes_of(ours.classes, measured[0], measured[1] if champion else None),
        rows=len(test),
        unit=unit,
        content=content(test),
        seen=seen,
        seconds=time.monotonic() - started,
        groups=None if known is None else known.count,
        remarks=remarks,
    )


def _refuse_unfair(
    called: list[str],
    contenders: list[Contender],
    loaded: list[Trained],
    test: Sequences,
    classes: dict[str, int] | None,
    tokenised: tuple[str, str | None] | None,
) -> list[str]:
    ours, name = loaded[0], called[0]
    remarks: list[str | None] = []
    if classes is not None:
        fairness.refuse_other_ids(name, ours.class_map, classes)
    else:
        remarks.append("the evaluation set does not tell its classes: its class ids were taken as the challenger's")
    if len(contenders) == 2:
        theirs, other = loaded[1], called[1]
        fairness.refuse_other_task(name, ours.task, other, theirs.task)
        fairness.refuse_other_classes(name, ours.class_map, other, theirs.class_map)
        one, two = (
            (each.vocabulary or fairness.digest_of(trained.tokenizer), int(trained.model.config.vocab_size))
            for each, trained in zip(contenders, loaded, strict=True)
        )
        remarks.append(fairness.refuse_other_vocabulary(name, one, other, two))
        fairness.refuse_other_lengths(name, ours.max_length, other, theirs.max_length, test, ours.task)
    if tokenised is not None:
        for each, trained in zip(called, loaded, strict=True):
            remarks.append(fairness.refuse_other_tokens(each, trained.tokenizer, *tokenised))
    return [words for words in remarks if words]


def _by_row(test: Sequences, groups: np.ndarray) -> Groups:
    if groups.shape != (len(test),) or not np.issubdtype(groups.dtype, np.integer):
        raise InputError(
            f"groups are {groups.dtype}, shape {groups.shape}; expected an integer for each of the {len(test)} "
            "evaluated rows"
        )
    return Groups.by_row(test.rows, groups)


def _cut(called: list[str], loaded: list[Trained], test: Sequences) -> list[str]:
    """What each model does not read."""
    return [
        f"{cut} of {len(test)} sequences are cut to {trained.max_length} tokens for {name}"
        for name, trained in zip(called, loaded, strict=True)
        if (cut := overlong(test, trained.max_length))
    ]


def _scored(
    contenders: list[Contender],
    loaded: list[Trained],
    test: Sequences,
    make: Callable[[], Metrics],
    spec: GateSpec,
    compute: ComputeSpec,
    remote: Callable[[str], RemoteScorer] | None,
) -> tuple[list[Metrics], list[float]]:
    entrants: list[PairedModel] = []
    there = [remote(each.model) for each in contenders] if remote is not None else []
    with ExitStack() as placed:
        for place, trained in enumerate(loaded):
            if there:
                entrants.append(remote_model(there[place], trained, test, spec.batch_size))
            else:
                precision = placed.enter_context(model_on_device(trained.model, compute))
                entrants.append(Local(trained, test, spec.batch_size, precision))
        parts = divide(loaded[0], test, spec.batch_size)
        rounds = Rounds(tuple(entrants), make)
        return score_all(rounds, parts, there[0] if there else None, timed=spec.max_slowdown is not None)


def _fitted(
    trained: Trained,
    test: Sequences,
    train: Sequences,
    unit: Unit,
    spec: GateSpec,
    seed: int,
    groups: Groups | None,
    metrics: Metrics,
    log: Log,
) -> BaselineScores:
    """Fitted anew, and measured on the very same rows."""
    job = EvaluateJob(
        trained=trained,
        test=test,
        train=train,
        split_unit=unit,
        settings=EvaluateSpec(batch_size=spec.batch_size, bootstrap=spec.bootstrap),
        precision="fp32",
        seed=seed,
        groups=groups,
    )
    found = compare(job, train, metrics, log)
    return _best(found, metrics.result()["metrics"]["macro_f1"], "fitted on the challenger's training side")


def _own(challenger: Contender) -> BaselineScores | None:
    found = challenger.evaluation
    if not found or not found.get("baseline"):
        return None
    return _best(
        found["baseline"], found["metrics"]["macro_f1"], "as in the challenger's own evaluation, on its test side"
    )


def _best(found: dict[str, Any], ours: float | None, source: str) -> BaselineScores:
    learnt = found["logistic_regression"]
    each = [(found["majority"], "the majority class"), (learnt, f"logistic regression on {learnt['features']}")]
    known = [(rival["metrics"]["macro_f1"], name) for rival, name in each if rival["metrics"]["macro_f1"] is not None]
    value, name = max(reversed(known), key=lambda one: one[0], default=(np.nan, "the baseline"))
    interval = found["difference"]
    return BaselineScores(name, None if np.isnan(value) else float(value), ours, interval, source)
