"""Search a run's hyperparameters: ``ray job submit -- python jobs/tune.py --config s3://bucket/run.yaml``.

The exit code is that of ``sortase tune``.
"""

import sys

from sortase.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
