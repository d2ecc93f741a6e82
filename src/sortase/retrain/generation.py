"""What tells one generation of a model from the next: the data it is made from, and the settings that shape it."""

from __future__ import annotations

from typing import Any

from ..config.run import Config
from ..errors import InputError
from ..pipeline.run import Run
from ..pipeline.run_folder import FITTING, RunFolder, contents, digest
from ..pipeline.stages import STAGES
from ..pipeline.where import Here
from ..registry.names import SCHEME

_SHAPING = ("tokenize", "data", "labels", "split", "model", "train", "tune", "evaluate")


def data_fingerprint(config: Config) -> str:
    """Of what the first stage reads, as its mark will have it; rows are not read for it."""
    folder = RunFolder("-")
    here = Run(
        config=config, folder=folder, say=lambda text: None, replace=False, should_stop=lambda: False, where=Here()
    )
    first = next(stage for stage in STAGES if stage.wanted(config))
    return digest(first.inputs(here))


def settings_digest(config: Config) -> str:
    """Of everything else that shapes the model. Where it is computed, its names and its users' matters do not."""
    genes = config.labels.gene_class_dict
    named = [config.model.checkpoint, config.model.tokenizer, config.labels.vocabulary]
    named += [genes] if isinstance(genes, str) else []
    settings = config.model_dump(mode="json", include=set(_SHAPING), exclude_defaults=True)
    shapes = {
        "seed": config.run.seed,
        "compute": config.compute.shapes_weights(),
        "batch": config.train.global_batch(config.compute.max_workers),
    }
    files = contents(*(name for name in named if name is not None and not name.startswith(SCHEME)))
    return digest({**settings, **shapes, "files": files})


def lineage(folder: RunFolder) -> dict[str, Any]:
    """Where a finished run's model comes from; the same whenever and by whomever it is asked."""
    from ..config.load import check

    run, marks = folder.read("run.json"), folder.stages()
    fitted = [name for name in FITTING if name in marks]
    if run is None or not fitted or "prepare" not in marks:
        raise InputError(f"{folder.url} holds no finished training; run `sortase run` first")
    config = check(run["config"], f"{folder.url}/run.json")
    told = run.get("retrain") or {}
    first = next(stage.name for stage in STAGES if stage.wanted(config))
    parents = [{"model": config.model.checkpoint, "version": told.get("parent")}] if config.model.checkpoint else []
    return {
        "run": folder.url,
        "created": run["created"],
        "finished": marks[fitted[0]]["finished"],
        "data": {
            "fingerprint": told.get("data") or marks[first]["inputs"],
            "source": config.data.dataset or (config.tokenize and config.tokenize.input),
        },
        "config": told.get("settings") or settings_digest(config),
        "code": run.get("code"),
        "image": run.get("image"),
        "parents": parents,
        "champion": told.get("champion"),
    }
