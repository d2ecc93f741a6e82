"""A Ray of a head without CPUs and of nodes with one each, every one a process that can be taken away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))
JOINED = "Ray runtime started"


class Nodes:
    """As many as were asked for: `lose` takes one away, and another one joins."""

    def __init__(self, number: int, stack: ExitStack):
        self.folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # paths of sockets are short
        self.environment = {**os.environ, "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5"}
        options = ("--port=0", "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--num-cpus=0")
        self.head, said = self._start("--head", f"--temp-dir={self.folder}/ray", *options)
        (self.address,) = set(re.findall(r"--address='(.+?)'", said))
        self.workers = [self.join() for _ in range(number)]
        stack.callback(self.close)

    def join(self) -> subprocess.Popen[str]:
        return self._start(f"--address={self.address}", "--num-cpus=1")[0]

    def _start(self, *options: str) -> tuple[subprocess.Popen[str], str]:
        """The process and what it said until it had started."""
        command = [RAY, "start", "--block", "--disable-usage-stats", *options]
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if "To terminate the Ray runtime" in line or (JOINED in line and "--head" not in options):
                return process, said
        raise RuntimeError(f"no node of Ray started: {said[-2000:]}")

    def lose(self, place: int, number: signal.Signals) -> None:
        """End a node, by SIGKILL with all its processes at once."""
        gone = self.workers[place]
        if number == signal.SIGKILL:
            os.killpg(gone.pid, number)
        else:
            gone.send_signal(number)
        gone.wait()
        self.workers[place] = self.join()

    def close(self) -> None:
        for process in (*self.workers, self.head):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
