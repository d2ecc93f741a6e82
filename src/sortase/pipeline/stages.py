"""The stages: what each is made from, and the work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import storage
from ..config.run import Config
from .run_folder import contents, digest

if TYPE_CHECKING:
    from .parts import Elsewhere
    from .run import Run


@dataclass(frozen=True)
class Stage:
    """``inputs`` identifies everything that the result depends on; ``work`` does it and returns what to note down."""

    name: str
    wanted: Callable[[Config], bool]
    inputs: Callable[[Run], dict[str, Any]]
    work: Callable[[Run], dict[str, Any]]


def _tokenize_inputs(run: Run) -> dict[str, Any]:
    spec = run.config.tokenize
    if spec is None:
        return {}
    if not storage.exists(spec.input):
        storage.fetch(spec.input)  # raises, and says what is near it
    return {
        "tokenize": spec.model_dump(mode="json"),
        "files": contents(spec.input, spec.vocabulary, spec.medians, spec.gene_names),
    }


def _tokenize(run: Run) -> dict[str, Any]:
    from .tokenize import tokenize

    if run.config.tokenize is None:
        return {}
    return dict(tokenize(run.config.tokenize, run.folder.path("data"), replace=True, map=run.where.prepare_map).summary)


def _prepare_inputs(run: Run) -> dict[str, Any]:
    from .prepare import inputs_digest

    config = run.config
    return {
        "data": config.data.model_dump(mode="json", exclude={"nproc"}),
        "labels": config.labels.model_dump(mode="json"),
        "split": config.split.model_dump(mode="json"),
        "seed": config.run.seed,
        "prefix": config.run.prefix,
        "content": inputs_digest(run.dataset, config.data, run.labels, config.split, config.run.seed),
    }


def _prepare(run: Run) -> dict[str, Any]:
    from .prepare import prepare

    config = run.config
    prepared = prepare(
        run.dataset,
        config.data,
        run.labels,
        run.folder.path("data"),
        config.run.prefix,
        split=config.split,
        seed=config.run.seed,
        replace=True,
        map=run.where.prepare_map,
    )
    run.say(prepared.table())
    return {"dataset": prepared.dataset_path, "classes": prepared.class_map}


def _train_inputs(run: Run) -> dict[str, Any]:
    config = run.config
    named = [config.model.checkpoint, config.model.tokenizer, config.labels.vocabulary]
    return {
        "model": config.model.model_dump(mode="json"),
        "train": config.train.model_dump(mode="json"),
        "compute": config.compute.shapes_weights(),
        "batch": config.train.global_batch(config.compute.max_workers),
        "seed": config.run.seed,
        "prepare": run.made_from("prepare"),
        "files": contents(*named),
    }


def _train(run: Run) -> dict[str, Any]:
    from .train import claim_checkpoints

    run.folder.claim_model("train", run.replace)
    claim_checkpoints(run.folder, _train_inputs(run), run.replace)
    summary = run.where.train(run.request(), run.folder, run.events, run.say, run.should_stop)
    run.folder.describe(training=summary)
    return summary


def _tune_inputs(run: Run) -> dict[str, Any]:
    spec = run.config.tune
    return {**_train_inputs(run), "tune": spec.shapes_result()} if spec else {}


def _tune(run: Run) -> dict[str, Any]:
    from .leaderboard import claim_sweep

    if run.config.tune is None:
        return {}
    run.folder.claim_model("tune", run.replace)
    claim_sweep(run.folder, _tune_inputs(run), run.replace)
    swept = run.where.tune(run.config.tune, run.request(), run.folder, run.events, run.say, run.should_stop)
    run.folder.describe(training=swept.training, tuning=swept.summary)
    run.say(f"tune: the best is {swept.summary['best']}: {swept.summary['metric']} {swept.summary['value']}")
    return {name: swept.summary[name] for name in ("best", "parameters", "metric", "value", "counts")}


def _elsewhere(run: Run, dataset: str) -> Elsewhere | None:
    """The workers that score rows of this dataset with the run's model; None where this process does."""
    from .parts import Elsewhere

    if run.where.score_map is None:
        return None
    return Elsewhere(map=run.where.score_map, model=run.folder.model, dataset=dataset, compute=run.config.compute)


