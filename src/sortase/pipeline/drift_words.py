"""What drift says: sentences, a table for a terminal, and Markdown for the summary of a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..report.card_markdown import bullets, escaped, table
from ..report.parts import Right

HEAD = ("what", "before", "now", "drift", "limit", "by chance", "")
FEW_ROWS = 200
_SENTENCES = {
    "min_rows": "there are {value:.2f} times as many rows as before",
    "class_shares": "the class shares moved by {value:.3g} (total variation distance)",
    "new_classes": "classes that had no row before and have some now: {value:.0f}",
    "vanished_classes": "classes that had rows before and have none now: {value:.0f}",
    "lengths": "the lengths of the rows moved by a population stability index of {value:.3g}",
    "unseen_tokens": "{value:.2%} of the tokens are ones that the earlier training rows never showed",
    "unknown_genes": "the share of genes that become no token rose by {value:.3g}",
}


def sentence(measure: dict[str, Any]) -> str:
    """A measure beyond its limit, with the setting that says so."""
    words = _SENTENCES[measure["setting"]].format(value=measure["value"])
    bound = "at least " if measure["at_least"] else ""
    words = f"{words}; the limit retrain.drift.{measure['setting']} is {bound}{measure['limit']:g}"
    if not measure["exceeded"]:
        words += f", but samples of these sizes may differ by {measure['chance']:.3g} by chance alone"
    return words


def caveat(rows: Sequence[int], exceeded: bool) -> list[str]:
    told = []
    if min(rows) < FEW_ROWS:
        told.append(f"with {min(rows):,} rows on one side only a large drift can be told from chance")
    if exceeded:
        told.append(
            "chance is reckoned for rows that are independent of each other; rows of one donor, batch or author are not"
        )
    return told


def text(told: dict[str, Any]) -> str:
    """An aligned table, the classes that moved most, and the words."""
    lines = [HEAD, *_rows(told)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    shown = ["  ".join([line[0].ljust(widths[0]), *_right(line[1:], widths[1:])]).rstrip() for line in lines]
    return "\n".join([*shown, *_facts(told), *told["words"]])


def _right(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [cell.rjust(width) for cell, width in zip(cells, widths, strict=True)]


def markdown(told: dict[str, Any]) -> str:
    """``told`` is a drift as JSON."""
    rows = [[line[0], *map(Right, line[1:-1]), line[-1]] for line in _rows(told)]
    points = [escaped(line) for line in [*_facts(told), *told["words"]]]
    return f"{table([name or ' ' for name in HEAD], rows)}\n\n{bullets(points)}\n"


def _rows(told: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for measure in told["measures"]:
        bound = "≥ " if measure["at_least"] else "≤ "
        rows.append(
            (
                measure["what"],
                _number(measure["before"]),
                _number(measure["after"]),
                _number(measure["value"]),
                "none" if measure["limit"] is None else f"{bound}{measure['limit']:g}",
                _number(measure["chance"]),
                "BEYOND" if measure["exceeded"] else "",
            )
        )
    return rows


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.3g}"


def _facts(told: dict[str, Any]) -> list[str]:
    lines = ["lengths: " + ", ".join(f"{n} {_number(a)} → {_number(b)}" for n, (a, b) in told["lengths"].items())]
    if told["classes"]:
        moved = [f"{each['class']} {each['before']:.1%} → {each['after']:.1%}" for each in told["classes"]]
        lines.append(f"classes that moved most: {', '.join(moved)}")
    for what, found in (("new", told["new"]), ("vanished", told["vanished"])):
        if found:
            named = ", ".join(f"{name} ({count:,} {told['unit']}s)" for name, count in found.items())
            lines.append(f"{what} classes: {named}")
    if told["unseen_ids"]:
        lines.append(f"{told['unseen_ids']:,} tokens occur that the earlier training rows never showed")
    return lines
