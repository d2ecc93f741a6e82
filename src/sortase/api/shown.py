"""What a notebook shows of results: a verdict, and metrics with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..config.metrics import METRICS

_SHOWN = ("macro_f1", "accuracy", "balanced_accuracy", "mcc", "auroc")


class ShownMetrics(dict[str, Any]):
    """Metrics by name, as any dict. A notebook shows them as a table."""

    def __init__(self, values: Mapping[str, Any], evaluation: Mapping[str, Any]):
        super().__init__(values)
        self._evaluation = evaluation

    def _repr_html_(self) -> str:
        return metrics_html(self._evaluation, list(METRICS))


def metrics_html(evaluation: Mapping[str, Any], names: Sequence[str] = _SHOWN) -> str:
    """The verdict and a table of metrics, as HTML, of the content of evaluation.json."""
    values, intervals = evaluation["metrics"], evaluation.get("intervals") or {}
    rows = [_row(name, values[name], intervals.get(name)) for name in names if values.get(name) is not None]
    heads = "".join(f"<th>{escape(head)}</th>" for head in ("metric", "value", "95 % interval"))
    verdict = (evaluation.get("baseline") or {}).get("verdict") or ""
    return (
        f"<p>{escape(verdict)}</p>" * bool(verdict)
        + f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        + f"<p>On {evaluation['units']:,} {escape(evaluation['unit'])}s.</p>"
    )


def _row(key: str, value: float, interval: Sequence[float] | None) -> str:
    metric, shown = METRICS[key], "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
    name = f'<td title="{escape(metric.meaning)}">{escape(metric.words)}</td>'
    return f"<tr>{name}<td>{value:.3f}</td><td>{shown}</td></tr>"
