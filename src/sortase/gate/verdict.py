"""What the gate says: plain JSON to keep, a table for a terminal, and Markdown for the summary of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ..config.gate import GateSpec
from ..runs.folder import digest
from .judge import Row, rare, uncompared, untested, worse_classes
from .result import ModelScores, OneClass, Result

FORMAT = 1
HEAD = ("rule", "limit", "challenger", "champion", "difference", "95 % interval", "result")
OUTCOMES = {True: "passed", False: "FAILED", None: "skipped"}


def verdict(result: Result, rules: list[Row], spec: GateSpec, inputs: str | None = None) -> dict[str, Any]:
    """``inputs`` says in short what it was made from; by default the models' names, the rules and the rows."""
    names = [result.challenger.name, result.champion.name if result.champion else None]
    settings = spec.model_dump(mode="json")
    return {
        "format": FORMAT,
        "passed": _passed(rules, spec),
        "challenger": names[0],
        "champion": names[1],
        "judged": datetime.now(UTC).isoformat(timespec="seconds"),
        "inputs": inputs or digest([*names, settings, result.content]),
        "gate": settings,
        "rules": [row.plain() for row in rules],
        "worse_classes": [_class(each) for each in worse_classes(result, spec)],
        "classes": [_class(each) for each in result.classes],
        "classes_left_out": [each.name for each in result.classes if each.units < spec.class_min_units],
        "models": {
            role: _model(each)
            for role, each in (("challenger", result.challenger), ("champion", result.champion))
            if each is not None
        },
        "dataset": {
            "url": spec.dataset,
            "rows": result.rows,
            "units": result.challenger.figures["units"],
            "held_out": result.unit,
            "groups": result.groups,
            "fingerprint": result.content,
            "seen": result.seen,
        },
        "bootstrap": result.challenger.figures["bootstrap"],
        "remarks": [*result.remarks, *uncompared(result, spec), *untested(result), *rare(result, spec)],
        "seconds": round(result.seconds, 3),
    }


def _passed(rules: list[Row], spec: GateSpec) -> bool | None:
    """None where no rule applied, so that a person has to decide."""
    if any(not row.skipped for row in rules):
        return all(row.passed is not False for row in rules)
    return True if spec.first == "promote" else None


def _class(one: OneClass) -> dict[str, Any]:
    return {
        "class": one.name,
        "units": one.units,
        "recall": one.recall,
        "f1": one.f1,
        "interval": one.interval,
        "champion_recall": one.champion_recall,
        "champion_f1": one.champion_f1,
        "difference": one.difference,
        "difference_interval": one.difference_interval,
    }


def _model(measured: ModelScores) -> dict[str, Any]:
    figures = measured.figures
    return {
        "name": measured.name,
        "metrics": {name: measured.value(name) for name in figures["metrics"]},
        "intervals": figures["intervals"],
        "rows_per_second": round(measured.rows_per_second, 2),
    }


