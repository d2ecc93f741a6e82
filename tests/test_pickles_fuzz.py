"""The fuzzer of pickles, in a process of its own: it may end in nothing but values and refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FUZZER = Path(__file__).parent / "pickle_fuzzer.py"


def test_made_up_pickles_end_in_values_or_refusals() -> None:
    """``SORTASE_FUZZ_SECONDS`` makes it longer; the seed ``SORTASE_FUZZ_SEED`` draws other pickles."""
    seconds, seed = os.environ.get("SORTASE_FUZZ_SECONDS", "3"), os.environ.get("SORTASE_FUZZ_SEED", "7")
    command = [sys.executable, str(FUZZER), seconds, seed]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"exit {ended.returncode}, seed {seed}: {ended.stdout[-4000:]}{ended.stderr[-4000:]}"
    read, _, refused, *_ = ended.stdout.split()
    assert int(read) > 20 and int(refused) > 200, ended.stdout
