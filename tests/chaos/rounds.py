"""Rounds of faults at random moments, until the time is up: ``rounds.py SECONDS SEED [ROUND]``, tests/ on PYTHONPATH.

It prints a line of JSON for each round: what was done, how the drivers ended, and what is wrong after. The dice of a
round come from the seed and its number; with ROUND only that one is played. The moments are the same then, what the
machine does at them need not be.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faults
from doors import DOORS
from drivers import asked, ended, forked
from nodes import Nodes

import sortase.cli
from preloaded import load_all

HERE = Path(__file__).resolve().parent
BUCKET = "chaos"
KNOWN = set(range(7))  # exit codes
WEIGHTS = {"run": 6, "retrain": 5, "search": 1, "run on nodes": 1}  # the latter two take many times as long


class Server:
    """An S3 server in a process of its own, with faults on demand."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "s3_server.py"), BUCKET]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin and self._process.stdout
        self._say, self._hear = self._process.stdin, self._process.stdout
        os.environ["AWS_ENDPOINT_URL"] = self._hear.readline().strip()

    def __call__(self, method: str, *arguments: Any, **options: Any) -> None:
        print(json.dumps([method, arguments, options]), file=self._say, flush=True)
        if self._hear.readline() != "done\n":
            raise RuntimeError("the S3 server is gone")

    def close(self) -> None:
        self._say.close()
        self._process.wait()


@dataclass
class Scene:
    """One door, in a place of its own."""

    number: int
    kind: str
    dice: random.Random
    place: Path
    server: Server
    lasts: float = 0.0
    remote: bool = False
    nodes: Any = None
    full: Path | None = None
    drivers: int = 0
    door: Any = field(init=False)

    def __post_init__(self) -> None:
        for name in ("tmp", "cache", "out"):
            (self.place / name).mkdir(parents=True)
        root = f"s3://{BUCKET}/{self.place.name}" if self.remote else str(self.full or self.place / "out")
        self.door = DOORS[self.kind](root, self.place)
        asked(self.door.lay, self.place / "laid.log")

    def start(self, before: Callable[[], None] = lambda: None) -> int:
        self.drivers += 1

        def work() -> int:
            before()
            if self.nodes is not None:
                os.environ["RAY_ADDRESS"] = self.nodes.address
            return sortase.cli.main(self.door.command)

        return forked(work, self.place / f"driver-{self.drivers}.log", self.place)

    def look(self) -> dict[str, str]:
        return dict(asked(self.door.contents, self.place / "looked.log"))

    def untrue(self) -> list[str]:
        return list(asked(self.door.untrue, self.place / "looked.log"))

    def difference(self, undisturbed: dict[str, str]) -> list[str]:
        """What an end with exit code 0 does not allow."""
        own = self.look()
        names = sorted(undisturbed.keys() | own.keys())
        return [f"other or missing: {n}" for n in names if undisturbed.get(n) != own.get(n)] + self.untrue()

    def spoken(self, codes: list[int | str]) -> list[str]:
        """Drivers that ended in another way than the words of the design."""
        bad = []
        for number, code in enumerate(codes, 1):
            said = (self.place / f"driver-{number}.log").read_text(errors="replace")
            if code not in KNOWN and code not in (-signal.SIGKILL, -signal.SIGTERM):
                bad.append(f"driver {number} ended with {code}")
            if "Traceback" in said:
                bad.append(f"driver {number} shows a traceback")
            if code in KNOWN - {0} and "sortase " not in said and "cancelled" not in said:
                bad.append(f"driver {number} ended with {code} and without a word")
        return bad

    def left(self) -> list[str]:
        found = [path.name for path in (self.place / "tmp").iterdir() if path.name != "ray"]  # Ray keeps its logs
        return [f"left in the temporary folder: {name}" for name in found]


def play(scene: Scene, fault: str, undisturbed: dict[str, str]) -> dict[str, Any]:
    """One fault, then the same command once more."""
    work = {**faults.ANYWHERE, **faults.FOLDER, **faults.NODES, **faults.S3}[fault]
    codes = work(scene)
    wrong = scene.difference(undisturbed) if 0 in codes else []
    after = wrong[:]
    then = ended(scene.start())
    wrong += scene.spoken([*codes, then])
    if then == 0:
        wrong += [each for each in scene.difference(undisturbed) if each not in after]
    elif then not in KNOWN:
        wrong.append(f"the next call ended with {then}")
    else:
        wrong.append(f"the next call, undisturbed, ended with {then}")
    wrong += scene.left()
    how = "done" if 0 in codes else "repaired by the next call" if then == 0 else "refused"
    return {"codes": codes, "then": then, "how": how, "wrong": wrong}


