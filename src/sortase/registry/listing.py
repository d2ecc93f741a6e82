"""What the registry holds, for a person to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .versions import Version


def _columns(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def listed(known: Mapping[str, Mapping[str, str]]) -> str:
    """Models and their aliases."""
    return _columns(
        [[name, *[", ".join(f"{a} {v}" for a, v in sorted(aliases.items()))]] for name, aliases in known.items()]
    )


def described(found: Iterable[Version], aliases: Mapping[str, str], whole: bool) -> str:
    """A line a version, newest first; ``whole``: everything of one."""
    if whole:
        return "\n\n".join(_whole(each, aliases) for each in found)
    rows = [["version", "aliases", "macro F1", "accuracy", "registered", "by"]]
    for each in found:
        record = each.record
        metrics = record["metrics"]
        named = ", ".join(sorted(alias for alias, version in aliases.items() if version == each.name))
        rows.append(
            [
                each.name,
                named,
                _number(metrics["macro_f1"]),
                _number(metrics["accuracy"]),
                str(record["registered"]),
                str(record["context"]["who"]),
            ]
        )
    return _columns(rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _whole(version: Version, aliases: Mapping[str, str]) -> str:
    record = version.record
    come = record["lineage"]
    facts = {
        "version": version.name,
        "aliases": ", ".join(sorted(alias for alias, name in aliases.items() if name == version.name)) or "none",
        "model": version.model,
        "run": record["run"],
        "classes": ", ".join(version.classes),
        "metrics": ", ".join(f"{name} {_number(value)}" for name, value in record["metrics"].items()),
        "baseline": record["baseline"] or "not measured",
        "data": f"{come['data']['fingerprint']} of {come['data']['source']}",
        "settings": come["config"],
        "code": _code(come),
        "parents": ", ".join(f"{each['model']} {each['version'] or ''}".strip() for each in come["parents"]) or "none",
        "registered": f"{record['registered']} by {record['context']['who']}",
    }
    return _columns([[name, value] for name, value in facts.items()])


def _code(come: Mapping[str, Any]) -> str:
    code = come["code"] or {}
    parts = [f"sortase {code.get('sortase', '?')}", f"commit {code.get('commit') or 'unknown'}"]
    return ", ".join([*parts, *([f"image {come['image']}"] if come["image"] else [])])


def told(moves: Iterable[Mapping[str, Any]]) -> str:
    """Every move in a line: when, what, who, why."""
    rows = []
    for each in moves:
        why = "; ".join(
            words
            for words in (
                each["why"],
                f"override: {each['override']}" if each.get("override") else None,
                f"gate: {each['gate']}" if each.get("gate") else None,
                each["context"].get("where"),
            )
            if words
        )
        change = f"{each['before'] or 'unset'} -> {each['version']}"
        rows.append(
            [str(each["number"]), each["when"], each["kind"], each["alias"], change, each["context"]["who"], why]
        )
    return _columns(rows)
