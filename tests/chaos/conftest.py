"""Options of the chaos suite, which runs by its name only: ``pytest -n 0 -s tests/chaos``."""

from __future__ import annotations

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    seconds = os.environ.get("SORTASE_CHAOS_SECONDS", "60")
    parser.addoption("--chaos-seconds", type=float, default=float(seconds), help="for how long rounds are started")
    parser.addoption("--chaos-seed", type=int, default=None, help="the seed of a run before, to repeat it")
    parser.addoption("--chaos-round", type=int, default=None, help="only this round of the seed")
