"""How a submitted run is, in the same words wherever it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..errors import CancelledError, ConfigError, DeadlineError, InfrastructureError, WorkFailedError

Phase = Literal["absent", "waiting", "running", "succeeded", "failed", "stopped"]
LOST = (-9, 137, 143)  # what a driver ends with that was killed, not failed

_EXIT = re.compile(r"exit code (-?\d+)")


@dataclass(frozen=True)
class State:
    """``words``: one line for a person. ``exit_code``: what the command that waits for it ends with; None before."""

    phase: Phase
    words: str
    exit_code: int | None = None
    pods: tuple[str, ...] = ()
    troubles: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        return self.phase in ("succeeded", "failed", "stopped")


def failed(words: str, driver_exit_code: int | None = None) -> State:
    """A failure, whose exit code is the driver's where that is one of the design's."""
    if driver_exit_code is None:
        told = _EXIT.search(words)
        driver_exit_code = int(told[1]) if told else None
    if driver_exit_code == CancelledError.exit_code:
        return State("stopped", words, driver_exit_code)
    if driver_exit_code in LOST:
        return State("failed", words, InfrastructureError.exit_code)
    known = (1, 2, 3, 4, 6)
    return State("failed", words, driver_exit_code if driver_exit_code in known else WorkFailedError.exit_code)


def exit_code_of(reason: str) -> int:
    """Of a RayJob that failed for KubeRay's own reason, not its driver's."""
    if reason == "DeadlineExceeded":
        return DeadlineError.exit_code
    if reason == "ValidationFailed":
        return ConfigError.exit_code
    return InfrastructureError.exit_code
