"""Predictions of a model by itself: a folder, a URL, or a version of the registry."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from .. import storage
from ..cluster.executor import executor_for
from ..config.check import validate
from ..config.compute import ComputeSpec
from ..config.evaluate import PredictSpec
from ..config.load import parse, settings_of
from ..data import vocabulary
from ..errors import ConfigError
from ..plain import show
from ..registry.models import resolve
from ..registry.names import is_reference

SECTIONS = ("predict", "compute")


def predict_with(options: argparse.Namespace, log: Callable[[str], None]) -> None:
    """``sortase predict --model``. Settings come from ``--config`` where it is given, and from ``--set``.

    Raises:
        ConfigError: data or output are not named, or a setting is wrong.
        InputError: the model cannot read the data.
    """
    from ..gate.fairness import refuse_other_tokens
    from ..model.device import model_on_device
    from ..model.load import load_trained
    from ..score.made_model import check_model
    from ..score.parts import RemoteScorer
    from ..score.predict import predict

    registry, compute, settings = options.registry, ComputeSpec(), _settings(options)
    if options.config is not None:
        with storage.impatiently():
            config = parse(storage.read_text(options.config), options.set, options.config)
        storage.configure(config.storage)
        registry, compute = registry or config.registry.url, config.compute
    if "compute" in settings:
        compute = validate(ComputeSpec, settings["compute"], "compute")
    asked = {**settings.get("predict", {}), **({"dataset": options.dataset} if options.dataset else {})}
    if "dataset" not in asked or not options.output:
        raise ConfigError("predict --model needs --dataset (what to label) and --output (the Parquet file to write)")
    spec: PredictSpec = validate(PredictSpec, asked, "predict")
    model = options.model
    if is_reference(model):
        version = resolve(model, registry)
        model = version.model
        log(f"predict: {options.model} is version {version.name}")
    check_model(model)
    trained = load_trained(model)
    known = vocabulary.of_dataset(spec.dataset)
    if known is not None and trained.tokenizer is not None:
        refuse_other_tokens(f"the model {options.model}", trained.tokenizer, spec.dataset, known)
    with executor_for(compute) as executor:
        remote = None
        if executor.score_map is not None:
            remote = RemoteScorer(map=executor.score_map, model=model, dataset=spec.dataset, compute=compute)
        with model_on_device(trained.model, None if remote else compute) as precision:
            counts = predict(trained, spec, options.output, precision, remote)
    log("predict: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    show(options.output)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Of the sections that matter here, unchecked: the run's others are not needed."""
    text = "{}"
    if options.config is not None:
        with storage.impatiently():
            text = storage.read_text(options.config)
    found = settings_of(text, options.set, options.config or "--set")
    return {name: found[name] for name in SECTIONS if isinstance(found.get(name), dict)}
