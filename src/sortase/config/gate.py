"""What a challenger has to reach before it may take the champion's place."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ValidationInfo, create_model, field_validator, model_validator

from .base import Section
from .metrics import METRICS, NAMES, Metric

OTHER_RULES = ("min_class_recall", "max_class_recall_drop", "must_beat_baseline", "max_slowdown")
LEAST_RESAMPLES = 200  # of which the ends of a 95 % interval are not just the least and the greatest

_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_ABSOLUTE = re.compile(rf"\s*(?P<sign>[<>]=?)?\s*(?P<limit>[-+]?{_NUMBER})\s*")
_RELATIVE = re.compile(rf"\s*(?P<sign>[<>]=?)\s*champion\s*(?:(?P<way>[-+])\s*(?P<offset>{_NUMBER})\s*)?")


@dataclass(frozen=True)
class Limit:
    """A rule on one metric: ``sign`` (``>=``, ``>``, ``<=`` or ``<``) and ``value``, which is a limit or, where
    ``relative``, what is added to the champion's figure."""

    metric: str
    sign: str
    value: float
    relative: bool

    def __str__(self) -> str:
        if not self.relative:
            return f"{self.sign} {self.value:g}"
        offset = f" {'-' if self.value < 0 else '+'} {abs(self.value):g}" if self.value else ""
        return f"{self.sign} champion{offset}"


def parse_limit(metric: str, given: Any) -> Limit:
    """ValueError, which names the value and what is allowed, for anything else than a rule on this metric."""
    better = ">" if METRICS[metric].higher_is_better else "<"
    text = str(given) if isinstance(given, str | int | float) and not isinstance(given, bool) else ""
    if found := _RELATIVE.fullmatch(text):
        offset = float(f"{found['way'] or '+'}{found['offset'] or 0}")
        limit = Limit(metric, found["sign"], offset, relative=True)
    elif found := _ABSOLUTE.fullmatch(text):
        limit = Limit(metric, found["sign"] or f"{better}=", float(found["limit"]), relative=False)
    else:
        raise ValueError(
            f"gate.{metric}: {given!r} is not a rule; allowed are a number (at {'least' if better == '>' else 'most'}),"
            f" '{better}= 0.8', '{better} champion', '{better}= champion - 0.005', '{better}= champion + 0.01'"
        )
    if not limit.sign.startswith(better):
        raise ValueError(
            f"gate.{metric}: {given!r} asks for a worse model: {metric} is better when it is "
            f"{'higher' if better == '>' else 'lower'}; write '{better}=' or '{better}'"
        )
    if never := _never(limit):
        low, high = METRICS[metric].low, METRICS[metric].high
        lies = f"lies between {low:g} and {high:g}" if math.isfinite(high) else f"is never below {low:g}"
        differs = f", and two differ by {high - low:g} at most" if limit.relative else ""
        raise ValueError(f"gate.{metric}: {given!r} can never {never}; {metric} {lies}{differs}")
    return limit


def _never(limit: Limit) -> str:
    """What no figure can do about this limit: 'fail', or 'be met'."""
    low, high = METRICS[limit.metric].low, METRICS[limit.metric].high
    if limit.relative:
        low, high = low - high, high - low
    worst, best, value = (
        (low, high, limit.value) if METRICS[limit.metric].higher_is_better else (-high, -low, -limit.value)
    )
    strict = "=" not in limit.sign
    if value < worst or (value == worst and not strict):
        return "fail"
    return "be met" if value > best or (value == best and strict) else ""


def _metric_rule(metric: Metric) -> tuple[Any, Any]:
    least = "at least, such as 0.8, '>= 0.8', '>= champion - 0.005', '> champion'."
    most = "at most, such as 0.4, '<= 0.4', '<= champion + 0.01', '< champion'."
    limits = least if metric.higher_is_better else most
    return float | str | None, Field(None, description=f"{metric.words[0].upper()}{metric.words[1:]} {limits}")


_FIELDS: Any = {name: _metric_rule(metric) for name, metric in METRICS.items()}
if TYPE_CHECKING:
    _MetricRules = Section
else:
    _MetricRules = create_model("_MetricRules", __base__=Section, **_FIELDS)


