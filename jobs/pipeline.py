"""All stages of a run: ``ray job submit -- python jobs/pipeline.py --config s3://bucket/run.yaml``.

The exit code is that of ``sortase run``.
"""

import sys

from sortase.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
