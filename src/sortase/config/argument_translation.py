"""From what users of the field pass to the settings that we have, by the table of training arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from .argument_values import plain
from .metrics import METRICS, NAMES
from .training_arguments import OLDER_OPTIMIZERS, TABLE, Argument
from .worlds import in_words, name_of

OTHER_NAMES = {
    "f1": "macro_f1",
    "f1_macro": "macro_f1",
    "f1_weighted": "weighted_f1",
    "acc": "accuracy",
    "matthews_correlation": "mcc",
    "roc_auc": "auroc",
    "average_precision": "auprc",
}
ALMOST_ALL = 1 - 1e-9  # Trainer takes warmup_steps of 1 for one step, and less than 1 for a share
TRACKERS = ("tensorboard", "mlflow", "wandb")
PRECISIONS = {"bf16": "bf16", "bf16_full_eval": "bf16", "fp16": "fp16", "fp16_full_eval": "fp16"}


@dataclass
class Understood:
    """``settings`` of ``train``; why other arguments have no ``effect``, by name; ``remarks`` on what was meant."""

    settings: dict[str, Any] = field(default_factory=dict)
    idle: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """A line for all arguments without effect, and one for each remark."""
        idle = ", ".join(f"{name} ({reason})" for name, reason in self.idle.items())
        return [*([f"these training arguments have no effect here: {idle}"] if idle else []), *self.remarks]


def look_up(name: Any, own: Mapping[str, Any]) -> Argument:
    """The row of a name; ValueError with what is near for an unknown one."""
    if name in TABLE:
        return TABLE[name]
    near = get_close_matches(str(name), [*own, *TABLE], n=3)
    raise ValueError(
        f"unknown training argument {name!r}; " + (f"did you mean {', '.join(near)}?" if near else "no such field")
    )


def checked(argument: Argument, value: Any, python: bool) -> Any:
    """The value as plain data; ValueError where it is of the wrong kind, or refused."""
    value = plain(value)
    if value is False and argument.name.endswith("_strategy"):
        value = "no"  # what YAML 1.1 makes of it
    if value is None and (argument.setting or argument.verdict != "honoured" or argument.name == "greater_is_better"):
        return None
    if argument.verdict != "honoured" and argument.is_silent(value):
        return value
    if wrong := argument.takes.check(value):
        raise ValueError(f"{argument.name} {wrong}")
    reason = argument.unless(value) if argument.unless else None
    reason = argument.reason if argument.verdict == "refused" else reason
    if reason:
        raise ValueError(f"{argument.name}={value!r} is refused: {in_words(reason, python)}")
    return argument.takes.read(value)


def taken_out(
    arguments: Mapping[str, Any], given: Mapping[str, Any], python: bool = False
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments that are settings of other sections, apart from the rest: ``(rest, {"run.seed": 7, ...})``.

    ``given``: what the user has set there. Another value in two places is an error that names both, except for the
    batch size of evaluation, where the setting itself counts.
    """
    rest: dict[str, Any] = dict(arguments)
    found: dict[str, Any] = {}
    sources = {
        setting: (name_of(setting, python), value, sorted(value, key=str) if isinstance(value, list) else value)
        for setting, value in given.items()
        if value is not None and value != "auto"
    }

    def put(setting: str, name: str, value: Any) -> None:
        other, shown, same = sources.setdefault(setting, (name, arguments[name], value))
        if same != value:
            raise ValueError(
                f"{name} and {other} contradict each other: {arguments[name]!r} and {shown!r}; give one of them"
            )
        found[setting] = value

    for name, raw in arguments.items():
        argument = TABLE.get(name)
        if argument is None or argument.setting is None or argument.setting.startswith("train."):
            continue
        value = checked(argument, raw, python)
        if argument.setting == "tracking.to":
            _trackers(value, given, rest, put)
            continue
        if argument.setting == "evaluate.batch_size" and given.get(argument.setting) not in (None, value):
            continue  # the setting counts; the rest keeps the argument, which says so
        del rest[name]
        if argument.setting in ("compute.precision", "compute.device"):
            value = (PRECISIONS.get(name) or "cpu") if value else None
        if value is not None:
            put(argument.setting, name, value)
    return rest, found


def _trackers(value: Any, given: Mapping[str, Any], rest: dict[str, Any], put: Any) -> None:
    """Those that we have are told, where trackers can be told; the rest keeps the others."""
    if "tracking.to" not in given or value is None:
        return
    names = [value] if isinstance(value, str) else value
    if ours := sorted(set(names) & set(TRACKERS)):
        put("tracking.to", "report_to", ours)
        rest["report_to"] = [name for name in names if name not in TRACKERS]


