"""Faults at random moments: a run is done and as if undisturbed, or ends with an exit code and words; no mixture."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest


def test_chaos(request: pytest.FixtureRequest) -> None:
    seconds, seed, only = (request.config.getoption(f"--chaos-{name}") for name in ("seconds", "seed", "round"))
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    command = [sys.executable, str(Path(__file__).with_name("rounds.py")), str(seconds), str(seed)]
    print(f"\nagain: pytest -n 0 -s tests/chaos --chaos-seconds {seconds:g} --chaos-seed {seed}", flush=True)
    rounds, bad = [], []
    command += [str(only)] * (only is not None)
    ways = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": ways}) as suite:
        assert suite.stdout
        for line in suite.stdout:
            told = json.loads(line)
            rounds.append(told)
            what = f"round {told['round']}: {told['fault']}, {told['door']} on {told['on']}"
            print(f"{what}: {told['codes']}, then {told['then']}, {told['seconds']} s", flush=True)
            if told["wrong"]:
                said = "\n---\n".join(told["words"])
                bad.append(f"{what} (--chaos-seed {seed} --chaos-round {told['round']}): {told['wrong']}\n{said}")
    print(table(rounds), flush=True)
    assert suite.returncode == 0
    assert rounds, "no round was played"
    assert not bad, "\n\n".join(bad)


def table(rounds: list[dict[str, Any]]) -> str:
    """How often each fault was tried, and how it ended."""
    counts = Counter((r["fault"], r["door"], r["on"], "WRONG" if r["wrong"] else r["how"]) for r in rounds)
    rows = ["| fault | door | on | ended | rounds |", "| --- | --- | --- | --- | --- |"]
    return "\n".join([*rows, *(f"| {' | '.join(key)} | {number} |" for key, number in sorted(counts.items()))])
