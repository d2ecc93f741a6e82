"""What the stages of a small run write, for tests of the report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sortase import storage

NAMES = ["B", "NK", "T"]
COUNTS = np.array([[5, 1, 0], [2, 7, 1], [0, 0, 9]])
SCORES = {"accuracy": 0.84, "balanced_accuracy": 0.85, "macro_f1": 0.83, "weighted_f1": 0.84, "mcc": 0.76}


def measured(**changes: Any) -> dict[str, Any]:
    metrics = {**SCORES, "loss": 0.4, "auroc": None, "auprc": 0.9, "ece": 0.05}
    intervals = {name: [value - 0.1, value + 0.1] for name, value in SCORES.items()}
    return {"metrics": metrics, "intervals": intervals, **changes}


def evaluation(names: list[str] = NAMES, matrix: np.ndarray = COUNTS, **changes: Any) -> dict[str, Any]:
    """evaluation.json with these classes."""
    per_class = [
        {
            "class": name,
            "precision": 0.5,
            "recall": 0.6,
            "f1": None if i == 0 else 0.55,
            "support": int(matrix[i].sum()),
            "auroc": None,
            "auprc": 0.5,
        }
        for i, name in enumerate(names)
    ]
    whole = {
        "task": "sequence",
        "classes": names,
        "rows": int(matrix.sum()),
        "units": int(matrix.sum()),
        "unit": "row",
        **measured(),
        "bootstrap": {"replicates": 1000, "unit": "row", "level": 0.95},
        "per_class": per_class,
        "confusion_matrix": matrix.tolist(),
        "reliability": {
            "edges": [0, 0.5, 1],
            "count": [0, 25],
            "confidence": [None, 0.9],
            "accuracy": [None, 0.84],
        },
        "mistakes": [mistake(true=names[0], predicted=names[-1])],
        "per_token_type": None,
        "baseline": {
            "majority": measured(),
            "logistic_regression": measured(features="bag of tokens", seconds=1.2, train_units=560),
            "verdict": "The transformer beats logistic regression.",
            "difference": [0.01, 0.2],
        },
        "speed": {"rows_per_second": 700.0, "seconds": 0.2},
    }
    return {**whole, **changes}


def mistake(**changes: Any) -> dict[str, Any]:
    found = {"row": 3, "position": 0, "token": None, "true": "B", "predicted": "T"}
    return {**found, "probability": 0.99, "probability_of_true": 0.004, **changes}


def prepared(names: list[str] = NAMES, **changes: Any) -> dict[str, Any]:
    """prepare.json in which a filter and a cap dropped rows."""
    first = {name: 40 + i for i, name in enumerate(names)}
    last = dict.fromkeys(names, 30)
    steps = [("input", first), ("filter", first), ("cap per class", last), ("labelled", last)]
    return {
        "task": "sequence",
        "column": "cell_type",
        "classes": names,
        "steps": [{"step": s, "rows": sum(c.values()), "per_class": c} for s, c in steps],
        "notes": ["2 rows without a label"],
        "lengths": {
            "min": 5,
            "median": 8.0,
            "mean": 7.5,
            "max": 9,
            "histogram": {"edges": [5, 7, 9], "counts": [3, 4]},
        },
        "split": split(names),
        **changes,
    }


def split(names: list[str] = NAMES, **changes: Any) -> dict[str, Any]:
    sides = {
        side: {"rows": n * len(names), "per_class": dict.fromkeys(names, n)}
        for side, n in (("train", 20), ("test", 10))
    }
    return {
        "strategy": "random",
        "column": None,
        "seed": 1,
        "unit": "row",
        "sides": sides,
        "groups": {"count": None, "crossing": None},
        "near_duplicates": None,
        "missing": [],
        **changes,
    }


def run(**changes: Any) -> dict[str, Any]:
    mark = {"status": "done", "seconds": 3.2, "finished": "2026-01-02T03:04:05.6+00:00", "result": {}}
    return {
        "name": "blood",
        "created": "2026-01-02T03:04:05+00:00",
        "config": {"model": {"config": {"model_type": "bert"}}, "train": {"metric": "mcc"}},
        "versions": {"sortase": "0.1.0"},
        "stages": {"prepare": mark},
        "training": {
            "steps": 20,
            "epochs": 2.0,
            "best_step": 10,
            "seconds": 188.0,
            "parameters": 1200,
            "notes": ["bf16"],
        },
        **changes,
    }


def events() -> list[dict[str, Any]]:
    logged = [{"stage": "train", "event": "log", "step": s, "loss": 2 - s / 20} for s in (5, 10, 15, 20)]
    scored = [{"stage": "train", "event": "evaluate", "step": s, "eval_loss": 1.0, "eval_mcc": 0.5} for s in (10, 20)]
    return [{"stage": "train", "event": "start"}, *logged, *scored]


def write_run(folder: str, **files: Any) -> str:
    """A run folder with these of ``run``, ``prepared``, ``evaluation``, ``events``."""
    names = {"run": "run.json", "prepared": "data/prepare.json", "evaluation": "evaluation.json"}
    for kind, content in files.items():
        if kind == "events":
            lines = "".join(json.dumps(event) + "\n" for event in content)
            storage.write_bytes(storage.join(folder, "events.jsonl"), lines.encode())
        else:
            storage.write_json(storage.join(folder, *names[kind].split("/")), content)
    return folder
