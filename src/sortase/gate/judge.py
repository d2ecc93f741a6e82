"""Rules on what a comparison found. A figure that is undefined passes no rule."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..config.gate import LEAST_RESAMPLES, GateSpec, Limit
from ..config.metrics import METRICS
from ..errors import InputError
from .result import OneClass, Result, wilson

COMPARE = {">=": operator.ge, ">": operator.gt, "<=": operator.le, "<": operator.lt}
ROUNDING = 1e-12  # 0.795 - 0.8 is a little less than -0.005
SHOWN = 5
RARE = 30
NO_CLASS = "cannot be judged: no class has enough evaluated units"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One rule. ``passed`` is None where it was skipped.

    ``interval`` is that of the difference, or (``interval_of``: challenger) of the challenger's own figure.
    """

    rule: str
    limit: str
    challenger: float | None = None
    champion: float | None = None
    difference: float | None = None
    interval: list[float] | None = None
    interval_of: str = "difference"
    passed: bool | None
    words: str

    @property
    def skipped(self) -> bool:
        return self.passed is None

    def plain(self) -> dict[str, Any]:
        return {**self.__dict__, "skipped": self.skipped}


def judge(result: Result, spec: GateSpec) -> list[Row]:
    """All rules, in the order of the configuration's fields.

    Raises:
        InputError: intervals are to decide, and rest on too few resamples.
    """
    refuse_coarse(spec, len(result.challenger.replicates.matrices), len(result.classes))
    rows = [_metric(result, spec, limit) for limit in spec.limits]
    for name, limit in spec.other_rules.items():
        rows.append(OTHERS[name](result, spec, limit))
    return rows


def refuse_coarse(spec: GateSpec, resamples: int, classes: int) -> None:
    """Of very many classes few resamples are kept."""
    if spec.by == "interval" and resamples < LEAST_RESAMPLES:
        raise InputError(
            f"gate.by is 'interval', but of {classes} classes memory holds {resamples} resamples, and the ends of an "
            f"interval ask for {LEAST_RESAMPLES}; use gate.by: estimate"
        )


def refuse_few_groups(spec: GateSpec, groups: int) -> None:
    """Whole groups vary together, so that the interval of a few of them is far too narrow to decide anything."""
    if spec.by == "interval" and groups < spec.min_groups:
        raise InputError(
            f"gate.by is 'interval', but the evaluated rows are of {groups} groups, and gate.min_groups asks for "
            f"{spec.min_groups}: intervals of so few are too narrow; evaluate more groups, or use gate.by: estimate"
        )


def uncompared(result: Result, spec: GateSpec) -> Iterator[str]:
    """A remark where no rule looks at what the champion gets right: then a worse model passes."""
    if (
        result.champion is None
        or spec.max_class_recall_drop is not None
        or any(each.relative and each.metric != "ece" for each in spec.limits)
    ):
        return
    ours, theirs = (each.value("macro_f1") for each in (result.challenger, result.champion))
    figures = "" if ours is None or theirs is None else f" (macro F1 {ours:.4f} against its {theirs:.4f})"
    yield (
        f"no rule compares the new model's quality with the champion's{figures}: a worse one passes, too; such a rule "
        "is gate.macro_f1: '>= champion - 0.005'"
    )


def untested(result: Result) -> Iterator[str]:
    """A remark on classes of the model that the evaluation set lacks."""
    if lacking := [each.name for each in result.classes if not each.units]:
        yield f"the evaluation set holds nothing of {named_classes(lacking)}: nothing is told of them"


def rare(result: Result, spec: GateSpec) -> Iterator[str]:
    """A remark on classes that decide, of units so few that resampling them tells too little of others."""
    few = [f"{each.name} ({each.units})" for each in _sorted_out(result, spec)[0] if each.units < RARE]
    if few and result.champion is not None and (spec.by == "interval" or spec.max_class_recall_drop is not None):
        yield (
            f"differences of {named_classes(few)} rest on fewer than {RARE} units, and their intervals are too narrow: "
            "what is called beyond noise may be chance"
        )


def meets(value: float, sign: str, limit: float) -> bool:
    return bool(COMPARE[sign](value, limit + (ROUNDING if sign in (">", "<=") else -ROUNDING)))


