"""Seconds until ``import sortase`` and ``sortase --help`` are done, as whole processes; medians. Prints a JSON line.

python benchmarks/start_up.py --runs 11
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import sortase": ["-c", "import sortase"],
    "sortase --help": ["-m", "sortase", "--help"],
}


def seconds(arguments: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=11)
    runs = options.parse_args().runs
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(runs + 1):
        for name, arguments in COMMANDS.items():
            found[name].append(seconds(arguments))
    medians = {name: round(statistics.median(values[1:]), 3) for name, values in found.items()}
    print(json.dumps({"benchmark": "start_up", "runs": runs, "seconds": medians}))


if __name__ == "__main__":
    main()
