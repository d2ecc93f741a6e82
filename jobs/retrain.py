"""Train again on new data, judge, promote: ``ray job submit -- python jobs/retrain.py --config s3://bucket/run.yaml``.

The exit code is that of ``sortase retrain``.
"""

import sys

from sortase.cli import main

if __name__ == "__main__":
    sys.exit(main(["retrain", *sys.argv[1:]]))
