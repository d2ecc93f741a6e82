"""Train a run's model: ``ray job submit -- python jobs/train.py --config s3://bucket/run.yaml``.

The exit code is that of ``sortase train``.
"""

import sys

from sortase.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
