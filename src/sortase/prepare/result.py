"""What prepare made: where it lies, and what each step kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_MOST_CLASSES = 40


@dataclass(frozen=True)
class Prepared:
    """Paths of the prepared dataset and what belongs to it; ``summary`` is the content of prepare.json.

    ``split_path`` is None when no split was asked for. ``inputs`` identifies source and settings.
    ``skipped``: everything was there already, made from the same inputs.
    """

    dataset_path: str
    label_map_path: str
    split_path: str | None
    summary: dict[str, Any]
    inputs: str
    skipped: bool = False

    @property
    def class_map(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.summary["classes"])}

    @property
    def remarks(self) -> list[str]:
        """What became of genes that were skipped or are in several classes, in sentences."""
        return list((self.summary.get("genes") or {}).get("remarks") or [])

    def table(self) -> str:
        """What each step kept, per class, for a person."""
        steps = self.summary["steps"]
        names = [name for name in steps[0]["per_class"] if any(name in step["per_class"] for step in steps)]
        names.sort(key=lambda name: (-steps[-1]["per_class"].get(name, 0), name))
        heads = ["step", "rows", *names[:_MOST_CLASSES]]
        rows = [[step["step"], step["rows"], *(step["per_class"].get(n, 0) for n in heads[2:])] for step in steps]
        parts = [_transposed(heads, rows), *_split_lines(self.summary.get("split")), *self.summary["notes"]]
        if len(names) > _MOST_CLASSES:
            parts.insert(1, f"and {len(names) - _MOST_CLASSES} smaller classes")
        return "\n".join(parts)


def _transposed(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Steps as columns and classes as lines: there are more classes than steps."""
    lines = [["", *(str(row[0]) for row in rows)]]
    lines += [[name, *(f"{row[i]:,}" for row in rows)] for i, name in enumerate(heads) if i > 0]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(_line(line, widths) for line in lines)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
    return "  ".join([cells[0].ljust(widths[0]), *numbers]).rstrip()


def _split_lines(split: dict[str, Any] | None) -> list[str]:
    if split is None:
        return []
    counts = ", ".join(f"{side} {values['rows']:,}" for side, values in split["sides"].items())
    lines = [f"split by {split['strategy']} ({split['unit']}s): {counts}"]
    if split["groups"]["count"] is not None:
        lines.append(f"{split['groups']['crossing']} of {split['groups']['count']} groups are on more than one side")
    if split["near_duplicates"] is not None:
        near = split["near_duplicates"]
        lines.append(
            f"{near['crossing']} rows (nearly) repeat a row of an earlier side ({near['copies']} exactly); "
            f"{near['checked']:,} of {near['rows']:,} rows were compared"
        )
    return lines + [f"class '{m['class']}' is not on the {m['side']} side: {m['why']}" for m in split["missing"]]
