"""What happens beside the steps of training: events, checkpoints, early stopping, progress, and stopping on request."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from ..errors import WorkFailedError
from ..progress import Progress
from ..runs.events import Events
from .checkpoints import Checkpoints
from .ranks import Ranks

Report = Callable[[int, dict[str, float]], None]


def best_first(history: list[dict[str, Any]], metric: str, sign: int) -> list[float]:
    """Values of the metric at all evaluations so far, signed so that higher is better."""
    return [sign * entry[f"eval_{metric}"] for entry in history if entry.get(f"eval_{metric}") is not None]


def patience_is_over(values: list[float], patience: int, threshold: float) -> bool:
    """Whether the last ``patience`` evaluations brought no improvement by more than ``threshold``."""
    best, waiting = -math.inf, 0
    for value in values:
        if value > best + threshold:
            best, waiting = value, 0
        else:
            waiting += 1
    return waiting >= patience


class Recorder(TrainerCallback):
    """Writes the timeline, and hands finished checkpoint folders over for publication."""

    def __init__(
        self, events: Events, checkpoints: Checkpoints, metric: str | None, sign: int, report: Report | None = None
    ):
        self.events = events
        self.checkpoints = checkpoints
        self.metric = metric
        self.sign = sign
        self.report = report

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.events.write("train", "steps", first=state.global_step, last=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        values = {name: value for name, value in (logs or {}).items() if isinstance(value, int | float)}
        if not math.isfinite(values.get("loss", 0.0)):
            raise WorkFailedError(
                f"the training loss became {values['loss']} by step {state.global_step}; "
                "a lower learning rate or compute.precision: fp32 may help"
            )
        values.pop("epoch", None)
        if not math.isfinite(values.get("grad_norm", 0.0)):
            del values["grad_norm"]  # of a step that fp16 has skipped
        event = "evaluate" if any(name.startswith("eval_") for name in values) else "log"
        self.events.write("train", event, step=state.global_step, epoch=state.epoch, **values)
        if event == "evaluate" and self.report is not None:
            self.report(state.global_step, {name.removeprefix("eval_"): value for name, value in values.items()})

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.events.write("train", "checkpoint", step=state.global_step, epoch=state.epoch)
        self.events.flush()  # whoever continues from this checkpoint finds all that came before it
        now = [entry for entry in state.log_history if entry["step"] == state.global_step]
        values = best_first(now, self.metric, self.sign) if self.metric else []
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self.checkpoints.publish(folder, state.global_step, values[-1] if values else None)


class EarlyStopping(TrainerCallback):
    """Counts over the recorded history, so that a continued run stops where an undisturbed one would."""

    def __init__(self, metric: str, sign: int, patience: int, threshold: float):
        self.metric, self.sign, self.patience, self.threshold = metric, sign, patience, threshold

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        values = best_first(state.log_history, self.metric, self.sign)
        if patience_is_over(values, self.patience, self.threshold):
            control.should_training_stop = True


class StopOnRequest(TrainerCallback):
    """Makes the next step the last one of all ranks, with a checkpoint, once somebody asks any of them."""

    def __init__(self, should_stop: Callable[[], bool], steps_in_epoch: int, ranks: Ranks):
        self.should_stop = should_stop
        self.ranks = ranks
        self.steps_in_epoch = steps_in_epoch
        self.stopped = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.ranks.any(self.should_stop()) and state.global_step < state.max_steps:
            self.stopped = True
            control.should_save = True
            control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The library takes a stop for the end of the epoch; nothing is due at one that was not reached."""
        if self.stopped and state.global_step % self.steps_in_epoch:
            control.should_evaluate = control.should_save = control.should_log = False


class SaveAfterEvaluation(TrainerCallback):
    """A checkpoint due at the last step of an epoch waits for the evaluation there.

    Otherwise a run that continues from it would never make up for that evaluation, and might choose another model.
    """

    def __init__(self, steps_in_epoch: int):
        self.steps_in_epoch = steps_in_epoch
        self._waiting = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.eval_strategy == "epoch" and state.global_step % self.steps_in_epoch == 0:
            self._waiting = control.should_save
            control.should_save = False

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._waiting:
            control.should_save = True
        self._waiting = False


class ShowProgress(TrainerCallback):
    """Steps done, rate and time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._shown = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._bar = Progress(state.max_steps - state.global_step, "train", unit="steps")
        self._bar.__enter__()
        self._shown = state.global_step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.update(state.global_step - self._shown)
        self._shown = state.global_step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
