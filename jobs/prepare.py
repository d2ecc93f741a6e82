"""Prepare a run's data: ``ray job submit -- python jobs/prepare.py --config s3://bucket/run.yaml``.

The exit code is that of ``sortase prepare``.
"""

import sys

from sortase.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
