"""Holds an attempt at a run just before one of its writes, lets a later one finish, and lets it go on.

``python holder.py FIRST LATER [WHERE ...]`` takes two configurations of the same run, which may be one. For each write
of the first one whose name holds a WHERE (all without any) it prints a line of JSON, a `Play`. Held are all processes
of the attempt, as on a machine that is suspended. Children are forked before anything has started a thread.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import held_writes
import sortase.cli
from preloaded import load_all
from sortase import storage
from sortase.runs.folder import STAGES, RunFolder
from sortase.runs.made import belongs

WORKERS = str(Path(__file__).with_name("held_workers"))
COMPARED = re.compile(r"(data|model)/.*\.(arrow|parquet|safetensors|pkl)|predictions\.parquet|class_map\.json")
# What nobody takes for the later attempt's, and copies beside which what each attempt says for itself is read.
OF_THE_HELD = r"(.*/)?(logs/attempt-{0}/|(events|attempts)/{0:05d}[-.]).*|(.*/)?(run|stages/\w+)\.json|\.probe-.*"
LONGEST = 300.0  # seconds that an attempt of these sizes may take after it was held


@dataclass
class Play:
    """One write at which an attempt was held.

    ``codes`` are the exit codes of the held attempt, of the later one, and of a third (the later one's command once
    more) where the held one has changed what the later one left. ``noticed`` are files that it has changed and marks
    tell of, ``unnoticed`` those of which nothing tells; ``wrong`` is what is wrong at the end.
    """

    write: str
    codes: dict[str, int | str] = field(default_factory=dict)
    noticed: list[str] = field(default_factory=list)
    unnoticed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    words: str = ""


def child(work: Callable[[], int], log: str = os.devnull) -> int:
    """The process that does the work and ends with its result."""
    process = os.fork()
    if process:
        return process
    code = 99
    try:
        with Path(log).open("a") as out, redirect_stdout(out), redirect_stderr(out):
            code = work()
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        raise
    finally:
        os._exit(code)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def attempt(config: str, name: str, *options: str, **environment: str) -> Callable[[], int]:
    def work() -> int:
        os.environ |= environment
        if "HELD_BELOW" in environment:
            here = str(Path(__file__).parent)
            os.environ["PYTHONPATH"] = os.pathsep.join([WORKERS, here, os.environ.get("PYTHONPATH", "")])
            held_writes.install()
        return sortase.cli.main(["run", "-c", config, "--set", f"run.name={name}", *options])

    return work


def writes_of(config: str, output: str, place: Path) -> list[str]:
    """All writes of an undisturbed attempt, in order."""
    told = place / "writes"
    told.touch()
    below = storage.join(output, "counted")
    assert ended(child(attempt(config, "counted", HELD_BELOW=below, HELD_TOLD=str(told)))) == 0, "it does not run"
    return told.read_text().splitlines()


def held(config: str, output: str, play: Play, name: str, place: Path, between: Callable[[], None]) -> bool:
    """Hold an attempt before a write while ``between`` is done; False where it ends without that write."""
    told, go = place / "told", place / "go"
    for pipe in (told, go):
        os.mkfifo(pipe)
    listening, going = (os.open(pipe, os.O_RDWR) for pipe in (told, go))
    where = {"HELD_BELOW": storage.join(output, name), "HELD_AT": play.write, "HELD_TOLD": str(told)}
    own = {"SORTASE_CACHE": str(place / "cache-held"), "HELD_GO": str(go), **where}
    process = child(attempt(config, name, **own), str(place / "held.log"))
    over = os.pidfd_open(process)
    stopped: list[int] = []
    try:
        met = listening in select.select([listening, over], [], [])[0]
        if met:
            stopped = stop(process)
            between()
            os.write(going, b".")
            for each in stopped:
                os.kill(each, signal.SIGCONT)
        if not select.select([over], [], [], LONGEST)[0]:
            for each in [process, *descendants(process)]:
                os.kill(each, signal.SIGKILL)
        code = ended(process)
        play.codes["held"] = code if code != -signal.SIGKILL else f"still at work after {LONGEST:.0f} s"
        return met
    finally:
        for each in (listening, going, over):
            os.close(each)
        for each in stopped:
            with suppress(ProcessLookupError):  # it has ended
                os.kill(each, signal.SIGCONT)


def stop(process: int) -> list[int]:
    """Stop it and all that it has started, until no other one appears."""
    stopped: list[int] = []
    while new := [each for each in [process, *descendants(process)] if each not in stopped]:
        for each in new:
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
        stopped += new
    return stopped


def descendants(process: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    found, look = [], [process]
    while look:
        own = parents.get(look.pop(), [])
        found += own
        look += own
    return found


def contents(url: str) -> dict[str, str]:
    """What the results of a run hold."""
    found = storage.list_files(url)
    return {name: storage.sha256(storage.join(url, name), found[name]) for name in found if COMPARED.fullmatch(name)}


def everything(url: str) -> dict[str, str]:
    """All that lies in a run folder, and, in brackets, what is read of it whoever wrote last."""
    folder, found = RunFolder(url), {}
    for name, info in storage.list_files(url).items():
        version = info.version if storage.is_remote(url) else storage.sha256(storage.join(url, name), info)
        found[name] = f"{info.size} {version}"
    read = {"run": folder.described(), **{name: folder.kept(name) for name in ("training", "search")}}
    read |= {stage: folder.mark(stage) for stage in STAGES}
    return found | {f"({name})": json.dumps(value, sort_keys=True) for name, value in read.items()}


def difference(url: str, before: dict[str, str], number: int) -> tuple[list[str], list[str]]:
    """What has become another since: files that marks tell of, and those of which nothing tells."""
    after, folder = everything(url), RunFolder(url)
    own = re.compile(OF_THE_HELD.format(number))
    marks = {stage: folder.mark(stage) for stage in STAGES}
    damaged = {name for mark in marks.values() if mark and folder.damage(mark) for name in mark.get("files") or {}}
    told = {name for mark in marks.values() if mark for name in mark.get("files") or {}}
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    noticed, unnoticed = [], []
    for name in changed:
        stage = name.strip("()")
        if own.fullmatch(name) or _is_of_no_manifest(url, name, after):
            continue
        gone = stage in marks and marks[stage] is None
        other = name[0] != "(" and belongs(url, storage.join(url, *name.split("/"))) and name not in told
        (noticed if name in damaged or gone or other else unnoticed).append(name)
    return noticed, unnoticed


def _is_of_no_manifest(url: str, name: str, found: dict[str, str]) -> bool:
    """A file of a checkpoint that its manifest does not name."""
    step = re.fullmatch(r"((?:.*/)?checkpoints/step-\d+)/(\w+)/.*", name)
    if step is None:
        return False
    manifest = f"{step[1]}/manifest.json"
    return manifest not in found or storage.read_json(storage.join(url, *manifest.split("/")))["start"] != step[2]


def wrong_with(output: str, name: str) -> list[str]:
    """Files that differ from those of the undisturbed run, and marks that do not tell the truth."""
    folder, undisturbed = storage.join(output, name), contents(storage.join(output, "undisturbed"))
    own = contents(folder)
    marks = {stage: RunFolder(folder).mark(stage) for stage in STAGES}
    damaged = [stage for stage, mark in marks.items() if mark and RunFolder(folder).damage(mark)]
    return [n for n in undisturbed.keys() | own.keys() if undisturbed.get(n) != own.get(n)] + damaged


def in_child(work: Callable[[], Any]) -> Any:
    """What a child found, as JSON: this process keeps no client of a storage."""
    come, go = os.pipe()
    process = child(lambda: 0 if os.write(go, json.dumps(work()).encode()) else 1)
    os.close(go)
    with os.fdopen(come) as told:
        found = told.read()
    assert ended(process) == 0
    return json.loads(found)


@dataclass(frozen=True)
class Scenes:
    """An attempt with the configuration ``first`` is held, one with ``later`` finishes. ``place``: for logs, pipes, and
    the cache of the held one."""

    first: str
    later: str
    output: str
    place: Path

    def writes(self) -> list[str]:
        """All writes of an undisturbed attempt, in order, beside a run that is the later one's alone."""
        assert ended(child(attempt(self.later, "undisturbed"), self._log("undisturbed"))) == 0, "it does not run"
        return writes_of(self.first, self.output, self.place)

    def play(self, write: str, name: str) -> Play | None:
        """Hold at this write, in a run of this name; None where the attempt has not met it."""
        place, url, left = self.place / name, storage.join(self.output, name), dict[str, str]()
        place.mkdir()
        play = Play(write)
        replace = ["--replace"] if self.first != self.later else []

        def between() -> None:
            play.codes["later"] = ended(child(attempt(self.later, name, *replace), self._log(name, "later")))
            left.update(in_child(lambda: everything(url)))

        if not held(self.first, self.output, play, name, place, between):
            return None
        number = 1 if "attempts/00002.json" in left else 2  # of the one that was held, which may not have had one yet
        play.noticed, play.unnoticed = in_child(lambda: difference(url, left, number))
        if play.noticed or play.unnoticed:
            play.codes["third"] = ended(child(attempt(self.later, name), self._log(name, "third")))
        said = Path(self._log(name, "held")).read_text()
        play.wrong = in_child(lambda: wrong_with(self.output, name)) + judged(play, said)
        if play.wrong or play.unnoticed:
            play.words = "\n".join(f"{who}: {Path(self._log(name, who)).read_text()[-700:]}" for who in play.codes)
        return play

    def _log(self, *names: str) -> str:
        return f"{self.place.joinpath(*names)}.log"


def judged(play: Play, said: str) -> list[str]:
    """What is wrong with how they ended. One that was held before it had begun finds other results, one whose work was
    done is done."""
    bad = [f"{who} ended with {code}" for who, code in play.codes.items() if who != "held" and code != 0]
    if play.codes["held"] not in (0, 2 if "was finished with other inputs" in said else 0, 5):
        bad.append(f"the held one ended with {play.codes['held']}")
    if play.codes["held"] == 5 and "has taken over" not in said:
        bad.append("the held one does not say why it ends")
    if play.codes["held"] != 5 and play.noticed + play.unnoticed:
        bad.append("the held one does not know that it was taken over")
    return bad + (["Traceback"] if "Traceback" in said else [])


def main(first: str, later: str, *where: str) -> None:
    import yaml

    load_all()
    output = yaml.safe_load(Path(first).read_text())["run"]["output"]
    with tempfile.TemporaryDirectory(prefix="held-") as place:
        scenes, seen = Scenes(first, later, output, Path(place)), set[str]()
        for number, write in enumerate(scenes.writes()):
            if where and not any(part in write and (part not in seen and not seen.add(part)) for part in where):  # type: ignore
                continue
            if (found := scenes.play(write, f"held-{number}")) is not None:
                print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
