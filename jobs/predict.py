"""Label new data with a run's model: ``ray job submit -- python jobs/predict.py --config s3://bucket/run.yaml``.

The exit code is that of ``sortase predict``.
"""

import sys

from sortase.cli import main

if __name__ == "__main__":
    sys.exit(main(["predict", *sys.argv[1:]]))
