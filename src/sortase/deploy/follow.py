"""Waiting for a submitted run: its log, its troubles, its end, over lost connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..errors import InfrastructureError, SortaseError
from .state import State

EVERY = 2.0  # seconds
SILENCE = 600.0  # seconds for which a cluster may not answer before the wait is given up


class Backend(Protocol):
    def state(self, name: str) -> State: ...

    def new_log(self, name: str) -> str: ...

    def delete(self, name: str) -> None: ...


@dataclass
class Follower:
    """``start_seconds``: how long a run may wait in trouble, such as for room that never comes, before it is given up.
    ``should_stop``: ends the wait, not the run."""

    backend: Backend
    name: str
    log: Callable[[str], None]
    show: Callable[[str], None]
    start_seconds: float = 600.0
    should_stop: Callable[[], bool] = lambda: False
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def end(self) -> State | None:
        """The state in which the run ended; None where the wait was stopped.

        Raises InfrastructureError when it was given up: the run is then deleted where it never started, and goes on
        where only the cluster does not answer.
        """
        self._said = self._unread = ""
        self._troubles: tuple[str, ...] = ()
        heard = self.clock()
        troubled: float | None = None
        while not self.should_stop():
            try:
                state = self.backend.state(self.name)
                heard = self.clock()
            except InfrastructureError as error:
                self._tell(str(error))
                if self.clock() - heard > SILENCE:
                    raise InfrastructureError(
                        f"no answer for {SILENCE:.0f} s; the run goes on where it is. Last: {error}"
                    ) from error
                self.sleep(EVERY)
                continue
            self._show_log()
            self._tell(state.words)
            for trouble in state.troubles:
                if trouble not in self._troubles:
                    self.log(trouble)
            self._troubles = state.troubles
            if state.is_over or state.phase == "absent":
                return state
            if state.phase == "waiting" and state.troubles:
                troubled = troubled if troubled is not None else self.clock()
                if self.clock() - troubled > self.start_seconds:
                    self.backend.delete(self.name)
                    raise InfrastructureError(
                        f"not started after {self.start_seconds:.0f} s, and given up: {'; '.join(state.troubles)}"
                    )
            else:
                troubled = None
            self.sleep(EVERY)
        return None

    def _show_log(self) -> None:
        """The log may be out of reach, as of a head whose node is gone, while the state is known."""
        try:
            self.show(self.backend.new_log(self.name))
            self._unread = ""
        except SortaseError as error:
            if str(error) != self._unread:
                self._unread = str(error)
                self.log(self._unread)

    def _tell(self, words: str) -> None:
        if words != self._said:
            self._said = words
            self.log(words)
