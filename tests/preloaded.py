"""What the work of `sortase run` and `sortase retrain` loads, for processes that fork: no child loads it again."""

from __future__ import annotations

import atexit
import gc
import importlib
import pkgutil

import sortase.pipeline
import sortase.prepare
import sortase.report
import sortase.retrain
import sortase.score
import sortase.train

FOREIGN = ("matplotlib.backends.backend_svg", "matplotlib.pyplot", "s3fs", "sklearn.metrics", "transformers.trainer")


def load_all() -> None:
    for package in (sortase.pipeline, sortase.prepare, sortase.report, sortase.retrain, sortase.score, sortase.train):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in FOREIGN:
        importlib.import_module(name)
    gc.freeze()  # no child looks at them again
    atexit.register(gc.unfreeze)  # libraries in C count what is left at the end