def understood(arguments: Mapping[str, Any], own: Mapping[str, Any], python: bool = False) -> Understood:
    """Arguments of training as settings of ``train``; ``own`` are the names that we have ourselves.

    Each argument ends up under the name that the installed library has, or as the setting that means the same.

    Raises:
        ValueError: a name is unknown, a value of the wrong kind or refused, or two contradict each other.
    """
    made = Understood()
    sources: dict[str, tuple[str, Any]] = {}
    greater: bool | None = None

    def put(setting: str, name: str, value: Any, shown: Any) -> None:
        if setting in sources and made.settings[setting] != value:
            other, otherwise = sources[setting]
            raise ValueError(f"{name} and {other} contradict each other: {shown!r} and {otherwise!r}; give one of them")
        made.settings[setting] = value
        sources[setting] = (name, shown)

    for name, raw in arguments.items():
        if name in own:
            put(name, name, raw, raw)
            continue
        argument = look_up(name, own)
        value = checked(argument, raw, python)
        if name == "greater_is_better":
            greater = value
        elif argument.verdict != "honoured":
            if not argument.is_silent(value):
                made.idle[name] = in_words(argument.reason, python)
        elif argument.setting is None:
            put(name, name, _read(name, value), raw)
        elif value is not None:
            _translate(argument, value, put, made.idle, python)
    _warm_up(plain(arguments.get("warmup_ratio")), made)
    _best(arguments, made, sources, greater)
    return made


def _read(name: str, value: Any) -> Any:
    """What a value means to the installed library."""
    if name == "optim":
        return OLDER_OPTIMIZERS.get(value, value)
    if name == "max_grad_norm" and value is None:
        return 0.0
    if name == "save_total_limit" and value == 0:
        return None
    return value


def _translate(argument: Argument, value: Any, put: Any, idle: dict[str, str], python: bool) -> None:
    name, setting = argument.name, str(argument.setting)
    if not setting.startswith("train."):
        _leave(argument, value, idle, python)
    elif name == "metric_for_best_model":
        put("metric", name, metric_of(value), value)
    elif name == "adafactor":
        if value:
            put("optim", name, "adafactor", value)
    elif name != "warmup_ratio":
        put(setting.removeprefix("train."), name, value, value)


def _leave(argument: Argument, value: Any, idle: dict[str, str], python: bool) -> None:
    """A setting of another section that nobody has taken out."""
    name, setting = argument.name, str(argument.setting)
    if setting == "tracking.to":
        if not argument.is_silent(value):
            idle[name] = f"trackers are {', '.join(TRACKERS)}"
    elif setting == "evaluate.batch_size":
        idle[name] = f"{name_of(setting, python)} decides it"
    elif value:
        raise ValueError(f"{name} is a setting of another section: {name_of(setting, python)}")


def metric_of(name: str) -> str:
    """Our name of a metric, given with or without ``eval_``, and as other libraries call it."""
    short = name.removeprefix("eval_")
    short = OTHER_NAMES.get(short, short)
    if short not in NAMES:
        raise ValueError(f"metric_for_best_model must be one of {', '.join(NAMES)}, got {name!r}")
    return short


def _warm_up(ratio: float | None, made: Understood) -> None:
    """As in the versions that had both, ``warmup_steps`` counts where it is given and not 0."""
    if ratio is None:
        return
    if ratio > 1:
        raise ValueError(f"warmup_ratio must be a share of all steps between 0 and 1, got {ratio!r}")
    if not made.settings.get("warmup_steps"):
        made.settings["warmup_steps"] = min(ratio, ALMOST_ALL)
    elif ratio:
        made.idle["warmup_ratio"] = "warmup_steps is given"


def _best(
    arguments: Mapping[str, Any], made: Understood, sources: Mapping[str, tuple[str, Any]], greater: bool | None
) -> None:
    """What the best model is must be as the user thinks."""
    metric = made.settings.get("metric", "macro_f1")
    if greater is not None and greater == (not METRICS[metric].higher_is_better):
        name, value = sources.get("metric", ("metric", metric))
        raise ValueError(
            f"greater_is_better={greater} does not fit {name}={value!r}, which is better when it is "
            f"{'lower' if greater else 'higher'}"
            + ("" if "metric" in sources else "; give metric_for_best_model beside it")
        )
    best = plain(arguments.get("load_best_model_at_end")) is True
    if best and made.settings.get("eval_strategy") == "no":
        raise ValueError(
            "load_best_model_at_end=True and eval_strategy='no' contradict each other: the best model is known by "
            "evaluations"
        )
    if best and "metric" not in sources:
        made.remarks.append(
            f"the best model is the one with the best {metric}; Trainer chooses by the loss where "
            "metric_for_best_model is not given"
        )
    named = plain(arguments.get("metric_for_best_model"))
    if isinstance(named, str) and named.removeprefix("eval_") == "f1":
        made.remarks.append("metric_for_best_model=f1 is taken as macro_f1, the mean over the classes")