class Suite:
    def __init__(self, seconds: float, seed: int, only: int | None, work: Path, stack: ExitStack):
        self.seconds, self.seed, self.only = seconds, seed, only
        self.work, self.server = work, Server()
        stack.callback(self.server.close)
        self.full = mounted(work / "full", stack)
        self.stack, self._nodes = stack, None
        self.known: dict[tuple[str, bool], tuple[dict[str, str], float]] = {}

    def nodes(self, kind: str) -> Any:
        """Started with the first round that needs them."""
        if kind == "run on nodes" and self._nodes is None:
            self._nodes = Nodes(2, self.stack)
        return self._nodes if kind == "run on nodes" else None

    def undisturbed(self, kind: str, remote: bool) -> tuple[dict[str, str], float]:
        """What an undisturbed call makes, and how long it takes."""
        if (kind, remote) not in self.known:
            place = self.work / f"u{len(self.known)}"
            scene = Scene(0, kind, random.Random(), place, self.server, remote=remote, nodes=self.nodes(kind))
            clock = time.monotonic()
            code = ended(scene.start())
            lasts = time.monotonic() - clock
            if code != 0 or (wrong := scene.untrue() + scene.left()):
                log = (place / "driver-1.log").read_text()
                raise RuntimeError(f"an undisturbed {kind} ended with {code}: {wrong if code == 0 else log[-3000:]}")
            self.known[kind, remote] = scene.look(), lasts
        return self.known[kind, remote]

    def run(self) -> None:
        until, number = time.monotonic() + self.seconds, self.only or 1
        self.one(number)
        while self.only is None and time.monotonic() < until:
            number += 1
            self.one(number)

    def one(self, number: int) -> None:
        dice = random.Random(f"{self.seed}-{number}")
        (kind,), remote = dice.choices(tuple(WEIGHTS), tuple(WEIGHTS.values())), dice.random() < 0.4
        choice = [*faults.ANYWHERE, *(faults.S3 if remote else faults.FOLDER if self.full else ())]
        fault = dice.choice(choice) if kind != "run on nodes" else "node removed"
        undisturbed, lasts = self.undisturbed(kind, remote)
        place = self.work / f"{number}"
        full = None
        if fault in faults.FOLDER:
            assert self.full is not None
            full = self.full / f"{number}"
            full.mkdir()
        scene = Scene(number, kind, dice, place, self.server, lasts, remote, self.nodes(kind), full)
        clock = time.monotonic()
        told = {"round": number, "door": kind, "on": "S3" if remote else "a folder", "fault": fault}
        told |= play(scene, fault, undisturbed)
        told["seconds"] = round(time.monotonic() - clock, 1)
        if told["wrong"]:
            told["words"] = [path.read_text(errors="replace")[-1500:] for path in sorted(place.glob("driver-*.log"))]
        print(json.dumps(told), flush=True)
        shutil.rmtree(place)
        if full is not None:
            shutil.rmtree(full)


def mounted(folder: Path, stack: ExitStack) -> Path | None:
    """A file system of its own; None where this user may not mount one."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2**28}", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        print("no full disk: a file system can be mounted by root only", file=sys.stderr)
        return None
    stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
    return folder


def main(seconds: str, seed: str, only: str = "") -> None:
    keys = {
        "RAY_AUTH_MODE": "disabled",
        "AWS_ACCESS_KEY_ID": "chaos",
        "AWS_SECRET_ACCESS_KEY": "chaos",
        "AWS_REGION": "us-east-1",
    }
    os.environ |= {**keys, "HF_HUB_OFFLINE": "1", "SORTASE_PROGRESS": "0", "OMP_NUM_THREADS": "1"}
    load_all()
    work = Path(tempfile.mkdtemp(prefix="chaos-"))  # a TemporaryDirectory would be removed by the first child that ends
    try:
        with ExitStack() as stack:
            Suite(float(seconds), int(seed), int(only) if only else None, work, stack).run()
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
