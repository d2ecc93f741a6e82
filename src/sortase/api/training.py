"""``GenericClassifier.train``: the stages of a run, with the model in the output folder and the dataset elsewhere."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import storage
from ..arguments import as_in_python
from ..config.card import CardSpec
from ..data.sequences import Sequences, open_dataset
from ..data.source import open_source
from ..data.split.audit import audit
from ..errors import ConfigError
from ..model.device import place_model
from ..model.load import Trained, load_trained
from ..pipeline.executor import Executor
from ..pipeline.run import do_all
from ..pipeline.stages import Stage, Work, report_and_card, report_inputs
from ..prepare.outputs import MARK
from ..progress import announce
from ..runs import layout
from ..runs.attempts import attempted
from ..runs.events import read_events
from ..runs.folder import identity
from ..score.collapse import Training
from ..score.evaluate import EvaluateJob, closing_lines, evaluate
from ..score.parts import RemoteScorer
from ..train.job import TrainJob, claim_checkpoints, finished_arguments, train
from ..train.leaderboard import claim_sweep
from ..train.request import TrainRequest
from ..train.trials import trial_seed, trial_settings
from ..types import Log
from .planned import Planned, TrainingCall, inputs_of, plan

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from datasets import Dataset
    from transformers import Trainer


@dataclass(frozen=True, kw_only=True)
class TrainingWork(Work):
    """A training that was asked for from Python."""

    planned: Planned
    trained: list[Trained] = field(default_factory=list)  # the model, once it is there
    analysis: list[Any] = field(default_factory=list)  # of a search, once it was made

    @property
    def asked(self) -> TrainingCall:
        return self.planned.asked

    def model(self) -> Trained:
        if not self.trained:
            self.trained.append(load_trained(self.folder.model, self.asked.task))
        return self.trained[0]


def train_and_score(
    asked: TrainingCall, output: str, log: Log, executors: Callable[[], AbstractContextManager[Executor]]
) -> Trainer:
    """Train, score and, where it is asked for, report; finished work with the same inputs is taken up, not done again.

    ``executors`` opens what computes the stages, once nothing speaks against the training.
    """
    work = _worked(asked, output, log, executors, [TRAIN if asked.tune is None else TUNE, EVALUATE, REPORT])
    evaluation = work.folder.read(layout.EVALUATION) if len(work.planned.sides.test) else None
    _announce(evaluation)
    return _finished(work, evaluation)


def search(
    asked: TrainingCall, output: str, log: Log, executors: Callable[[], AbstractContextManager[Executor]]
) -> Any:
    """Search: the best trial's model is saved. Returns Ray's ``ExperimentAnalysis``.

    Called again with the same inputs it trains nothing again, and returns what the trials gave.
    """
    work = _worked(asked, output, log, executors, [SEARCH])
    best = work.folder.description()["tuning"]
    announce(
        f"The best of {best['trials']} trials is {best['best']}: {best['metric']} {best['value']:.3f} on the "
        "validation side. The test side is not scored yet."
    )
    return work.analysis[0]


def _worked(
    asked: TrainingCall,
    output: str,
    log: Log,
    executors: Callable[[], AbstractContextManager[Executor]],
    stages: list[Stage[TrainingWork]],
) -> TrainingWork:
    """One attempt, with these stages that apply."""
    with attempted(output, storage.configured(), model_name="") as attempt, as_in_python():
        planned = plan(asked, attempt.folder)
        stop = threading.Event()
        with executors() as executor:
            for line in executor.check_paths(asked.paths, output):
                log(line)
            work = TrainingWork(
                folder=attempt.folder,
                log=log,
                replace=asked.replace,
                should_stop=stop.is_set,
                executor=executor,
                planned=planned,
            )
            if planned.preflight:
                log(planned.preflight)
            told = {"name": planned.config.run.name, "config": planned.config.model_dump(mode="json")}
            with attempt.at_work():
                wanted = {EVALUATE: len(planned.sides.test) > 0, REPORT: asked.report}
                do_all([stage for stage in stages if wanted.get(stage, True)], work, stop, told)
    return work


def _inputs(work: TrainingWork) -> dict[str, Any]:
    return inputs_of(work.asked)


def _train(work: TrainingWork) -> dict[str, Any]:
    folder, asked = work.folder, work.asked
    folder.claim_model("train", asked.replace)
    claim_checkpoints(folder, _inputs(work), asked.replace)
    if asked.compute.max_workers:
        return work.executor.train(_request(work), folder, work.events, work.log, work.should_stop)
    fitted, trained = train(
        work.planned.job, folder, work.events, work.log, work.should_stop, prepared=work.planned.ready
    )
    work.trained.append(trained)
    return dict(fitted.summary)


def _tune(work: TrainingWork) -> dict[str, Any]:
    folder, asked = work.folder, work.asked
    if asked.tune is None:
        raise ConfigError("a search needs n_trials of at least 1")
    folder.claim_model("tune", asked.replace)
    claim_sweep(folder, _inputs(work), asked.replace)
    swept = work.executor.tune(asked.tune, _request(work), folder, work.events, work.log, work.should_stop)
    work.analysis.append(swept.analysis)
    named = {name: swept.summary[name] for name in ("best", "parameters")}
    return {**named, "training": swept.training, "tuning": swept.summary}


def _inputs_of_analysis(work: TrainingWork) -> dict[str, Any]:
    """A search that is finished is read once more: Ray makes the analysis, and trains no trial again."""
    inputs = _inputs(work)
    if work.folder.is_done("tune", inputs, work.replace):
        work.folder.take_away("tune")
    return inputs


def _request(work: TrainingWork) -> TrainRequest:
    """The training by where its data lies, for processes elsewhere; writes down the split."""
    request = work.planned.request
    work.planned.made.write(request.split)
    return request


def _inputs_of_evaluation(work: TrainingWork) -> dict[str, Any]:
    """Figures of other settings give way: they can be made again."""
    asked, mark = work.asked, work.folder.mark(work.asked.fitting)
    inputs = {"evaluate": asked.evaluation.model_dump(mode="json"), "train": mark["inputs"]}
    made = work.folder.mark("evaluate")
    if made is not None and made["inputs"] != identity(inputs):
        work.folder.take_away("evaluate")
    return inputs


def _evaluate(work: TrainingWork) -> dict[str, Any]:
    asked, sides, folder, trained = work.asked, work.planned.sides, work.folder, work.model()
    scored = asked.dataset if asked.eval_dataset is None else asked.eval_dataset
    remote = None
    if work.executor.score_map is not None and isinstance(scored, str):  # a dataset in memory is scored where it is
        remote = RemoteScorer(map=work.executor.score_map, model=folder.model, dataset=scored, compute=asked.compute)
    job = _best_job(work)
    evaluation = EvaluateJob(
        trained=trained,
        test=sides.test,
        train=sides.train,
        split_unit=sides.unit,
        settings=asked.evaluation,
        precision="fp32" if remote else place_model(trained.model, asked.compute),
        seed=asked.seed,
        training=Training(job.settings, job.model, (folder.description().get("training") or {}).get("steps")),
    )
    return {"metrics": evaluate(evaluation, folder.url, work.log, remote)["metrics"]}


def _best_job(work: TrainingWork) -> TrainJob:
    """The training that made the model: after a search with the best trial's hyperparameters."""
    asked, job = work.asked, work.planned.job
    if asked.tune is None:
        return job
    parameters = work.folder.mark("tune")["result"]["parameters"]
    metric, _ = asked.tune.compared_by(asked.training.metric)
    workers = asked.compute.max_workers
    settings, model = trial_settings(asked.training, asked.model, parameters, metric, workers)
    return replace(job, settings=settings, model=model, seed=trial_seed(parameters, job.seed))


