"""Fine-tune transformer classifiers on tokenised sequences, on a laptop and on a Kubernetes cluster alike.

Names are imported on first use, so that ``import sortase`` stays fast and loads none of torch, ray and matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import SortaseError

if TYPE_CHECKING:
    from .api.classifier import GenericClassifier
    from .api.functional import (
        downsample_and_shuffle,
        flatten_list,
        label_classes,
        load_and_filter,
        remove_rare,
        rename_cols,
        subsample_by_class,
    )
    from .api.predict import predict_from_checkpoint
    from .data.collators import DataCollatorForCellClassification, DataCollatorForGeneClassification
    from .model.tokenizer import build_custom_tokenizer

__version__ = "0.1.0"

_WHERE = {
    "GenericClassifier": "api.classifier",
    "build_custom_tokenizer": "model.tokenizer",
    "load_and_filter": "api.functional",
    "remove_rare": "api.functional",
    "downsample_and_shuffle": "api.functional",
    "subsample_by_class": "api.functional",
    "rename_cols": "api.functional",
    "flatten_list": "api.functional",
    "label_classes": "api.functional",
    "predict_from_checkpoint": "api.predict",
    "DataCollatorForCellClassification": "data.collators",
    "DataCollatorForGeneClassification": "data.collators",
}

__all__ = [
    "DataCollatorForCellClassification",
    "DataCollatorForGeneClassification",
    "GenericClassifier",
    "SortaseError",
    "build_custom_tokenizer",
    "downsample_and_shuffle",
    "flatten_list",
    "label_classes",
    "load_and_filter",
    "predict_from_checkpoint",
    "remove_rare",
    "rename_cols",
    "subsample_by_class",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'sortase' has no attribute {name!r}")
    value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
