"""Makes the worker processes of a Ray, which inherit where an attempt is to be held, tell their writes too."""

import os
import sys

if "HELD_BELOW" in os.environ and any(name.endswith("default_worker.py") for name in sys.orig_argv):
    import held_writes

    held_writes.install()
