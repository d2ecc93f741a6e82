"""What a model should not be trusted with, as far as it follows from its run. Lines of Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..page.data import near_words
from ..page.parts import percent, several
from ..page.results import BASELINES
from .markdown import classes, code, escaped, quoted
from .results import SIDES, has_test_side

FEW = 20  # examples of a class
WEAK = 0.5  # recall
OVERCONFIDENT = 0.1  # calibration error

Facts = Mapping[str, Any]


def limits(run: Facts, prepared: Facts, evaluation: Facts | None) -> list[str]:
    """Ordered: how good it is, what was measured too little, how it was measured, what it has not read."""
    return [
        *(_quality(evaluation) if evaluation else ["It was not measured on rows that it has not seen."]),
        *_measured_on(prepared, evaluation),
        *_division(prepared, evaluation),
        *_left_out(run, prepared),
        "It always answers with one of its classes, also for input that belongs to none of them.",
    ]


def _quality(evaluation: Facts) -> Iterator[str]:
    chance = (evaluation.get("intervals") or {}).get("mcc")
    if chance and chance[0] <= 0:
        yield "It was not shown to be better than guessing: the 95 % interval of its Matthews correlation reaches 0."
    if not evaluation.get("baseline"):
        yield "It was not compared with a simple classifier; one may do as well."
    elif beats_baseline(evaluation) is False:
        yield _beaten(evaluation)
    rows = [row for row in evaluation.get("per_class") or [] if row.get("support")]
    weak = sorted((row for row in rows if (row.get("recall") or 0) < WEAK), key=lambda row: row.get("recall") or 0)
    if weak:
        yield f"It finds fewer than half of the test examples of {classes(len(weak))}: {_named(weak)}."
    ece = (evaluation.get("metrics") or {}).get("ece")
    if ece is not None and ece >= OVERCONFIDENT:
        yield f"Its probabilities are {percent(ece)} off on average; do not read them as chances of being right."


def beats_baseline(evaluation: Facts) -> bool | None:
    """By the interval of the paired difference, else by the figures; None where there is no baseline."""
    difference, rival = (evaluation.get("baseline") or {}).get("difference"), _rival(evaluation)
    if difference or rival is None:
        return bool(difference[0] > 0) if difference else None
    return bool(_macro_f1(evaluation) > rival[1])


def _macro_f1(measured: Facts) -> float:
    return float((measured.get("metrics") or {}).get("macro_f1") or 0)


def _rival(evaluation: Facts) -> tuple[str, float] | None:
    """The stronger baseline, and its macro F1."""
    found = evaluation.get("baseline") or {}
    measured = [(words, _macro_f1(found[name])) for name, words in BASELINES.items() if found.get(name)]
    return max(measured, key=lambda rival: rival[1], default=None)


def _beaten(evaluation: Facts) -> str:
    difference, rival = evaluation["baseline"].get("difference"), _rival(evaluation)
    name, theirs = rival or ("a baseline", 0.0)
    words = f"macro F1 {theirs:.3f} against {_macro_f1(evaluation):.3f} on the test side"
    if difference and difference[1] >= 0:
        return f"It was not shown to be better than {name}, which is much simpler: {words}; chance may explain that."
    how = "better" if difference else "at least as well"
    return f"{name.capitalize()}, which is much simpler, does {how}: {words}. Consider using that instead."


def _measured_on(prepared: Facts, evaluation: Facts | None) -> Iterator[str]:
    split = prepared.get("split") or {}
    sides, unit = split.get("sides") or {}, split.get("unit", "row")
    if evaluation:
        counts, of = (
            {row["class"]: row.get("support") or 0 for row in evaluation.get("per_class") or []},
            "test example",
        )
        if unit == "token":  # the same token is counted at each of its places there
            counts, of = {**counts, **(sides.get("test") or {}).get("per_class", {})}, "test token"
        told = {absent["class"] for absent in split.get("missing") or [] if absent["side"] == "test"}
        none = [name for name, n in counts.items() if not n and name not in told]
        if none:
            yield f"How well it finds {classes(len(none))} without {of}s is not known: {quoted(none)}."
        few = sorted((name for name, n in counts.items() if 0 < n < FEW), key=lambda name: counts[name])
        if few:
            rows = [f"'{escaped(name)}' ({counts[name]:,})" for name in few[:8]]
            yield (
                f"Figures of {len(few):,} of {classes(len(counts))} are uncertain, as they come from fewer than {FEW} "
                f"{of}s each: {', '.join(rows)}{_more(few)}."
            )
    learnt = (sides.get("train") or {}).get("per_class") or {}
    if set(learnt) <= set(prepared.get("classes") or []):
        few = sorted((name for name, n in learnt.items() if n < FEW), key=lambda name: learnt[name])
        if few:
            yield f"Learnt from fewer than {FEW} {unit}s each: {quoted(few)}."


def _division(prepared: Facts, evaluation: Facts | None) -> Iterator[str]:
    split = prepared.get("split")
    if not split:
        return
    strategy, measured = split.get("strategy"), has_test_side(prepared)
    if measured and strategy == "random":
        yield (
            "Rows were divided at random: rows that belong together (one donor, one document, one batch) may be on two "
            "sides, so that it may do worse on new ones than the figures say."
        )
    if measured and strategy == "column":
        yield (
            "The data says which row is on which side: whether rows that belong together (one donor, one document, one "
            "batch) are on two sides was not looked at."
        )
    if measured and strategy == "token":
        yield (
            "The test tokens are new to the model, but the rows around them are not: the figures say nothing about "
            "rows of another origin."
        )
    resampled = (evaluation or {}).get("bootstrap") or {}
    if measured and strategy == "group" and resampled.get("replicates") and resampled.get("unit") != "group":
        yield (
            f"The 95 % intervals come from resampled {resampled['unit']}s, but whole groups of column "
            f"{code(str(split.get('column')))} were held out: for what holds of new groups they are too narrow."
        )
    groups, near = split.get("groups") or {}, split.get("near_duplicates")
    if groups.get("crossing"):
        yield (
            f"{groups['crossing']:,} of {groups['count']:,} groups of column {code(str(split.get('column')))} are on "
            "more than one side: the figures are better than they would be for new groups."
        )
    if near is None and strategy != "token":
        yield "Whether test rows nearly repeat training rows was not looked at."
    elif near and (near.get("crossing") or near.get("unverified")):
        yield from map(escaped, near_words(near)[0 if near.get("crossing") else 1 :])
    for side in SIDES:
        yield from _absent([each for each in split.get("missing") or [] if each["side"] == side], side)


def _absent(found: list[Facts], side: str) -> Iterator[str]:
    if len(found) > 2:
        named = [f"'{escaped(each['class'])}' ({escaped(each['why'])})" for each in found[:8]]
        yield f"{classes(len(found))} are not on the {side} side, having too little: {', '.join(named)}{_more(found)}."
        return
    for each in found:
        yield escaped(f"Class '{each['class']}' is not on the {side} side: it has only {each['why']}.")


def _left_out(run: Facts, prepared: Facts) -> Iterator[str]:
    tokenized = ((run.get("stages") or {}).get("tokenize") or {}).get("result") or {}
    if tokenized.get("truncated"):
        yield (
            f"{tokenized['truncated']:,} of {several(tokenized.get('cells', 0), 'cell')} were cut to the longest "
            "length when they were tokenized; their lowest genes were left out."
        )
    cut = [note for note in (run.get("training") or {}).get("notes") or [] if " are cut to " in note]
    yield from (f"{escaped(note)}; what comes after is not read." for note in cut)
    absent = tokenized.get("genes", 0) - tokenized.get("known_genes", 0)
    if absent > 0:
        yield f"{absent:,} of {several(tokenized['genes'], 'gene')} of the data are not in the vocabulary: not read."
    lost = ((prepared.get("genes") or {}).get("missing_from_vocabulary") or {}).get("count")
    if lost:
        yield f"{several(lost, 'labelled gene')} {'is' if lost == 1 else 'are'} not in the vocabulary, and not learnt."
    steps, names = prepared.get("steps") or [], set(prepared.get("classes") or [])
    if prepared.get("task") == "sequence" and steps and names:
        gone = {name: n for name, n in (steps[0].get("per_class") or {}).items() if name not in names}
        if gone:
            yield (
                f"{classes(len(gone)).capitalize()} of the data ({several(sum(gone.values()), 'row')}) were left out, "
                f"and the model cannot name them: {quoted(sorted(gone))}."
            )
    unseen = [name for name, n in (prepared.get("units") or {}).items() if not n]
    if unseen:
        yield f"Classes that the data does not hold, and that were not learnt: {quoted(unseen)}."


def _named(rows: list[Facts]) -> str:
    shown = ", ".join(f"'{escaped(row['class'])}' ({percent(row.get('recall') or 0)})" for row in rows[:8])
    return shown + _more(rows)


def _more(items: list[Any]) -> str:
    return f" and {len(items) - 8:,} more" if len(items) > 8 else ""
