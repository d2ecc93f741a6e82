"""Evaluate a run's model: ``ray job submit -- python jobs/evaluate.py --config s3://bucket/run.yaml``.

The exit code is that of ``sortase evaluate``.
"""

import sys

from sortase.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