def _metric(result: Result, spec: GateSpec, limit: Limit) -> Row:
    ours = result.challenger.value(limit.metric)
    theirs = result.champion.value(limit.metric) if result.champion else None
    difference, paired = result.difference(limit.metric)
    own = None if limit.relative else result.challenger.figures["intervals"].get(limit.metric)
    shown: dict[str, Any] = {"rule": limit.metric, "limit": str(limit), "challenger": ours, "champion": theirs}
    shown |= {"difference": difference, "interval": paired}
    if limit.relative and result.champion is None:
        return Row(**shown, passed=None, words="no champion yet")
    decides, interval = (difference, paired) if limit.relative else (ours, own)
    if not limit.relative and spec.by == "interval":
        if limit.metric == "accuracy":
            own = interval = _cautious(spec, ours, own, result.members)
        shown |= {"interval": own, "interval_of": "challenger"}
    if decides is None:
        return Row(**shown, passed=False, words="undefined on this evaluation set, which passes no rule")
    low = METRICS[limit.metric].higher_is_better
    passed, words = _decided(spec, decides, interval, limit.sign, limit.value, low)
    noise = "" if result.champion is None else in_words(difference, paired, low)
    return Row(**shown, passed=passed, words=_joined(noise, words))


def _cautious(spec: GateSpec, share: float | None, interval: list[float] | None, units: int) -> list[float] | None:
    """By interval a share has the bootstrap's and Wilson's: where all units are right, all resamples are alike."""
    if spec.by != "interval" or interval is None or share is None:
        return interval
    low, high = wilson(share, units)
    return [min(interval[0], low), max(interval[1], high)]


def _decided(
    spec: GateSpec, value: float, interval: list[float] | None, sign: str, limit: float, low: bool
) -> tuple[bool, str]:
    """Whether the figure, or the worse end of its interval, meets the limit, and what there is to remark."""
    worse = None if interval is None else interval[0 if low else 1]
    if spec.by == "interval":
        if worse is None:
            return False, "there is no interval, and gate.by asks for one"
        passed = meets(worse, sign, limit)
        return passed, "" if passed or not meets(value, sign, limit) else "the estimate meets it, its interval does not"
    passed = meets(value, sign, limit)
    allows = passed and worse is not None and not meets(worse, sign, limit)
    return passed, f"its interval reaches {worse:.3f}, which would not" if allows else ""


def in_words(difference: float | None, interval: list[float] | None, higher: bool) -> str:
    """Whether a difference can be told from noise."""
    if difference is None:
        return ""
    if interval is None:
        return "no interval, so nothing tells this difference from noise" if difference else "no difference"
    if difference == 0 and interval == [0, 0]:
        return "no difference in any resample"
    if interval[0] <= 0 <= interval[1]:
        return "cannot be told from noise"
    return "better beyond noise" if (interval[0] > 0) == higher else "worse beyond noise"


def _joined(*words: str) -> str:
    return "; ".join(each for each in words if each)


def _sorted_out(result: Result, spec: GateSpec) -> tuple[list[OneClass], str, str]:
    """The classes that decide; in words that they are few, and which ones do not."""
    deciding = [each for each in result.classes if each.units >= spec.class_min_units]
    few = [each for each in result.classes if each.units < spec.class_min_units]
    if not few:
        return deciding, "", ""
    named = named_classes([f"{each.name} ({each.units})" for each in few])
    number, classes = len(few), len(result.classes)
    left_out = f"fewer than {spec.class_min_units} evaluated units of {number} of {classes} classes, so without a say"
    minority = f"decided by only {classes - number} of {classes} classes" if 2 * number > classes else ""
    return deciding, minority, f"{left_out}: {named}"