def _report(work: TrainingWork) -> dict[str, Any]:
    storage.write_json(work.folder.path(*layout.PREPARED.split("/")), _prepared(work))
    return report_and_card(work.folder, CardSpec(), work.asked.fitting)


def _prepared(work: TrainingWork) -> dict[str, Any]:
    """What prepare.json tells of a run: of the dataset as far as it says it itself, and of the split."""
    asked, planned = work.asked, work.planned
    mark = storage.join(asked.dataset, MARK)
    known = storage.read_json(mark).get("summary") if storage.exists(mark) else None
    split = copy.deepcopy(planned.made.summary)
    if planned.made.unit == "row" and split["near_duplicates"] is None:
        split["near_duplicates"] = audit(open_source(asked.dataset), planned.made.sides, asked.seed)
    if asked.eval_dataset is not None:
        split["sides"]["test"] = _counted(planned.sides.test, planned.job.class_map)
    return {**(known or {"task": asked.task.kind, "classes": list(planned.job.class_map)}), "split": split}


def _counted(side: Sequences, class_map: dict[str, int]) -> dict[str, Any]:
    """Units of each class on a side that is a dataset of its own."""
    labels = np.concatenate([np.ravel(side.labels_of(row)) for row in range(len(side))])
    counts = np.bincount(labels[labels >= 0], minlength=len(class_map))
    return {"rows": int(counts.sum()), "per_class": {name: int(counts[i]) for name, i in class_map.items()}}


def _announce(evaluation: dict[str, Any] | None) -> None:
    """End with how good the model is, also for somebody who has set up no logging."""
    if evaluation is None:
        announce("How good the model is is not known: no row was held out to score it on.", logging.WARNING)
        return
    verdict, *nothing = closing_lines(evaluation)
    low, _ = (evaluation["baseline"] or {}).get("difference") or (0, 0)
    announce(verdict, logging.INFO if low > 0 else logging.WARNING)
    for line in nothing:
        announce(line, logging.WARNING)


def _finished(work: TrainingWork, evaluation: dict[str, Any] | None) -> Trainer:
    """The Trainer that the caller gets: the same for a training here, on Ray, by a search, or taken up again."""
    from .finished_trainer import FinishedTrainer, restore

    asked, sides, trained = work.asked, work.planned.sides, work.model()
    job = _best_job(work)
    if sides.validation is not None or asked.eval_dataset is None:
        held_out = _rows(asked.dataset, sides.validation or sides.test)
    else:
        held_out = _rows(asked.eval_dataset, sides.test)
    trainer = FinishedTrainer(
        trained,
        finished_arguments(job, trained),
        output=work.folder.url,
        batch_size=job.batch_size,
        precision=place_model(trained.model, asked.compute),
        train_dataset=_rows(asked.dataset, sides.train),
        eval_dataset=held_out if len(held_out) else None,
        evaluation=evaluation,
    )
    restore(trainer, read_events(work.folder), work.folder.description().get("training") or {})
    return trainer


def _rows(data: str | Dataset, view: Sequences) -> Any:
    """A side as a dataset, unless it hides the labels of some tokens."""
    return open_dataset(data).select(view.rows) if view.hidden is None else view


TRAIN = Stage("train", _inputs, _train, reads_outside=True)
TUNE = Stage("tune", _inputs, _tune, reads_outside=True)
SEARCH = replace(TUNE, inputs=_inputs_of_analysis)
EVALUATE = Stage("evaluate", _inputs_of_evaluation, _evaluate)
REPORT = Stage("report", report_inputs, _report)
