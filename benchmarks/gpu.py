"""Whether training and scoring on this machine's GPU are right, fast, and hard to break.

One command without a network; it prints a table and writes one JSON file. The exit code is 1 where a bound is broken.
``--reduced`` does all of it on a CPU, in about a minute, with tiny models: that the check itself works, not that it is
fast. README.md beside this file says what a bare machine needs.

    python benchmarks/gpu.py
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import warnings
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy")


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480, help="for all parts together (default: 480)")
    parser.add_argument("--reduced", action="store_true", help="tiny models, for a CPU")
    parser.add_argument("--only", nargs="+", default=[], metavar="PART", help="parts whose name begins so")
    parser.add_argument("--output", type=Path, help="JSON file (default: results/gpu-CARD-DATE.json beside this)")
    parser.add_argument("--break", dest="broken", metavar="NAME", help="break the bound of this name, to see it told")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    import torch

    if not chosen.reduced and not torch.cuda.is_available():
        print("this machine has no usable GPU; --reduced works on a CPU", file=sys.stderr)
        return 2
    from gpu_check import fast, hard, right
    from gpu_check.checks import Report, line
    from gpu_check.flops import card
    from gpu_check.work import FULL, REDUCED

    warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)
    scale = REDUCED if chosen.reduced else FULL
    report = Report(chosen.seconds, chosen.broken)
    for group, parts in (("right", right.PARTS), ("hard", hard.PARTS), ("fast", fast.parts(scale))):
        for name, (limit, work) in parts.items():
            title = f"{group}: {name}"
            if not chosen.only or title.startswith(tuple(chosen.only)):
                report.run(title, limit, partial(work, report, scale))
    now = datetime.now(UTC)
    about = {
        "benchmark": "gpu",
        "card": card(),
        "reduced": chosen.reduced,
        "date": now.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }
    name = f"gpu-{card().removeprefix('NVIDIA ').lower().replace(' ', '-')}-{now:%Y-%m-%d}.json"
    path = chosen.output or RESULTS / name
    report.write(path, about)
    print(
        json.dumps({"written": str(path), "wrong": len(report.wrong), "seconds": round(sum(report.took.values()), 1)})
    )
    for finding in report.wrong:
        print(line(finding), file=sys.stderr)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
