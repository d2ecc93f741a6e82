"""What a report says about the data: read, kept, divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..figures import data
from .parts import Files, Part, figure, notes, percent, several, table, text

STRATEGIES = {
    "random": "Rows were divided at random, each class in the same proportion.",
    "group": "Rows that share a value of column '{column}' went to one side together, with classes balanced as far as "
    "these groups allow: the test side is of groups that training has not seen.",
    "column": "Column '{column}' of the data says the side of each row.",
    "token": "Labelled tokens were held out, whichever rows they occur in: a token of the test side never shows its "
    "label in training, so that remembering it cannot help. All rows serve all sides.",
}


def kept(run: Mapping[str, Any], prepared: Mapping[str, Any], files: Files) -> list[Part]:
    """What was read, and what each step of preparation left, in all and per class."""
    steps = prepared.get("steps") or []
    parts = tokenized(_result(run, "tokenize"))
    if steps:
        first, last = steps[0], steps[-1]
        share = percent(last["rows"], first["rows"])
        parts.append(text(f"{last['rows']:,} of {several(first['rows'], 'row')} were kept ({share})."))
        parts += _steps(steps, bool(prepared.get("split")))
        if first.get("per_class") and first["per_class"] != last.get("per_class"):
            drawn = data.before_after(first["per_class"], last.get("per_class") or {})
            parts.append(figure(drawn, "before_after", "Rows of each class before and after preparation", "", files))
    if prepared.get("notes"):
        parts.append(notes(prepared["notes"]))
    if prepared.get("genes"):
        parts.append(genes(prepared["genes"]))
    return parts + _lengths(prepared.get("lengths") or {}, files)


def _result(run: Mapping[str, Any], stage: str) -> Mapping[str, Any]:
    return ((run.get("stages") or {}).get(stage) or {}).get("result") or {}


def tokenized(found: Mapping[str, Any]) -> list[Part]:
    """What tokenization read; nothing where the run began with tokens."""
    if "cells" not in found:
        return []
    words = [f"{several(found['cells'], 'cell')} tokenized"]
    if found.get("dropped"):
        words.append(f"{found['dropped']:,} dropped because none of their genes is known")
    if found.get("truncated"):
        words.append(
            f"{found['truncated']:,} cut to the longest length that was asked for, their lowest genes left out"
        )
    if found.get("genes"):
        words.append(f"{found.get('known_genes', 0):,} of {several(found['genes'], 'gene')} in the vocabulary")
    return [text("; ".join(words) + ".")] + ([notes(found["notes"])] if found.get("notes") else [])


def _steps(steps: Sequence[Mapping[str, Any]], divided: bool) -> list[Part]:
    """A column for the input and each step that dropped rows; the others in words.

    Where nothing was dropped, the table of a split (``divided``) shows the classes already.
    """
    pairs = list(pairwise(steps))
    idle = [STEPS.get(after["step"], after["step"]) for before, after in pairs if after["rows"] == before["rows"]]
    shown = [steps[0], *(after for before, after in pairs if after["rows"] != before["rows"])]
    names = sorted({name for step in shown for name in step.get("per_class") or {}})
    names.sort(key=lambda name: -max((step.get("per_class") or {}).get(name, 0) for step in shown))
    if len(shown) == 1 and divided:
        return [text("No step dropped a row; how many rows each class has is shown under Split.")]
    rows: list[list[Any]] = [["all rows", *(step["rows"] for step in shown)]]
    rows += [[name, *((step.get("per_class") or {}).get(name, 0) for step in shown)] for name in names]
    parts = [table(["class", *(_words(step["step"]) for step in shown)], rows, "Rows left after each step")]
    return [*parts, text(f"Nothing was dropped by: {', '.join(idle)}.")] if idle else parts


STEPS = {"label missing": "missing labels", "labelled": "labelling"}


def _words(step: str) -> str:
    return step if step == "input" else f"after {STEPS.get(step, step)}"


def genes(found: Mapping[str, Any]) -> Part:
    rows = [[name, c["given"], c["known"], c["seen"]] for name, c in found["per_class"].items()]
    heads = ["class", "given", "of these in the vocabulary", "of these in the data"]
    return table(heads, rows, "Genes (tokens) with a label")


def _lengths(found: Mapping[str, Any], files: Files) -> list[Part]:
    histogram = found.get("histogram") or {}
    if not histogram.get("counts"):
        return []
    caption = (
        f"Shortest {found['min']:,}, median {found['median']:,.0f}, mean {found['mean']:,.0f}, "
        f"longest {found['max']:,} tokens."
    )
    return [figure(data.lengths(histogram), "lengths", "Histogram of the lengths of the sequences", caption, files)]


def split(prepared: Mapping[str, Any], files: Files) -> list[Part]:
    found = prepared.get("split")
    if not found:
        return [text("The data was not divided into sides.")]
    unit, sides = found.get("unit", "row"), found.get("sides") or {}
    parts = [text(STRATEGIES.get(found["strategy"], "Strategy: {strategy}.").format(**{"column": None, **found}))]
    filled = {side: values["per_class"] for side, values in sides.items() if values.get("rows")}
    total = sum(values.get("rows", 0) for values in sides.values())
    parts.append(
        table(
            ["side", f"{unit}s", "share", "what it is for"],
            [
                [side, values.get("rows", 0), percent(values.get("rows", 0), total), PURPOSES.get(side, "")]
                for side, values in sides.items()
            ],
        )
    )
    if filled:
        drawn = data.class_balance(filled, unit)
        parts.append(figure(drawn, "class_balance", f"{unit}s of each class on each side", "", files))
        parts.append(_sides_table(filled, unit))
    return [*parts, text("Checks of the split:"), notes(checks(found))]


PURPOSES = {
    "train": "the model learns from it",
    "validation": "chooses when to stop and which checkpoint to keep",
    "test": "measured once, at the end",
}


def _sides_table(sides: Mapping[str, Mapping[str, int]], unit: str) -> Part:
    names = list(dict.fromkeys(name for counts in sides.values() for name in counts))
    rows = [[name, *(counts.get(name, 0) for counts in sides.values())] for name in names]
    return table(["class", *sides], rows, f"{unit.capitalize()}s of each class on each side")


def checks(found: Mapping[str, Any]) -> list[str]:
    """In words: groups and sequences on two sides, classes that a side lacks."""
    lines = []
    groups = found.get("groups") or {}
    if groups.get("count") is not None:
        crossing = groups.get("crossing") or 0
        lines.append(f"{crossing or 'None'} of {groups['count']:,} groups ('{found.get('column')}') is on two sides.")
    near = found.get("near_duplicates")
    lines += near_words(near) if near else ["Sequences that nearly repeat each other were not looked for."]
    missing = found.get("missing") or []
    lines += [f"Class '{m['class']}' is not on the {m['side']} side: it has only {m['why']}." for m in missing]
    return lines if missing else [*lines, "Every class is on every side."]


def near_words(near: Mapping[str, Any]) -> list[str]:
    """Rows that (nearly) occur on two sides would flatter the result."""
    checked = f"{near['checked']:,} rows compared"
    alike = f"at least {percent(near.get('similarity', 0.9))} alike"
    if not near["crossing"]:
        lines = [f"No row nearly repeats ({alike}) a row of another side; {checked}."]
    else:
        copies = f", {near['copies']:,} of them exact copies" if near.get("copies") else ""
        pairs = ", ".join(f"rows {a} and {b} ({percent(s)} alike)" for a, b, s in near["examples"][:3])
        crossing = (
            f"{several(near['crossing'], 'row')} of the validation and test sides nearly repeat ({alike}) a row of "
            f"another side{copies}; {checked}. This makes results look better than they are. Examples: {pairs}."
        )
        lines = [crossing]
    if near.get("unverified"):
        lines.append(
            f"{several(near['unverified'], 'further row')} looked alike, but were too many to compare in full."
        )
    return lines
