"""What a part finds, the time it may take, and how all of it is told."""

from __future__ import annotations

import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Value = float | str | None


@dataclass
class Finding:
    """A figure and, where there is one, the bound that it must keep. ``ok`` is None where nothing is required."""

    part: str
    name: str
    value: Value
    bound: str = ""
    ok: bool | None = None


class OutOfTimeError(Exception):
    """A part took longer than it may."""


@dataclass
class Report:
    """All findings of a run; ``broken`` names a bound that is broken on purpose."""

    seconds: float
    broken: str | None = None
    findings: list[Finding] = field(default_factory=list)
    took: dict[str, float] = field(default_factory=dict)
    part: str = ""

    def __post_init__(self) -> None:
        self._started = time.monotonic()

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self._started)

    def tell(self, name: str, value: Value) -> None:
        self._add(Finding(self.part, name, value))

    def at_most(self, name: str, value: float, most: float) -> None:
        value += 2 * most + 1 if self.broken == name else 0
        self._add(Finding(self.part, name, value, f"at most {most:g}", bool(value <= most)))

    def at_least(self, name: str, value: float, least: float) -> None:
        value -= 2 * abs(least) + 1 if self.broken == name else 0
        self._add(Finding(self.part, name, value, f"at least {least:g}", bool(value >= least)))

    def equal(self, name: str, value: Value, expected: Value) -> None:
        value = f"not {value}" if self.broken == name else value
        self._add(Finding(self.part, name, value, str(expected), value == expected))

    def skip(self, name: str, why: str) -> None:
        self._add(Finding(self.part, name, f"skipped: {why}"))

    def _add(self, finding: Finding) -> None:
        self.findings.append(finding)
        print(line(finding), flush=True)

    def run(self, part: str, limit: float, work: Callable[[], None]) -> None:
        """Do a part in ``limit`` seconds, or in what is left of the whole. An error in it is a finding like others."""
        self.part, started = part, time.monotonic()
        allowed = min(limit, self.left)
        if allowed < 1:
            self.skip("all of it", "no time is left (--seconds)")
            return
        try:
            with _alarm(allowed):
                work()
        except OutOfTimeError:
            if allowed < limit:
                self.skip("the rest", "no time is left (--seconds)")
            else:
                self._add(Finding(part, "time", f"not done in {limit:.0f} s", f"{limit:.0f} s", False))
        except Exception as error:  # noqa: BLE001 - the other parts are still worth knowing
            traceback.print_exc()
            self._add(Finding(part, "error", f"{type(error).__name__}: {str(error)[:300]}", "none", False))
        self.took[part] = round(time.monotonic() - started, 1)

    @property
    def wrong(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.ok is False]

    def write(self, path: Path, about: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = {**about, "seconds": self.took, "ok": not self.wrong, "findings": [asdict(f) for f in self.findings]}
        path.write_text(json.dumps(found, indent=1, allow_nan=False, default=str) + "\n")


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(number: int, frame: Any) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def line(finding: Finding) -> str:
    value = f"{finding.value:,.5g}" if isinstance(finding.value, float) else str(finding.value)
    mark = {True: "ok", False: "WRONG", None: ""}[finding.ok]
    return f"{finding.part:<22} {finding.name:<62} {value:>16} {finding.bound:<18} {mark}"
