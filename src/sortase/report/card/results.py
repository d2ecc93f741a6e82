"""The sections of a model card on data and results: pieces of Markdown, empty where the run says nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ...config.metrics import METRICS
from ..page.data import STEPS, STRATEGIES, checks, tokenized
from ..page.parts import bounds, percent, several
from ..page.results import BASELINES
from .markdown import bullets, code, escaped, table

MOST_CLASSES = 50
MOST_MISSING = 8
FIGURES = ("precision", "recall", "f1")
SIDES = ("train", "validation", "test")

Facts = Mapping[str, Any]


def data(prepared: Facts, run: Facts, spec: Facts, source: Any) -> str:
    """Where rows came from, which were kept, and the classes."""
    shown = source if isinstance(source, list) else [source] if source else []
    words = [f"Name: {escaped(spec['data_name'])}."] if spec.get("data_name") else []
    words += [f"Source: {', '.join(code(str(each)) for each in shown)}."] if shown else []
    words.append(f"Licence of the data: {escaped(spec.get('data_license') or 'not given').rstrip('.')}.")
    lines = [" ".join(words)]
    result = ((run.get("stages") or {}).get("tokenize") or {}).get("result") or {}
    lines += [escaped(part["text"]) for part in tokenized(result) if part["kind"] == "text"]
    lines += [_steps(prepared["steps"])] if prepared.get("steps") else []
    lines += [bullets([escaped(note) for note in prepared["notes"]])] if prepared.get("notes") else []
    found = prepared.get("lengths") or {}
    if found.get("max"):
        lines.append(
            f"A row has {found['min']:,} to {found['max']:,} tokens, {found['median']:,.0f} at the median. "
            f"Labels: {_origin(prepared)}."
        )
    return "\n\n".join([*lines, _class_table(prepared)] if prepared.get("classes") else lines)


def _origin(prepared: Facts) -> str:
    if prepared.get("task") == "token":
        return "of single tokens (genes), by the classes of the configuration"
    return f"column {code(str(prepared['column']))}" if prepared.get("column") else "of the prepared rows"


def _steps(steps: Sequence[Facts]) -> str:
    first, last = steps[0]["rows"], steps[-1]["rows"]
    if first == last:
        return f"All {several(first, 'row')} were used."
    lost = [
        f"{before['rows'] - after['rows']:,} by {code(str(STEPS.get(after['step'], after['step'])))}"
        for before, after in pairwise(steps)
        if before["rows"] > after["rows"]
    ]
    return f"{last:,} of {several(first, 'row')} were used ({percent(last, first)}); dropped: {', '.join(lost)}."


def _class_table(prepared: Facts) -> str:
    """In the order of ids; where there are too many, the most frequent."""
    names, units = list(prepared["classes"]), prepared.get("units") or {}
    split, of_genes = prepared.get("split") or {}, (prepared.get("genes") or {}).get("per_class") or {}
    sides = {side: ((split.get("sides") or {}).get(side) or {}).get("per_class") or {} for side in SIDES}
    sides = {side: counts for side, counts in sides.items() if counts and set(counts) <= set(names)}
    shown = names
    if len(names) > MOST_CLASSES:
        shown = sorted(names, key=lambda name: -units.get(name, 0))[:MOST_CLASSES]
    unit = "rows" if prepared.get("task") == "sequence" else "labelled tokens"
    of = "" if unit == "rows" else f" ({split.get('unit', 'row')}s)"
    heads = ["id", "class", unit, *(["genes in the data"] if of_genes else []), *(f"{side}{of}" for side in sides)]
    ids = {name: number for number, name in enumerate(names)}
    rows = [
        [
            ids[name],
            name,
            units.get(name),
            *([(of_genes.get(name) or {}).get("seen")] if of_genes else []),
            *(counts.get(name, 0) for counts in sides.values()),
        ]
        for name in shown
    ]
    rest = f"\n\nThe {len(shown)} most frequent of {len(names):,} classes; all are in `config.json`."
    return table(heads, rows) + (rest if len(shown) < len(names) else "")


def split(prepared: Facts) -> str:
    found = prepared.get("split")
    if not found:
        return "The data was not divided into sides."
    words = STRATEGIES.get(found["strategy"], "Strategy: {strategy}.")
    unit, sides = found.get("unit", "row"), found.get("sides") or {}
    counts = ", ".join(f"{side} {values.get('rows', 0):,}" for side, values in sides.items())
    how = escaped(words.format(**{"column": None, **found}))
    missing = found.get("missing") or []
    lines = checks({**found, "missing": missing[:MOST_MISSING]})
    if len(missing) > MOST_MISSING:
        lines.append(f"So it is {len(missing) - MOST_MISSING:,} times more; the run's report has them all.")
    return f"{how} {unit.capitalize()}s: {counts}.\n\n{bullets([escaped(line) for line in lines])}"


def training(run: Facts) -> str:
    """How long it learnt, and which of its checkpoints it is."""
    found, config = run.get("training") or {}, run.get("config") or {}
    if not found.get("steps"):
        return ""
    words = several(found["steps"], "optimizer step")
    epochs = f"{found.get('epochs') or 0:.4g}"
    words += f" ({epochs} epoch{'s' if epochs != '1' else ''})" if epochs != "0" else ""
    words += f" on {several(found['rows'], 'row')}" if found.get("rows") else ""
    if found.get("best_step"):
        metric = str((config.get("train") or {}).get("metric"))
        best = f", the best on the validation side by {METRICS[metric].words}" if metric in METRICS else ""
        words += f"; the weights are those of step {found['best_step']:,}{best}"
    seed = (config.get("run") or {}).get("seed")
    return f"{words}." + (f" Seed {seed}." if seed is not None else "")


def uncertain(interval: Sequence[float] | None) -> Sequence[float] | None:
    """The interval, unless it has no width: where all resamples agree it would say that nothing is uncertain."""
    return interval if interval and interval[0] < interval[1] else None


def has_test_side(prepared: Facts) -> bool:
    return bool((((prepared.get("split") or {}).get("sides") or {}).get("test") or {}).get("rows"))


def results(evaluation: Facts | None, prepared: Facts) -> str:
    """Metrics beside those of the baselines, and who is better in one sentence."""
    if evaluation is None:
        why = "the run was not evaluated" if has_test_side(prepared) else "no rows were kept for a test"
        return f"How well the model does is not known: {why}."
    unit, bootstrap = evaluation.get("unit", "row"), evaluation.get("bootstrap") or {}
    what = several(evaluation.get("units", 0), unit)
    what += "" if unit == "row" else f" in {several(evaluation.get('rows', 0), 'row')}"
    words = f"Measured once, on the test side: {what}."
    if bootstrap.get("replicates"):
        words += f" The 95 % intervals come from {bootstrap['replicates']:,} resamples of {bootstrap['unit']}s."
    if any(interval and not uncertain(interval) for interval in (evaluation.get("intervals") or {}).values()):
        words += " A figure on which all of them agree has no interval; that does not make it certain."
    compared = evaluation.get("baseline") or {}
    lines = [f"**{escaped(compared['verdict'])}**"] if compared.get("verdict") else []
    lines += [f"**{escaped(evaluation['learnt_nothing']['words'])}**"] if evaluation.get("learnt_nothing") else []
    lines += [words, _metrics(evaluation, compared)]
    votes = evaluation.get("per_token_type")
    if votes:
        rivals = {name: (compared.get(name) or {}).get("per_token_type") for name in BASELINES}
        lines += [
            f"Each of the {several(votes.get('tokens', 0), 'token')} held out once, by the mean of its probabilities:",
            _metrics(votes, rivals),
        ]
    return "\n\n".join(lines)


def _metrics(found: Facts, rivals: Facts) -> str:
    values, intervals = found.get("metrics") or {}, found.get("intervals") or {}
    beside = {words: rivals.get(name) for name, words in BASELINES.items()}
    known = {words: rival["metrics"] for words, rival in beside.items() if rival and rival.get("metrics")}
    rows = [
        [
            metric.words,
            values[name],
            bounds(uncertain(intervals.get(name))),
            *(metrics.get(name) for metrics in known.values()),
        ]
        for name, metric in METRICS.items()
        if name in values
    ]
    return table(["metric", "this model", "95 % interval", *known], rows)


def each_class(evaluation: Facts) -> str:
    """The worst first; where there are too many, only those. Without test examples there is nothing to measure."""
    rows, unit = evaluation.get("per_class") or [], evaluation.get("unit", "row")
    if not rows:
        return ""
    worst = sorted(rows, key=lambda row: (not row.get("support"), row.get("f1") or 0))
    shown = [
        [row["class"], *(row.get(name) if row.get("support") else None for name in FIGURES), row.get("support") or 0]
        for row in worst
    ]
    text = table(["class", "precision", "recall", "F1", f"test {unit}s"], shown[:MOST_CLASSES])
    if len(rows) > MOST_CLASSES:
        text += f"\n\nThe {MOST_CLASSES} worst of {len(rows):,} classes; all are in the run's `evaluation.json`."
    return text


def calibration(evaluation: Facts) -> str:
    ece = (evaluation.get("metrics") or {}).get("ece")
    if ece is None:
        return ""
    return (
        f"The model's probability and the share of answers that are right differ by {percent(ece)} on average "
        f"(expected calibration error, ECE, {ece:.3f})."
    )
