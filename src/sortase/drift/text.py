"""What drift says: sentences, a table for a terminal, and Markdown for the summary of a job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..report.card.markdown import bullets, escaped, one_line, table
from ..report.page.parts import Right, several

HEAD = ("what", "before", "now", "drift", "limit", "by chance", "")
FEW_ROWS = 200
MOST_NAMED = 8
_SENTENCES = {
    "min_rows": "there are {shown} times as many rows as before",
    "class_shares": "the class shares moved by {shown} (total variation distance)",
    "new_classes": "classes that had no row before and have some now: {value:,.0f}",
    "vanished_classes": "classes that had rows before and have none now: {value:,.0f}",
    "lengths": "the lengths of the rows moved by a population stability index of {shown}",
    "unseen_tokens": "{value:.2%} of the tokens are ones that the earlier training rows never showed",
    "unknown_genes": "the share of genes that become no token rose by {shown}",
}


def sentence(measure: dict[str, Any]) -> str:
    """A measure beyond its limit, with the setting that says so."""
    words = _SENTENCES[measure["setting"]].format(value=measure["value"], shown=_number(measure["value"]))
    words = f"{words}; the limit retrain.drift.{measure['setting']} is {_limit(measure, 'at least ', '')}"
    if measure["count"] and measure["chance"]:
        return f"{words}, {'and' if measure['exceeded'] else 'but'} chance alone explains {measure['chance']:,} of them"
    if not measure["exceeded"]:
        words += f", but samples of these sizes may differ by {_number(measure['chance'])} by chance alone"
    return words


def _limit(measure: dict[str, Any], least: str, most: str) -> str:
    return f"{least if measure['at_least'] else most}{measure['limit']:,.12g}"


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
    said = map(one_line, [*_facts(told), *told["words"]])
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    shown = ["  ".join([line[0].ljust(widths[0]), *_right(line[1:], widths[1:])]).rstrip() for line in lines]
    return "\n".join([*shown, *said])


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
        rows.append(
            (
                measure["what"],
                _number(measure["before"]),
                _number(measure["after"]),
                _number(measure["value"]),
                "none" if measure["limit"] is None else _limit(measure, "≥ ", "≤ "),
                _number(measure["chance"]),
                "BEYOND" if measure["exceeded"] else "",
            )
        )
    return rows


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 999.5 else f"{value:.3g}"


def _facts(told: dict[str, Any]) -> list[str]:
    lines = ["lengths: " + ", ".join(f"{n} {_number(a)} → {_number(b)}" for n, (a, b) in told["lengths"].items())]
    if told["classes"]:
        moved = [f"{each['class']} {_share(each['before'])} → {_share(each['after'])}" for each in told["classes"]]
        lines.append(f"classes that moved most: {', '.join(moved)}")
    counted = {measure["setting"]: int(measure["value"]) for measure in told["measures"]}
    left_out = told.get("left_out") or {}
    counts = {"new": counted["new_classes"] - len(left_out), "vanished": counted["vanished_classes"]}
    for what, count in counts.items():
        if told[what]:
            lines.append(f"{what} classes: {_named(told[what], told['unit'], count)}")
    if left_out:
        lines.append(left_out_words(told))
    if told["unseen_ids"]:
        lines.append(f"{several(told['unseen_ids'], 'token')} never shown by the earlier training rows")
    return lines


def left_out_words(told: dict[str, Any]) -> str:
    found, rows = told["left_out"], sum(told["left_out"].values())
    return (
        f"left out, as the model does not know their labels: {several(rows, 'row')} "
        f"({_share(rows / (rows + told['rows'][1]))}): {_named(found, 'row', len(found))}"
    )


def _named(found: dict[str, int], unit: str, count: int) -> str:
    """The first few of ``count`` classes; ``found`` may hold fewer of them."""
    shown = [f"{name} ({several(n, unit)})" for name, n in list(found.items())[:MOST_NAMED]]
    return ", ".join(shown) + (f" and {count - len(shown):,} more" if count > len(shown) else "")


def _share(value: float) -> str:
    return f"{100 * value:.3g}%"