def text(found: dict[str, Any]) -> str:
    """An aligned table, with the words on each rule below its line."""
    lines = [HEAD, *(_cells(row) for row in found["rules"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    shown = [_aligned(HEAD, widths)]
    for row, cells in zip(found["rules"], lines[1:], strict=True):
        shown.append(_aligned(cells, widths))
        if row["words"]:
            shown.append(f"    {row['words']}")
    return "\n".join([_headline(found), "", *shown, "", *_facts(found)]) + "\n"


def _aligned(cells: tuple[str, ...], widths: list[int]) -> str:
    padded = [
        cell.rjust(width) if 2 <= place <= 4 else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(padded).rstrip()


def markdown(found: dict[str, Any]) -> str:
    """The same for a pull request or a job's summary."""
    head = (*HEAD, "")
    rows = [(*_cells(row), row["words"]) for row in found["rules"]]
    lines = [f"| {' | '.join(_escaped(cell) for cell in line)} |" for line in [head, *rows]]
    rule = "| " + " | ".join(["---", "---", "---:", "---:", "---:", "---", "---", "---"]) + " |"
    facts = [f"- {_escaped(line)}" for line in _facts(found)]
    return "\n".join([f"**{_escaped(_headline(found))}**", "", lines[0], rule, *lines[1:], "", *facts]) + "\n"


def _escaped(words: str) -> str:
    words = " ".join(words.split())
    for character in "\\|<>*`[]":
        words = words.replace(character, f"&#{ord(character)};")
    return words


def _headline(found: dict[str, Any]) -> str:
    against = f"against the champion {found['champion']}" if found["champion"] else "without a champion yet"
    outcome = {True: "passed the gate", False: "did NOT pass the gate", None: "was NOT judged"}[found["passed"]]
    if all(row["skipped"] for row in found["rules"]):
        outcome += ", as no rule could be applied"
    return f"{found['challenger']} {outcome} {against}"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    places = 1 if row["rule"] == "max_slowdown" else 4
    own = row["interval_of"] == "challenger"
    return (
        row["rule"],
        row["limit"],
        _number(row["challenger"], places),
        _number(row["champion"], places),
        _number(row["difference"], places, signed=True),
        interval_words(row["interval"], signed=not own) + (" (own)" if own and row["interval"] else ""),
        OUTCOMES[row["passed"]],
    )


def _number(value: float | None, places: int = 4, signed: bool = False) -> str:
    return "–" if value is None else f"{value:{'+' if signed else ''}.{places}f}"


def interval_words(interval: list[float] | None, signed: bool) -> str:
    return "–" if interval is None else " to ".join(_number(end, signed=signed) for end in interval)


def _facts(found: dict[str, Any]) -> list[str]:
    """What one has to know to trust the table."""
    data = found["dataset"]
    resampled = found["bootstrap"]
    lines = [f"{data['rows']:,} rows, {data['units']:,} units; fingerprint {data['fingerprint'][:12]}"]
    for name, count in data["seen"].items():
        if count:
            lines.append(f"{count:,} {data['held_out']}s that {name} was trained on were left out for all")
    if resampled["replicates"]:
        units = f"{data['groups']} groups" if resampled["unit"] == "group" else f"{resampled['unit']}s"
        lines.append(f"intervals: {resampled['replicates']} paired resamples of {units}; judged by {_by(found)}")
    if found["champion"] and resampled["replicates"]:
        lines.append(_worse(found))
    return lines + found["remarks"] + [f"took {found['seconds']:.1f} s"]


def _by(found: dict[str, Any]) -> str:
    return "the worse end" if found["gate"]["by"] == "interval" else "the estimate"


def _worse(found: dict[str, Any]) -> str:
    judged = len(found["classes"]) - len(found["classes_left_out"])
    if not found["worse_classes"]:
        return f"no class of {judged} got worse beyond noise"
    named = [
        f"{one['class']} (recall {one['difference']:+.3f}, {interval_words(one['difference_interval'], signed=True)})"
        for one in found["worse_classes"]
    ]
    return (
        f"worse beyond noise: {', '.join(named)}; of {judged} classes {judged * 0.025:.1f} are expected here by chance "
        "even when nothing changed"
    )


def words_of(found: dict[str, Any]) -> str:
    """Why a version did not pass, in one line."""
    if found["passed"] is None:
        return (
            "no rule of the gate applies without a champion; give a rule that does, such as gate.macro_f1: 0.8, set "
            "gate.first: promote, or promote it with --override WHY"
        )
    return "; ".join(_failure(row) for row in found["rules"] if row["passed"] is False) or "every rule is met"


def _failure(row: dict[str, Any]) -> str:
    figures = [
        f"{row[role]:.4f}{' of the champion' if role == 'champion' else ''}"
        for role in ("challenger", "champion")
        if row[role] is not None
    ]
    told = f" is {' against '.join(figures)}" if figures else ""
    return f"{row['rule']}{told}, asked for {row['limit']} ({row['words']})"