class GateSpec(_MetricRules):
    """Rules of the gate, a line for each. Metrics take a number, or a quoted text such as '>= champion - 0.005'."""

    min_class_recall: float | None = Field(None, gt=0, le=1, description="Least recall of any class.")
    max_class_recall_drop: float | None = Field(
        None, ge=0, lt=1, description="How much less of a class may be found than the champion finds."
    )
    must_beat_baseline: bool = Field(False, description="Macro F1 above that of the best simple classifier.")
    max_slowdown: float | None = Field(
        None, gt=0, description="The champion's rows per second by the challenger's, at most."
    )
    class_min_units: int = Field(
        10, ge=1, description="Classes with fewer evaluated rows (or tokens) do not decide the rules on classes."
    )
    min_units: int = Field(
        30, ge=1, description="Fewer evaluated rows (or tokens, where tokens are held out) decide nothing: an error."
    )
    min_groups: int = Field(
        5, ge=2, description="Where groups of rows are resampled, fewer of them decide nothing by interval: an error."
    )
    first: Literal["wait", "promote"] = Field(
        "wait",
        description="What becomes of a model to which no rule applies, such as the first one where all rules compare "
        "with the champion: it waits for a person, or is promoted.",
    )
    by: Literal["estimate", "interval"] = Field(
        "estimate",
        description="What meets a rule: the figure, or the worse end of its (paired) 95 % interval, for accuracy and "
        "recall also of Wilson's.",
    )
    dataset: str | None = Field(
        None, description="Folder or URL of the frozen evaluation set (default: the challenger's test side)."
    )
    overlap: Literal["refuse", "drop"] = Field(
        "refuse", description="Evaluated rows that a model was trained on: an error, or left out for both models."
    )
    bootstrap: int = Field(1000, ge=0, description="Resamples behind the 95 % intervals; 0 for no intervals.")
    batch_size: int = Field(48, ge=1, description="Rows in one forward pass.")

    @field_validator(*NAMES, mode="before")
    @classmethod
    def _rule(cls, given: Any, info: ValidationInfo) -> Any:
        if given is not None:
            parse_limit(str(info.field_name), given)
        return given

    @field_validator("min_class_recall", "max_class_recall_drop", "max_slowdown", mode="before")
    @classmethod
    def _plain(cls, given: Any, info: ValidationInfo) -> Any:
        if given is None:
            return None
        name = info.field_name
        if isinstance(given, bool) or not re.fullmatch(rf"\s*[-+]?{_NUMBER}\s*", str(given)):
            raise ValueError(f"gate.{name}: {given!r} is not a number; give a plain number, such as {name}: 0.6")
        if name == "max_class_recall_drop" and float(given) >= 1:
            raise ValueError(f"gate.{name}: {given!r} can never fail; recall lies between 0 and 1")
        return given

    @field_validator("must_beat_baseline", mode="before")
    @classmethod
    def _yes_or_no(cls, given: Any) -> Any:
        if not isinstance(given, bool):
            raise ValueError(f"gate.must_beat_baseline: {given!r} is neither true nor false")
        return given

    @model_validator(mode="after")
    def _decides(self) -> Self:
        if not self.limits and not self.other_rules:
            raise ValueError(f"gate has no rule; give at least one of {', '.join(NAMES + OTHER_RULES)}")
        if self.by == "interval":
            if without := [limit.metric for limit in self.limits if not METRICS[limit.metric].interval]:
                raise ValueError(
                    f"gate.by is 'interval', but {' and '.join(without)} have no interval; use 'estimate', or rules on "
                    f"{', '.join(name for name, metric in METRICS.items() if metric.interval)}"
                )
            if self.bootstrap < LEAST_RESAMPLES:
                raise ValueError(
                    f"gate.by is 'interval', but gate.bootstrap is {self.bootstrap}; {LEAST_RESAMPLES} at least, "
                    "better 1000"
                )
        return self

    @property
    def limits(self) -> list[Limit]:
        """The rules on metrics."""
        given = {name: getattr(self, name) for name in METRICS}
        return [parse_limit(name, value) for name, value in given.items() if value is not None]

    @property
    def other_rules(self) -> dict[str, float]:
        given = {name: getattr(self, name) for name in OTHER_RULES}
        return {name: float(value) for name, value in given.items() if value is not None and value is not False}