def named_classes(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _class_recall(result: Result, spec: GateSpec, limit: float) -> Row:
    deciding, minority, left_out = _sorted_out(result, spec)
    shown: dict[str, Any] = {"rule": "min_class_recall", "limit": f">= {limit:g}", "interval_of": "challenger"}
    known = [
        (each, each.recall, _cautious(spec, each.recall, each.interval, min(each.units, result.members)))
        for each in deciding
        if each.recall is not None
    ]
    if not known:
        return Row(**shown, passed=False, words=_joined(NO_CLASS, left_out))
    judged = [(each, recall, ends, *_decided(spec, recall, ends, ">=", limit, True)) for each, recall, ends in known]
    worst, recall, interval, _, remark = min(judged, key=lambda one: (one[3], _worse_end(spec, one[1], one[2])))
    failed = [f"{each.name} {recall:.3f}" for each, recall, _, passed, _ in judged if not passed]
    words = f"too low: {named_classes(failed)}" if failed else f"the lowest of a class is that of {worst.name}"
    shown |= {"challenger": recall, "champion": worst.champion_recall, "difference": worst.difference}
    return Row(**shown, interval=interval, passed=not failed, words=_joined(minority, words, remark, left_out))


def _class_drop(result: Result, spec: GateSpec, limit: float) -> Row:
    shown: dict[str, Any] = {"rule": "max_class_recall_drop", "limit": f"<= {limit:g}"}
    if result.champion is None:
        return Row(**shown, passed=None, words="no champion yet")
    deciding, minority, left_out = _sorted_out(result, spec)
    known = [(each, each.difference, each.difference_interval) for each in deciding if each.difference is not None]
    if not known:
        return Row(**shown, passed=False, words=_joined(NO_CLASS, left_out))
    judged = [(each, moved, ends, *_decided(spec, moved, ends, ">=", -limit, True)) for each, moved, ends in known]
    worst, change, interval, _, remark = min(judged, key=lambda one: (one[3], _worse_end(spec, one[1], one[2])))
    failed = [f"{each.name} {moved:+.3f}" for each, moved, _, passed, _ in judged if not passed]
    words = (
        f"dropped: {named_classes(failed)}" if failed else f"the largest change for the worse is that of {worst.name}"
    )
    noise = f"{worst.name}: {in_words(change, interval, True)}"
    shown |= {"challenger": worst.recall, "champion": worst.champion_recall, "difference": change}
    words = _joined(minority, words, noise, remark, left_out)
    return Row(**shown, interval=interval, passed=not failed, words=words)


def _worse_end(spec: GateSpec, value: float, interval: list[float] | None) -> float:
    return interval[0] if spec.by == "interval" and interval is not None else value


def _baseline(result: Result, spec: GateSpec, limit: float) -> Row:
    rival = result.rival
    shown: dict[str, Any] = {"rule": "must_beat_baseline", "limit": "> baseline"}
    if rival is None:
        words = "there is no baseline: neither training rows to fit one on, nor figures of one (evaluate.baseline)"
        return Row(**shown, passed=False, words=words)
    shown |= {"limit": "> baseline" if rival.macro_f1 is None else f"> {rival.macro_f1:.4f}", "challenger": rival.ours}
    words = f"macro F1 against {rival.name}, {rival.source}"
    if rival.ours is None or rival.macro_f1 is None:
        return Row(**shown, passed=False, words=_joined(words, "undefined, which passes no rule"))
    difference = rival.ours - rival.macro_f1
    passed, remark = _decided(spec, difference, rival.interval, ">", 0, True)
    noise = in_words(difference, rival.interval, True)
    shown |= {"difference": difference, "interval": rival.interval, "interval_of": "difference to the baseline"}
    return Row(**shown, passed=passed, words=_joined(words, noise, remark))


def _slowdown(result: Result, spec: GateSpec, limit: float) -> Row:
    ours = result.challenger.rows_per_second
    shown: dict[str, Any] = {"rule": "max_slowdown", "limit": f"<= {limit:g} times", "challenger": ours}
    if result.champion is None:
        return Row(**shown, passed=None, words="no champion yet")
    theirs = result.champion.rows_per_second
    words = f"rows per second; takes {theirs / ours:.2f} times as long as the champion"
    return Row(**shown, champion=theirs, passed=meets(theirs / ours, "<=", limit), words=words)


OTHERS = {
    "min_class_recall": _class_recall,
    "max_class_recall_drop": _class_drop,
    "must_beat_baseline": _baseline,
    "max_slowdown": _slowdown,
}


def worse_classes(result: Result, spec: GateSpec) -> Iterator[OneClass]:
    """Classes that decide and got worse beyond noise, whatever the rules say of them."""
    yield from (each for each in _sorted_out(result, spec)[0] if each.worse)
