"""The report's section on a search: honest about what was chosen, and able to draw any hyperparameters."""

from __future__ import annotations

from typing import Any

import pytest

from report_data import run
from sortase.report.figures.tune import best_so_far, parallel
from sortase.report.page.page import page
from sortase.report.page.tune import tuning

ROWS = [
    ("done", 0.9, 3, {"learning_rate": 1e-3, "optim": "adamw_torch", "warmup_steps": 0, "odd": None}),
    ("done", 0.7, 1, {"learning_rate": 1e-5, "optim": "adafactor", "warmup_steps": 9, "odd": [1, 2]}),
    ("pruned", 0.95, 2, {"learning_rate": 1e-4, "optim": "adamw_torch", "warmup_steps": 5, "odd": True}),
    ("failed", None, 4, {"learning_rate": 1e-2, "optim": "adafactor", "warmup_steps": 5, "odd": "x" * 40}),
]


def searched(rows: Any = ROWS, **changes: Any) -> dict[str, Any]:
    table = [
        {
            "name": f"trial-{i:05d}",
            "status": status,
            "metric": metric,
            "step": 10,
            "seconds": 4.0,
            "start_seconds": 0.1,
            "finished": f"2026-01-02T03:04:{second:02d}",
            "parameters": parameters,
        }
        for i, (status, metric, second, parameters) in enumerate(rows)
    ]
    return {
        "trials": len(rows),
        "best": "trial-00000",
        "parameters": rows[0][3],
        "metric": "mcc",
        "mode": "max",
        "value": 0.9,
        "counts": {"done": 2, "pruned": 1, "failed": 1},
        "at_a_time": 2,
        "seconds": 75.0,
        "start_seconds": {"new_process": 8.0, "kept_process": 0.04},
        "table": table,
        **changes,
    }


def test_the_page_shows_the_search() -> None:
    html, files = page(run(tuning=searched()), None, None, [])
    assert "Search of hyperparameters" in html
    assert "2 trained to the end, 1 ended early, 1 failed" in html
    assert {"tune_parallel.svg", "tune_best.png"} <= files.keys()
    assert "8.0 s in a new process, &lt; 0.1 s in one" in html or "8.0 s in a new process, < 0.1 s in one" in html


def test_a_run_without_a_search_has_no_such_section() -> None:
    html, files = page(run(), None, None, [])
    assert "Search of hyperparameters" not in html
    assert not any(name.startswith("tune_") for name in files)


def test_one_trial_is_told_without_figures() -> None:
    files: dict[str, bytes] = {}
    parts = tuning({"tuning": searched(ROWS[:1])}, files)
    assert [part["kind"] for part in parts] == ["text", "table", "table", "text"]
    assert not files


def test_the_best_so_far_is_of_trials_that_have_a_model() -> None:
    """The pruned trial's 0.95 is a point, but not a step of the line."""
    figure = best_so_far(searched()["table"], "mcc", lower=False)
    (line,) = [line for line in figure.axes[0].lines if line.get_label() == "best so far"]
    assert list(line.get_ydata()) == [0.7, 0.7, 0.9, 0.9]
    lower = best_so_far(searched()["table"], "loss", lower=True)
    (line,) = [line for line in lower.axes[0].lines if line.get_label() == "best so far"]
    assert list(line.get_ydata()) == [0.7, 0.7, 0.7, 0.7]


@pytest.mark.parametrize("trials", [2, 3, 4])
def test_a_line_for_each_trial_with_a_result(trials: int) -> None:
    figure = parallel(searched(ROWS[:trials])["table"], "mcc", "trial-00000")
    drawn = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 5]
    assert len(drawn) == min(trials, 3)
    best = drawn[-1].get_ydata()
    assert best[0] == 1.0  # the largest learning rate of those with a result
    assert all(-0.01 <= height <= 1.01 for line in drawn for height in line.get_ydata())