def _evaluate_inputs(run: Run) -> dict[str, Any]:
    settings = run.config.evaluate.model_dump(mode="json")
    return {"evaluate": settings, "train": run.made_from(run.config.fitting), "seed": run.config.run.seed}


def _evaluate(run: Run) -> dict[str, Any]:
    from ..model.load import load_trained
    from .evaluate import EvaluateJob, evaluate
    from .place_model import place_model
    from .sides import read_sides

    sides = read_sides(run.prepared, run.folder.path("data", "split.parquet"), run.task)
    trained = load_trained(run.folder.model, run.task)
    elsewhere = _elsewhere(run, run.prepared)
    precision = "fp32" if elsewhere else place_model(trained.model, run.config.compute)
    job = EvaluateJob(
        trained=trained,
        test=sides.test,
        train=sides.train,
        split_unit=sides.unit,
        settings=run.config.evaluate,
        precision=precision,
        seed=run.config.run.seed,
    )
    evaluation = evaluate(job, run.folder.url, run.say, elsewhere)
    if evaluation["baseline"]:
        run.say(evaluation["baseline"]["verdict"])
    return {"metrics": evaluation["metrics"]}


def _predict_inputs(run: Run) -> dict[str, Any]:
    spec = run.config.predict
    if spec is None:
        return {}
    return {
        "predict": spec.model_dump(mode="json"),
        "train": run.made_from(run.config.fitting),
        "files": contents(spec.dataset),
    }


def _predict(run: Run) -> dict[str, Any]:
    from ..model.load import load_trained
    from .place_model import place_model
    from .predict import predict

    if run.config.predict is None:
        return {}
    trained = load_trained(run.folder.model, run.task)
    elsewhere = _elsewhere(run, run.config.predict.dataset)
    precision = "fp32" if elsewhere else place_model(trained.model, run.config.compute)
    url = run.folder.path("unlabelled_predictions.parquet")
    counts = predict(trained, run.config.predict, url, precision, elsewhere)
    run.say("predict: " + ", ".join(f"{name} {count:,}" for name, count in counts.items()))
    return {"predictions": url, "counts": counts}


def _report_inputs(run: Run) -> dict[str, Any]:
    """The other stages, and what the card adds. A report made from others gives way: it can be made again."""
    marks = run.folder.stages()
    card = run.config.card.model_dump(mode="json", exclude_defaults=True)
    made_from = {name: mark["inputs"] for name, mark in sorted(marks.items()) if name != "report"}
    inputs = {"stages": made_from, **({"card": card} if card else {})}
    if "report" in marks and marks["report"]["inputs"] != digest(inputs):
        storage.remove(run.folder.path("stages", "report.json"))
    return inputs


def _report(run: Run) -> dict[str, Any]:
    from .card import write_card
    from .report import report

    made = {"report": report(run.folder.url)}
    if run.folder.mark(run.config.fitting) is not None:
        run.folder.fence()
        made["card"] = write_card(run.folder, run.config.card)
    return made


def _always(config: Config) -> bool:
    return True


def _has_test_side(config: Config) -> bool:
    return config.split.test_size > 0 or config.split.strategy == "column"


STAGES = (
    Stage("tokenize", lambda config: config.tokenize is not None, _tokenize_inputs, _tokenize),
    Stage("prepare", _always, _prepare_inputs, _prepare),
    Stage("train", lambda config: config.tune is None, _train_inputs, _train),
    Stage("tune", lambda config: config.tune is not None, _tune_inputs, _tune),
    Stage("evaluate", _has_test_side, _evaluate_inputs, _evaluate),
    Stage("predict", lambda config: config.predict is not None, _predict_inputs, _predict),
    Stage("report", _always, _report_inputs, _report),
)
